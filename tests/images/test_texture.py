"""The sliced Wasserstein distance of patches separates textures, and sees only what lies in the masks."""

from __future__ import annotations

import numpy as np
import pytest

from redoseg.images.texture import (
    PATCHES,
    SMALLEST,
    Floats,
    Images,
    _smoothed,
    laplacian_pyramid,
    mean_coloured,
    patches_of,
    shuffled,
    texture_distance,
)

SIDE = 64
MASKS = np.zeros((6, SIDE, SIDE), bool)
MASKS[:, 16:48, 16:48] = True


def stripes(period: float, seed: int = 0, count: int = 6) -> Images:
    """Stripes of a random phase and some noise."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 6, (count, 1, 1))
    wave = 128 + 60 * np.sin(2 * np.pi * np.arange(SIDE)[None, None] / period + phase)
    shown = np.broadcast_to(wave, (count, SIDE, SIDE)) + rng.normal(0, 8, (count, SIDE, SIDE))
    return np.repeat(shown[..., None], 3, 3).clip(0, 255).astype(np.uint8)


def distance(first: Images, second: Images, masks: bool = False) -> float:
    inside = MASKS if masks else None
    return texture_distance(patches_of(first, inside, 0), patches_of(second, inside, 1))


def test_the_pyramid_adds_up() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3)).astype(np.uint8)
    *finer, whole = laplacian_pyramid(images)
    assert [level.shape[1] for level in (*finer, whole)] == [64, 32, SMALLEST]
    for level in reversed(finer):
        spread: Floats = np.zeros_like(level)
        spread[:, ::2, ::2] = 4 * whole
        whole = level + _smoothed(spread)
    assert np.abs(whole - images).max() < 1e-2


def test_a_flat_image_has_no_detail() -> None:
    for level in laplacian_pyramid(np.full((1, SIDE, SIDE, 3), 90, np.uint8))[:-1]:
        assert np.abs(level).max() < 1e-2


def test_the_more_alike_the_nearer() -> None:
    real = stripes(8)
    patches = patches_of(real, None, 0)
    assert texture_distance(patches, patches) == pytest.approx(0, abs=1e-3)
    same, near, far = (distance(real, stripes(period, 1)) for period in (8, 7, 3))
    assert same < near < far
    darker = stripes(8, 1) // 2
    assert distance(real, darker) > 2 * same  # on one scale, so that a wrong colour counts


@pytest.mark.parametrize("make", [shuffled, mean_coloured])
def test_colours_alone_are_not_the_texture(make: object) -> None:
    changed = make(stripes(8, 1), MASKS)  # type: ignore[operator]
    assert distance(stripes(8), changed, masks=True) > 3 * distance(stripes(8), stripes(8, 1), masks=True)
    assert np.array_equal(changed[~MASKS], stripes(8, 1)[~MASKS])


def test_only_what_is_in_the_masks_is_seen() -> None:
    real, other = stripes(8), stripes(8, 1)
    other[:, :, -4:] = 255
    patches = patches_of(other, MASKS, 1)
    plain = patches_of(stripes(8, 1), MASKS, 1)
    assert all(len(level) == 6 * PATCHES for level in patches)
    assert np.array_equal(patches[0], plain[0])  # the same places, far from what was changed
    assert distance(real, other) > distance(real, other, masks=True)


def test_an_image_without_an_object_is_left_out() -> None:
    masks = MASKS.copy()
    masks[2:] = False
    assert len(patches_of(stripes(8), masks, 0)[0]) == 2 * PATCHES
    masks[:] = False
    with pytest.raises(ValueError, match="no patch"):
        texture_distance(patches_of(stripes(8), MASKS, 0), patches_of(stripes(8), masks, 0))


def test_what_they_are_compared_with() -> None:
    images = stripes(8)
    moved, flat = shuffled(images, MASKS), mean_coloured(images, MASKS)
    assert not np.array_equal(moved, images)
    assert np.array_equal(np.sort(moved[0][MASKS[0]], 0), np.sort(images[0][MASKS[0]], 0))
    assert len(np.unique(flat[0][MASKS[0]], axis=0)) == 1
    assert abs(flat[0][20, 20, 0] - images[0][MASKS[0]][:, 0].mean()) <= 0.5
