"""The built-in trays: many objects on one table, with exact masks and counts."""

from __future__ import annotations

import numpy as np
import pytest

from redoseg.data.shapes import HELD_OUT_START, generate, trays
from redoseg.data.trays import FEWEST, MOST
from redoseg.images.clean import count_parts


def test_the_objects_are_apart_so_that_parts_of_the_mask_are_their_number() -> None:
    _, numbers = trays(24, 64, seed=4)
    counts = numbers.max((1, 2))
    assert (counts.min() >= FEWEST, counts.max() <= MOST, len(set(counts)) > 5) == (True, True, True)
    for number, count in zip(numbers, counts, strict=True):
        assert count_parts(number > 0) == (count, 0)
        areas = np.bincount(number.ravel(), minlength=count + 1)[1:]
        assert areas.min() > 0.2 * areas.max()  # none is a crumb


def test_the_table_is_that_of_the_seed_and_the_light_changes() -> None:
    images, labels = generate("tray", 40, 32, seed=1)
    held_out, of_held_out = generate("tray", 40, 32, seed=1, start=HELD_OUT_START)
    other, of_other = generate("tray", 40, 32, seed=2)

    def table(pictures: np.ndarray, masks: np.ndarray) -> np.ndarray:
        seen = np.where(masks[..., None] > 0, np.nan, pictures.astype(float))
        seen = seen / np.nanmean(seen, (1, 2), keepdims=True)  # without its light, about
        return np.nanmedian(seen, 0)

    own = table(images, labels)
    assert np.abs(own - table(held_out, of_held_out)).mean() < 0.02
    assert np.abs(own - table(other, of_other)).mean() > 0.06
    light = np.array([image[label == 0].mean() for image, label in zip(images, labels, strict=True)])
    assert light.max() > 1.4 * light.min()


def test_numbers_and_labels_agree_at_every_size() -> None:
    for size in (32, 64):
        images, numbers = trays(3, size, seed=6, start=9)
        same, labels = generate("tray", 3, size, seed=6, start=9)
        assert np.array_equal(images, same)
        assert np.array_equal(labels, numbers > 0)
    assert np.array_equal(trays(3, 32, seed=6, start=9)[1].max((1, 2)), numbers.max((1, 2)))


@pytest.mark.parametrize("seed", [0, 3])
def test_every_mask_is_a_fair_part_of_its_tray(seed: int) -> None:
    share = (trays(24, 32, seed=seed)[1] > 0).mean((1, 2))
    assert 0.03 < share.min() < share.max() < 0.4
