"""A soft mask brought to a photograph's own size with the photograph as its guide.

`guided_upsample` moves the mask's edges to the photograph's; `grabcut_upsample` first decides again, by colour, what
belongs to the object.

The guided filter (He, Sun and Tang, TPAMI 2013) in its fast form (He and Sun, arXiv 1505.00996): at the network's
resolution the mask is fitted, within a window about each pixel, by a linear function of the three colours; the
functions are enlarged, which are smooth, and applied to the photograph, which is sharp. OpenCV has it only in its
contrib build, which cannot stand beside the other builds; here it is numpy and Pillow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from redoseg.images.grabcut import grabcut_from

WINDOW = 1 / 16  # half a window's side, as a share of the mask's; chosen on dev pictures: docs/segmenting.md
EPSILON = 1e-3  # what is added to the colours' variances, of colours from 0 to 1: below it they count as noise
CUT_SIDE = 256  # of a picture in GrabCut, the shorter [pixels]: the weight of a boundary there grows with its pixels
CUT_LONGEST = 8 * CUT_SIDE  # of its longer side, so that a strip does not take all memory
CUT_ROUNDS = 2  # of GrabCut; 5 gave 0.1 to 0.4 points of IoU more on dev pictures of three sets
CUT_WINDOW = 1 / 32  # WINDOW for masks that GrabCut gave; of 1/128 to 1/16 none is much better: docs/segmenting.md
_ROWS = 256  # rows of the photograph that are made at a time, so that memory does not follow the functions' number

Floats = NDArray[np.float32]


def bilinear_upsample(mask: Floats, size: tuple[int, int]) -> Floats:
    """A soft mask (h, w) brought to `size` (width, height) [pixels] by bilinear interpolation: (H, W)."""
    if mask.shape == size[::-1]:
        return mask
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)


def grabcut_upsample(mask: Floats, reduced: NDArray[np.uint8], image: Image.Image) -> Floats:
    """What GrabCut makes of `image` (RGB) from a soft mask (h, w), at the image's size: (H, W), 0 to 1.

    It works at `CUT_SIDE`, or less for strips, and starts from the guided mask; `reduced` as there. What comes of a
    larger image is guided again. A mask that is all object or all ground stays so. Raises MissingError without OpenCV.
    """
    scale = min(CUT_SIDE / min(image.size), CUT_LONGEST / max(image.size))
    small = image
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in image.size)
        small = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    side = round(min(image.size) * scale)
    colours = np.asarray(small)
    found = grabcut_from(colours, guided_upsample(mask, reduced, small) > 0.5, CUT_ROUNDS, side).astype(np.float32)
    return found if small is image else guided_upsample(found, colours, image, CUT_WINDOW)


def guided_upsample(mask: Floats, reduced: NDArray[np.uint8], image: Image.Image, window: float = WINDOW) -> Floats:
    """A soft mask (h, w) brought to the size of `image` (RGB), whose edges it takes: (H, W), 0 to 1.

    `reduced` is the image at the mask's size, uint8 (h, w, 3), `window` half a window's side as a share of the
    mask's. Masks that sum to one do so afterwards, except for what is cut off below 0 and above 1.
    """
    width, height = image.size
    functions = _fitted(mask, reduced.astype(np.float32) * np.float32(1 / 255), window)
    # a band of rows at a time, so that the functions are never there at the photograph's whole size
    functions = [np.concatenate([plane, plane[-1:]]) for plane in functions]  # every row has one below it
    above, share = _places(len(mask), height)
    if min(image.size) >= 2 * min(mask.shape):  # where there are pixels to spare
        # averaged with its neighbours (1 2 1 / 4 each way), a pixel's noise does not decide, and crumbs are fewer
        image = image.filter(ImageFilter.BoxBlur(0.5))
    colours = np.asarray(image)
    result = np.empty((height, width), np.float32)
    for start in range(0, height, _ROWS):
        rows = slice(start, start + _ROWS)
        top, part = above[rows], share[rows, None]
        *slopes, total = (_across(plane[top] + (plane[top + 1] - plane[top]) * part, width) for plane in functions)
        for channel, slope in enumerate(slopes):
            total += slope * (colours[rows, :, channel] * np.float32(1 / 255))
        result[rows] = total.clip(0, 1)
    return result


def _across(rows: Floats, width: int) -> Floats:
    """Rows (k, w) of any numbers enlarged to (k, width)."""
    return np.array(Image.fromarray(rows).resize((width, len(rows)), Image.Resampling.BILINEAR))


def _places(small: int, large: int) -> tuple[NDArray[np.intp], Floats]:
    """For each of `large` rows the row above it among `small`, and how far below that it lies, 0 to 1."""
    places = ((np.arange(large) + 0.5) * (small / large) - 0.5).clip(0, small - 1)
    above = places.astype(np.intp)
    return above, (places - above).astype(np.float32)


def _fitted(mask: Floats, colours: Floats, window: float) -> list[Floats]:
    """Planes (h, w) of the three slopes and the offset of mask = slopes . colours + offset, averaged over windows."""
    radius = max(1, round(min(mask.shape) * window))
    red, green, blue = channels = np.ascontiguousarray(colours.transpose(2, 0, 1))
    products = np.stack([red * red, red * green, red * blue, green * green, green * blue, blue * blue])
    means = _window_means(np.concatenate([channels, mask[None], channels * mask, products]), radius)
    r, g, b = means[:3]
    rr, rg, rb, gg, gb, bb = means[7:] - np.stack([r * r, r * g, r * b, g * g, g * b, b * b])
    rr, gg, bb = rr + EPSILON, gg + EPSILON, bb + EPSILON
    with_r, with_g, with_b = means[4:7] - means[:3] * means[3]
    # the symmetric 3 x 3 system by its cofactors: a stack of np.linalg.solve is ten times slower
    c_rr, c_rg, c_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c_gg, c_gb, c_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = rr * c_rr + rg * c_rg + rb * c_rb
    slopes = np.stack(
        [
            c_rr * with_r + c_rg * with_g + c_rb * with_b,
            c_rg * with_r + c_gg * with_g + c_gb * with_b,
            c_rb * with_r + c_gb * with_g + c_bb * with_b,
        ]
    )
    slopes /= determinant
    offset = means[3] - (slopes * means[:3]).sum(0)
    return [plane.astype(np.float32) for plane in _window_means(np.concatenate([slopes, offset[None]]), radius)]


def _window_means(planes: NDArray[np.floating], radius: int) -> NDArray[np.float64]:
    """Means of planes (k, h, w) over windows of 2 * radius + 1, those at the border over what of them is there."""
    sums = planes.astype(np.float64)
    for axis in (1, 2):
        length = sums.shape[axis]
        sums = np.cumsum(sums, axis)
        sums = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis)
        last = np.minimum(np.arange(length) + radius + 1, length)
        first = np.maximum(np.arange(length) - radius, 0)
        count = (last - first).reshape([-1 if a == axis else 1 for a in range(3)])
        sums = (sums.take(last, axis) - sums.take(first, axis)) / count
    return sums
