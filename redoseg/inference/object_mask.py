"""From a soft mask to the object: the threshold, and what is cleaned from the mask at it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from redoseg.errors import DataError
from redoseg.images.clean import Cleaning, clean_in_place
from redoseg.images.photo import Part, Photo, SoftMask, parts

HALF = 0.5  # the threshold of a mask, unless a call asks for another
CLEANING = Cleaning()


def check_threshold(threshold: float) -> None:
    """Raises DataError for a threshold that is not a number from 0 to 1."""
    if isinstance(threshold, bool) or not isinstance(threshold, int | float | np.number) or not 0 <= threshold <= 1:
        raise DataError(f"the threshold is {threshold!r}, but must be a number from 0 to 1; choose another")


def object_of(photo: Photo, soft: SoftMask, threshold: float = HALF) -> NDArray[np.bool_]:
    """The object's mask (H, W): where the soft mask, and how opaque the photograph is, are above the threshold."""
    width, height = photo.size
    mask = np.empty((height, width), bool)
    for part in parts(photo.size):
        left, top, right, bottom = part
        mask[top:bottom, left:right] = photo.within(soft.part(part), part) > threshold
    return mask


def object_share(photo: Photo, soft: SoftMask, threshold: float = HALF) -> float:
    """How much of the photograph the object's mask covers, 0 to 1, without making all of the mask."""
    inside = (np.count_nonzero(photo.within(soft.part(part), part) > threshold) for part in parts(photo.size))
    return sum(inside) / photo.pixels


def cleaned(photo: Photo, soft: SoftMask, threshold: float = HALF, cleaning: Cleaning | None = CLEANING) -> SoftMask:
    """The soft mask with 0 where a part is dropped at this threshold, and 1 where a hole is filled.

    It takes a bit a pixel, and a byte while it is made. The soft mask itself if there is nothing to clean, or
    `cleaning` is None.
    """
    if cleaning is None:
        return soft
    wanted = object_of(photo, soft, threshold)
    if not clean_in_place(wanted, cleaning):
        return soft
    packed = np.packbits(wanted, axis=1)
    del wanted

    def make(part: Part) -> NDArray[np.float32]:
        left, top, right, bottom = part
        bits = np.unpackbits(packed[top:bottom, left // 8 : -(-right // 8)], axis=1)
        values, inside = soft.part(part), bits[:, left % 8 : left % 8 + right - left].astype(bool)
        was = photo.within(values, part) > threshold
        values = np.where(was & ~inside, np.float32(0), values)
        return np.where(inside & ~was, np.float32(1), values)

    return SoftMask(soft.size, make)
