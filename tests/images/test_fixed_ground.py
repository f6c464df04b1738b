"""What differs from a ground that all pictures share, whatever their light."""

from __future__ import annotations

import numpy as np
import pytest

from redoseg.data.shapes import generate
from redoseg.images.clean import count_parts
from redoseg.images.fixed_ground import FixedGround
from redoseg.metrics import score


@pytest.mark.every(3)
@pytest.mark.parametrize("seed", [0, 8])
def test_trays(seed: int) -> None:
    images, labels = generate("tray", 40, 64, seed=seed)
    ground = FixedGround.of(images)
    assert ground.explained > 0.97
    found = ground.objects(images)
    assert score(found, labels.astype(np.int8)).iou > 0.88
    counted, there = (np.array([count_parts(mask > 0)[0] for mask in masks]) for masks in (found, labels))
    assert np.mean(np.abs(counted - there) / there) < 0.05


def test_pictures_without_a_common_ground() -> None:
    for level in ("leaves", "beetles"):
        assert FixedGround.of(generate(level, 24, 32)[0]).explained < 0.8


def test_light_alone_is_no_object() -> None:
    """A gain, a gradient and a cast of colour on an empty table, with noise of a camera."""
    rng = np.random.default_rng(0)
    table = rng.uniform(60, 160, (8, 8, 3)).repeat(4, 0).repeat(4, 1)
    x = np.linspace(-1, 1, 32)[None, :, None]
    pictures = np.stack(
        [
            table * rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3) * (1 + rng.uniform(-0.3, 0.3) * x)
            + rng.normal(0, 2, table.shape)
            for _ in range(24)
        ]
    )
    pictures = np.rint(pictures.clip(0, 255)).astype(np.uint8)
    ground = FixedGround.of(pictures)
    assert ground.explained > 0.97
    assert ground.distance(pictures).mean() < 1.2
    with_object = pictures[0].copy()
    with_object[10:18, 12:20] = 255 - with_object[10:18, 12:20]
    found = ground.objects(with_object[None])[0]
    assert found[10:18, 12:20].mean() > 0.9
    assert found.mean() < 0.09


def test_a_plain_table_and_black_pictures_are_no_mistake() -> None:
    white = np.full((12, 16, 16, 3), 240, np.uint8)
    white[3, 4:9, 4:9] = 30
    found = FixedGround.of(white).objects(white)
    assert found[3, 5:8, 5:8].all()
    assert found.sum() <= 25
    black = np.zeros((12, 16, 16, 3), np.uint8)
    assert not FixedGround.of(black).objects(black).any()
