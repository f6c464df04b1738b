"""Objects on other grounds: plain colours, and the grounds of other images with their own object filled in.

Colours are float32 from 0 to 255.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]

# The colours of plain grounds [RGB, 0 to 255]: studio, paper, table, card, screen, cloth.
PLAIN: dict[str, tuple[int, int, int]] = {
    "white": (250, 250, 250),
    "pale grey": (215, 215, 215),
    "wood": (140, 100, 65),
    "grey": (128, 128, 128),
    "blue": (60, 90, 170),
    "black": (12, 12, 12),
}
OTHERS = "other images"  # the name of grounds that are those of other images
NOISE = 3.0  # standard deviation of the noise on a plain ground [grey levels of 255]


def on_ground(image: Floats, alpha: Floats, ground: Floats) -> Floats:
    """The object of an image (H, W, 3) on a ground (H, W, 3); `alpha` (H, W) is 1 where the object is."""
    composed: Floats = ground + alpha[..., None] * (image - ground)
    return composed


def plain_ground(colour: tuple[int, int, int], height: int, width: int, rng: np.random.Generator) -> Floats:
    """One colour with a little noise, (height, width, 3), 0 to 255."""
    noise = rng.normal(0, NOISE, (height, width, 1)) + rng.normal(0, NOISE / 3, (height, width, 3))
    return (np.array(colour, np.float32) + noise).clip(0, 255).astype(np.float32)


def own_ground(image: Floats, mask: NDArray[np.bool_]) -> Floats:
    """The ground of an image (H, W, 3) whose object, by its mask (H, W), is filled from around it.

    The mask is widened by two pixels first, so that the object's rim does not colour the filling.
    """
    known = box_mean(mask.astype(np.float32), 2) == 0
    if not known.any():
        return np.broadcast_to(image.mean((0, 1)), image.shape).astype(np.float32)
    return np.where(known[..., None], image, _filled(image, known.astype(np.float32)))


def _filled(colours: Floats, weights: Floats) -> Floats:
    """Colours (h, w, 3) where weights (h, w) are 1, elsewhere means of what is near: a pyramid, down and up again."""
    height, width = weights.shape
    if min(height, width) == 1:
        total = weights.sum()
        return np.broadcast_to((colours * weights[..., None]).sum((0, 1)) / max(total, 1e-6), colours.shape)
    size = (max(1, width // 2), max(1, height // 2))
    planes = np.concatenate([colours * weights[..., None], weights[..., None]], -1)
    small = np.stack([_resized(planes[..., c], size) for c in range(4)], -1)
    share = small[..., 3:]
    known = (share > 1e-3).astype(np.float32)
    mean = small[..., :3] / np.maximum(share, 1e-6)
    coarse = np.where(known > 0, mean, _filled((mean * known).astype(np.float32), known[..., 0]))
    large = np.stack([_resized(coarse[..., c], (width, height)) for c in range(3)], -1)
    return np.where(weights[..., None] > 0, colours, large)


def _resized(plane: Floats, size: tuple[int, int]) -> Floats:
    """A plane (h, w) at `size` (width, height), a mean where it becomes smaller."""
    kind = Image.Resampling.BOX if size[0] < plane.shape[1] else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize(size, kind))


def box_mean(plane: Floats, radius: int) -> Floats:
    """Means of a plane (H, W) over windows of 2 * radius + 1 pixels a side, edges repeated."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(plane, radius, mode="edge"), (2 * radius + 1,) * 2)
    mean: Floats = windows.mean((-1, -2), dtype=np.float32)
    return mean
