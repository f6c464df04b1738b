"""Masks of films: flicker goes down, edges of what moves stay, cuts part what belongs to two scenes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from redoseg.inference.segmenter import Seen
from redoseg.inference.steady import Flicker, Shift, shift_between, steadied


def textured(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Ground with detail, (side, side, 3)."""
    coarse = Image.fromarray(rng.integers(0, 255, (side // 4, side // 4, 3), np.uint8))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))


def panned(count: int, seed: int = 0, noise: float = 0.35) -> tuple[list[Seen], list[NDArray[np.bool_]]]:
    """What a network that errs sees of a disc under a moving camera, and the disc."""
    rng = np.random.default_rng(seed)
    ground = textured(rng, 200)
    rows, columns = np.mgrid[:64, :64]
    seen, truth = [], []
    for number in range(count):
        x, y = 2 * number, number
        disc = (columns - 40 + x // 2) ** 2 + (rows - 30 + y // 2) ** 2 < 14**2  # moves more slowly than the ground
        image = ground[y : y + 64, x : x + 64].astype(np.float32)
        image[disc] = (240, 220, 40)
        image = image * (0.9 + 0.2 * rng.random()) + rng.normal(0, 6, image.shape)
        mask = (disc * 0.8 + 0.1 + rng.normal(0, noise, disc.shape)).clip(0, 1).astype(np.float32)
        seen.append(Seen(image.clip(0, 255).astype(np.uint8), mask, 1.0))
        truth.append(disc)
    return seen, truth


def judged(seen: list[Seen], truth: list[NDArray[np.bool_]], steady: int) -> tuple[float, float]:
    """How well neighbouring masks agree, and the mean IoU with the truth."""
    flicker, ious = Flicker(), []
    for one, disc in zip(steadied(enumerate_items(seen), steady), truth, strict=True):
        mask = one.seen.mask > 0.5
        flicker.take(mask, one.shift)
        ious.append((mask & disc).sum() / (mask | disc).sum())
    assert flicker.agreement is not None
    return flicker.agreement, float(np.mean(ious))


def enumerate_items(seen: list[Seen]) -> list[tuple[int, Seen]]:
    return [(number, one) for number, one in enumerate(seen, 1)]


def test_flicker_goes_down_and_masks_do_not_get_worse() -> None:
    seen, truth = panned(20)
    each, steady = judged(seen, truth, 0), judged(seen, truth, 3)
    assert steady[0] > each[0] + 0.05
    assert steady[1] > each[1] + 0.02


def test_without_noise_the_object_that_moves_is_not_smeared() -> None:
    seen, truth = panned(20, noise=0)
    assert judged(seen, truth, 3)[1] > 0.95


def test_the_camera_is_found() -> None:
    ground = textured(np.random.default_rng(1), 128)[..., 0].astype(np.float32)
    x, y = shift_between(ground[20:84, 20:84], ground[17:81, 25:89])
    assert (x, y) == pytest.approx((-5, 3), abs=0.3)


def test_a_cut_resets_the_masks() -> None:
    first, _ = panned(5, seed=1, noise=0)
    second, _ = panned(5, seed=2, noise=0)
    first = [Seen(one.reduced, np.zeros_like(one.mask), 1.0) for one in first]
    second = [Seen(255 - one.reduced[::-1, ::-1], np.ones_like(one.mask), 1.0) for one in second]
    given = list(steadied(enumerate_items([*first, *second]), 3))
    assert [one.shift is None for one in given] == [True, *[False] * 4, True, *[False] * 4]
    assert all(not one.seen.mask.any() for one in given[:5])
    assert all((one.seen.mask > 0.999).all() for one in given[5:])
    assert [one.item for one in given] == list(range(1, 11))


def test_flicker_counts_what_the_camera_moved_as_steady() -> None:
    flicker = Flicker()
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:40] = True
    flicker.take(mask, None)
    flicker.take(np.roll(mask, 6, 1), Shift(6 / 60, 0))
    assert flicker.agreement == pytest.approx(1)
    flicker.take(np.roll(mask, 11, 1), Shift(0, 0))
    assert flicker.agreement == pytest.approx((1 + 15 / 25) / 2)
