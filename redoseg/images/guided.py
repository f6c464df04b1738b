"""A soft mask brought to a photograph's own size with the photograph as its guide.

`guided_upsample` moves the mask's edges to the photograph's; `grabcut_upsample` first decides again, by colour, what
belongs to the object.

The guided filter (He, Sun and Tang, TPAMI 2013) in its fast form (He and Sun, arXiv 1505.00996): at the network's
resolution the mask is fitted, within a window about each pixel, by a linear function of the three colours; the
functions are enlarged, which are smooth, and applied to the photograph, which is sharp. OpenCV has it only in its
contrib build, which cannot stand beside the other builds; here it is numpy and Pillow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from redoseg.images.grabcut import grabcut_from
from redoseg.images.photo import LARGE, Part, Photo, SoftMask

WINDOW = 1 / 16  # half a window's side, as a share of the mask's; chosen on dev pictures: docs/segmenting.md
EPSILON = 1e-3  # what is added to the colours' variances, of colours from 0 to 1: below it they count as noise
CUT_SIDE = 256  # of a picture in GrabCut, the shorter [pixels]: the weight of a boundary there grows with its pixels
CUT_LONGEST = 8 * CUT_SIDE  # of its longer side, so that a strip does not take all memory
CUT_ROUNDS = 2  # of GrabCut; 5 gave 0.1 to 0.4 points of IoU more on dev pictures of three sets
CUT_WINDOW = 1 / 32  # WINDOW for masks that GrabCut gave; of 1/128 to 1/16 none is much better: docs/segmenting.md

Floats = NDArray[np.float32]


def bilinear_upsample(mask: Floats, size: tuple[int, int]) -> Floats:
    """A soft mask (h, w) brought to `size` (width, height) [pixels] by bilinear interpolation: (H, W)."""
    return bilinear_mask(mask, size).whole()


def bilinear_mask(mask: Floats, size: tuple[int, int]) -> SoftMask:
    """What `bilinear_upsample` gives, part by part."""
    if mask.shape == size[::-1]:
        return SoftMask.of(mask)
    image = Image.fromarray(mask)
    if size[0] * size[1] <= LARGE:
        return SoftMask.of(np.asarray(image.resize(size, Image.Resampling.BILINEAR)).clip(0, 1))
    # first what becomes smaller, which Pillow averages
    less = min(mask.shape[1], size[0]), min(mask.shape[0], size[1])
    small = np.asarray(image.resize(less, Image.Resampling.BILINEAR))
    below = np.concatenate([small, small[-1:]])  # every row has one below it

    def make(part: Part) -> Floats:
        (found,) = _enlarged([below], size, part)
        return found.clip(0, 1)

    return SoftMask(size, make)


def grabcut_upsample(mask: Floats, reduced: NDArray[np.uint8], image: Image.Image) -> Floats:
    """What GrabCut makes of `image` (RGB) from a soft mask (h, w), at the image's size: (H, W), 0 to 1.

    It works at `CUT_SIDE`, or less for strips, and starts from the guided mask; `reduced` as there. What comes of a
    larger image is guided again. A mask that is all object or all ground stays so. Raises MissingError without OpenCV.
    """
    return grabcut_mask(mask, reduced, Photo(image)).whole()


def grabcut_mask(mask: Floats, reduced: NDArray[np.uint8], photo: Photo) -> SoftMask:
    """What `grabcut_upsample` gives, part by part."""
    scale = min(CUT_SIDE / min(photo.size), CUT_LONGEST / max(photo.size))
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in photo.size)
        small = photo.resized((width, height))
    else:
        small = photo.rgb
    side = round(min(photo.size) * scale)
    colours = np.asarray(small)
    found = grabcut_from(colours, guided_upsample(mask, reduced, small) > 0.5, CUT_ROUNDS, side).astype(np.float32)
    return guided_mask(found, colours, photo, CUT_WINDOW) if scale < 1 else bilinear_mask(found, photo.size)


def guided_upsample(mask: Floats, reduced: NDArray[np.uint8], image: Image.Image, window: float = WINDOW) -> Floats:
    """A soft mask (h, w) brought to the size of `image` (RGB), whose edges it takes: (H, W), 0 to 1.

    `reduced` is the image at the mask's size, uint8 (h, w, 3), `window` half a window's side as a share of the
    mask's. Masks that sum to one do so afterwards, except for what is cut off below 0 and above 1.
    """
    return guided_mask(mask, reduced, Photo(image), window).whole()


def guided_mask(mask: Floats, reduced: NDArray[np.uint8], photo: Photo, window: float = WINDOW) -> SoftMask:
    """What `guided_upsample` gives, part by part: the functions are never there at the photograph's whole size."""
    functions = _fitted(mask, reduced.astype(np.float32) * np.float32(1 / 255), window)
    functions = [np.concatenate([plane, plane[-1:]]) for plane in functions]  # every row has one below it
    spare = min(photo.size) >= 2 * min(mask.shape)

    def make(part: Part) -> Floats:
        # where there are pixels to spare, averaged with its neighbours (1 2 1 / 4 each way), a pixel's noise does not
        # decide, and crumbs are fewer
        colours = np.asarray(_blurred(photo, part) if spare else photo.rgb_of(part))
        *slopes, total = _enlarged(functions, photo.size, part)
        for channel, slope in enumerate(slopes):
            total += slope * (colours[..., channel] * np.float32(1 / 255))
        return total.clip(0, 1)

    return SoftMask(photo.size, make)


def _blurred(photo: Photo, part: Part) -> Image.Image:
    """A part, each pixel averaged with its neighbours, which may be outside of it."""
    left, top, right, bottom = part
    first_x, first_y = max(0, left - 1), max(0, top - 1)
    around = photo.rgb_of((first_x, first_y, min(right + 1, photo.size[0]), min(bottom + 1, photo.size[1])))
    left, top, right, bottom = left - first_x, top - first_y, right - first_x, bottom - first_y
    return around.filter(ImageFilter.BoxBlur(0.5)).crop((left, top, right, bottom))


def _enlarged(planes: Sequence[Floats], size: tuple[int, int], part: Part) -> list[Floats]:
    """A part (k, l) of planes of any numbers, enlarged to `size` (width, height).

    The planes are (h + 1, w): their last row is there twice.
    """
    left, top, right, bottom = part
    above, share = _places(len(planes[0]) - 1, size[1], top, bottom)
    rows = [plane[above] + (plane[above + 1] - plane[above]) * share[:, None] for plane in planes]
    width = planes[0].shape[1]
    scale = width / size[0]
    box = None if (left, right) == (0, size[0]) else (left * scale, 0, min(right * scale, width), bottom - top)
    shape = (right - left, bottom - top)
    return [np.array(Image.fromarray(row).resize(shape, Image.Resampling.BILINEAR, box=box)) for row in rows]


def _places(small: int, large: int, first: int, last: int) -> tuple[NDArray[np.intp], Floats]:
    """For each of the rows `first` to `last` of `large` the row above it among `small`, and how far below, 0 to 1."""
    places = ((np.arange(first, last) + 0.5) * (small / large) - 0.5).clip(0, small - 1)
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
