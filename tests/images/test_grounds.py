"""Grounds: an object is filled from around it, and an object on another ground keeps its pixels."""

from __future__ import annotations

import numpy as np

from redoseg.images.grounds import box_mean, on_ground, own_ground, plain_ground


def disc(side: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.hypot(x, y) < radius


def test_an_object_is_filled_from_around_it() -> None:
    mask = disc(32, 8)
    ground = np.where(np.arange(32) < 16, 200.0, 40.0)[None, :, None] * np.array([0, 1, 0])
    image = np.where(mask[..., None], (250, 0, 0), np.broadcast_to(ground, (32, 32, 3))).astype(np.float32)
    whole = own_ground(image, mask)
    assert np.array_equal(whole[:4], image[:4])
    assert whole[..., 0].max() == 0  # nothing of the red is left
    assert whole[16, 9, 1] > 150  # near pixels first: the left side is like the left ground
    assert whole[16, 22, 1] < 90


def test_an_odd_size_and_an_image_that_is_all_object() -> None:
    image = np.random.default_rng(0).uniform(0, 255, (13, 7, 3)).astype(np.float32)
    mask = np.zeros((13, 7), bool)
    mask[5:8, 2:5] = True
    assert own_ground(image, mask).shape == image.shape
    assert np.array_equal(own_ground(image, mask)[0], image[0])
    whole = own_ground(image, np.ones((13, 7), bool))
    assert np.allclose(whole, image.mean((0, 1)), atol=1e-3)


def test_an_object_on_a_plain_ground() -> None:
    mask = disc(32, 8)
    image = np.full((32, 32, 3), 77, np.float32)
    ground = plain_ground((250, 10, 120), 32, 32, np.random.default_rng(0))
    assert np.allclose(ground.mean((0, 1)), (248, 10, 120), atol=4)
    made = on_ground(image, box_mean(mask.astype(np.float32), 1), ground)
    assert np.array_equal(made[disc(32, 6)], image[disc(32, 6)])
    assert np.array_equal(made[~disc(32, 11)], ground[~disc(32, 11)])
