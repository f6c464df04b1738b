"""How far two sets of images are apart in texture: the sliced Wasserstein distance of patches of Laplacian pyramids.

The measure of Karras et al. (ICLR 2018, section 5), which needs no pre-trained network. It differs in two ways. Patches
may lie within a mask. And both sets are put on the scale of the first, where the paper puts each on its own: a set of
one wrong colour is then as far away as it looks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SMALLEST = 16  # side of the last level of the pyramid [pixels]
PATCH = 7  # side of a patch [pixels]
PATCHES = 64  # of an image, on each level
PROJECTIONS = 512

Floats = NDArray[np.float32]
Images = NDArray[np.uint8]
Masks = NDArray[np.bool_]


def laplacian_pyramid(images: Images) -> list[Floats]:
    """Images (N, S, S, 3), 0 to 255, as differences to what is left at half the side, to SMALLEST: finest first.

    The last level is the image itself at that side. S is SMALLEST times a power of two.
    """
    current, levels = images.astype(np.float32), []
    while current.shape[1] > SMALLEST:
        smaller = _smoothed(current)[:, ::2, ::2]
        spread = np.zeros_like(current)
        spread[:, ::2, ::2] = 4 * smaller
        levels.append(current - _smoothed(spread))
        current = smaller
    return [*levels, current]


def _smoothed(images: Floats) -> Floats:
    """By the binomial filter 1 4 6 4 1, which mirrors at the border."""
    for axis in (1, 2):
        width = [(2, 2) if a == axis else (0, 0) for a in range(4)]
        wide, length = np.pad(images, width, mode="reflect"), images.shape[axis]
        shifted = (wide.take(range(i, i + length), axis) for i in range(5))
        images = np.zeros_like(images)
        for weight, part in zip((1, 4, 6, 4, 1), shifted, strict=True):
            images += np.float32(weight / 16) * part
    return images


def patches_of(images: Images, masks: Masks | None, seed: int, each: int = PATCHES) -> list[Floats]:
    """Patches of each level of the pyramid, (M, PATCH, PATCH, 3), around random pixels: `each` of an image.

    With `masks` (N, S, S) around pixels of which at least half is in the mask. An image that has none on a level is
    left out there. Which pixels these are depends on masks and seed alone, not on the images.
    """
    result = []
    for number, level in enumerate(laplacian_pyramid(images)):
        rng = np.random.default_rng([seed, number])
        count, side = level.shape[:2]
        inside = np.ones((count, side, side), bool)
        if masks is not None:
            step = masks.shape[1] // side
            inside = masks.reshape(count, side, step, side, step).mean((2, 4)) >= 0.5
        wide = np.pad(level, ((0, 0), (PATCH // 2,) * 2, (PATCH // 2,) * 2, (0, 0)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(wide, (PATCH, PATCH), (1, 2))
        found = []
        for i in range(count):
            places = np.flatnonzero(inside[i])
            if len(places):
                y, x = np.unravel_index(rng.choice(places, each), (side, side))
                found.append(windows[i, y, x].transpose(0, 2, 3, 1))
        result.append(np.concatenate(found) if found else np.empty((0, PATCH, PATCH, 3), np.float32))
    return result


def texture_distance(real: Sequence[Floats], other: Sequence[Floats], seed: int = 0) -> float:
    """The mean over the levels of the sliced Wasserstein distance of two sets of patches, times 1,000.

    Both sets are put on the scale of `real`, a channel each. Of the larger set as many patches count as the smaller
    has.
    Raises ValueError where a set has no patches on a level.
    """
    distances = []
    for number, (first, second) in enumerate(zip(real, other, strict=True)):
        rng = np.random.default_rng([seed, number])
        count = min(len(first), len(second))
        if not count:
            raise ValueError("no patch to compare")
        mean, spread = first.mean((0, 1, 2)), first.std((0, 1, 2)) + np.float32(1e-3)
        a, b = (
            (rng.permutation(patches)[:count].reshape(count, PATCH, PATCH, 3) - mean) / spread
            for patches in (first, second)
        )
        directions = rng.standard_normal((a[0].size, PROJECTIONS), dtype=np.float32)
        directions /= np.linalg.norm(directions, axis=0)
        apart = np.sort(a.reshape(count, -1) @ directions, 0) - np.sort(b.reshape(count, -1) @ directions, 0)
        distances.append(float(np.abs(apart).mean()))
    return 1000 * float(np.mean(distances))


def shuffled(images: Images, masks: Masks, seed: int = 0) -> Images:
    """The same pixels within each mask (N, S, S), in another order: the colours without the texture."""
    result, rng = images.copy(), np.random.default_rng(seed)
    for image, mask in zip(result, masks, strict=True):
        image[mask] = rng.permutation(image[mask])
    return result


def mean_coloured(images: Images, masks: Masks) -> Images:
    """Each image with one colour within its mask (N, S, S): the mean there."""
    result = images.copy()
    for image, mask in zip(result, masks, strict=True):
        if mask.any():
            image[mask] = image[mask].mean(0).round()
    return result
