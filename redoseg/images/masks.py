"""Mask files: the numbers in one, what form they have, and the object that they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.errors import DataError
from redoseg.files import printable
from redoseg.images.photo import fit_square
from redoseg.images.read import BACKGROUND, OBJECT, UNLABELLED, one_line, read_numbers

DARK = 126  # grey below this is background
_OPEN = range(DARK, 130)  # grey that is not labelled
_WHITE = 230  # grey from here on is white
_CLASSES = 64  # numbers up to this beside white look like classes, not like a blurred edge
_NOISE = 0.02  # share of the object's pixels that may have odd values
_LOSSY = ("JPEG", "MPO", "AVIF", "HEIF")
_SOFT = 128  # so many values are a soft mask

Form = Literal["empty", "ones", "half", "grey", "numbers"]
"""What values a mask has. "empty": no object. "ones": 0 and 1. "half": 0 and 128. "grey": up to white, cut at half.
"numbers": anything else, such as classes or instances."""


@dataclass(frozen=True)
class MaskNumbers:
    """What a mask file has in each pixel."""

    values: NDArray[np.uint8] | NDArray[np.uint16]
    """(H, W): grey of 0 to 255, opacity, entries of a coloured palette, or the numbers of a deeper file."""
    palette: bool = False
    """Whether they are entries of a coloured palette."""
    lossy: bool = False
    """Whether the file's format has changed the numbers a little, as JPEG does."""

    @property
    def form(self) -> Form:
        """What form the values have."""
        return form_of(self.seen(), self.palette, self.lossy)

    def seen(self) -> dict[int, int]:
        """Each value with the number of its pixels."""
        flat = self.values.ravel()
        # in parts, since each is made eight times as large
        counts = sum(np.bincount(part, minlength=2**16) for part in np.array_split(flat, flat.size // 2**20 + 1))
        assert isinstance(counts, np.ndarray)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def mask_numbers(path: str | Path, colours: bool = False) -> MaskNumbers:
    """The numbers of a mask file. With `colours`, every pixel of a mask in colour that is not black is 255.

    Where the colours say nothing, as in a cut-out or a plain colour, the opacity is the mask. Raises DataError like
    `read_image`, and without `colours` for a mask in colour, which does not say what is the object.
    """
    with one_line(Path(path)):
        image = read_numbers(path)
        return replace(_numbers(path, image, colours), lossy=image.format in _LOSSY)


def _numbers(path: str | Path, image: Image.Image, colours: bool) -> MaskNumbers:
    if image.mode == "F" or image.mode.startswith("I"):
        return MaskNumbers(_whole(np.asarray(image)))
    if image.mode == "P" and "transparency" not in image.info:
        shades = np.array(image.getpalette("RGB") or [0, 0, 0], np.uint8).reshape(-1, 3)
        used = shades[np.flatnonzero(image.histogram()) % len(shades)]
        if np.ptp(used.astype(int), axis=1).any():
            return MaskNumbers(np.asarray(image), palette=True)
        image = image.convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        opacity = _opacity(np.asarray(image))
        if opacity is not None:
            return MaskNumbers(opacity)
        image = image.convert("RGB")
    if image.mode not in ("L", "1"):
        pixels = np.asarray(image.convert("RGB"))
        if pixels.max(initial=0) <= _CLASSES:  # the numbers of classes in one channel, as CARLA has them
            return MaskNumbers(pixels.max(-1))
        if _is_coloured(pixels):
            if colours:
                return MaskNumbers(np.where(pixels.any(-1), np.uint8(255), np.uint8(0)))
            raise DataError(
                f"{printable(path)}: the mask is in colour, but must be grey (0 background, 255 object); save "
                "it as grey, use --mask-values nonzero if all but black is the object, or remove it"
            )
    return MaskNumbers(np.asarray(image.convert("L")))


def form_of(seen: Mapping[int, int], palette: bool = False, lossy: bool = False) -> Form:
    """The form of a mask with these values and numbers of pixels; entries of a coloured `palette` are numbers.

    A `lossy` file with white in it is not a map of classes, whatever other values it has.
    """
    values = sorted(value for value in seen if value)
    if values == [1]:
        return "ones"
    if values == [128]:
        return "half"
    if all(value in _OPEN for value in values):
        return "empty"
    if palette or values[-1] > 255 or values[-1] < _WHITE:
        return "numbers"
    if lossy:
        return "grey"
    if _classes_beside_white(seen):
        return "numbers"
    between = [value for value in values if value < _WHITE and value not in _OPEN]
    whole = sum(seen[value] for value in values)
    white = sum(seen[value] for value in values if value >= _WHITE)
    soft = white >= whole / 2 or len(values) >= _SOFT or any(value in _OPEN for value in values)
    return "grey" if soft or not between else "numbers"


def _classes_beside_white(seen: Mapping[int, int]) -> bool:
    """Whether small numbers are too many for noise beside 255, and no other white is there, as compression makes it."""
    between = {value: count for value, count in seen.items() if 0 < value < _WHITE and value not in _OPEN}
    if not between or max(between) > _CLASSES or any(_WHITE <= value < 255 for value in seen):
        return False
    return sum(between.values()) > _NOISE * sum(count for value, count in seen.items() if value)


def read_mask(path: str | Path, size: int | None = None) -> NDArray[np.uint8]:
    """A mask file as (H, W) of 0 background, 255 object, 127 not labelled; nearest pixels only.

    Grey 126 to 129 is not labelled, all else is cut at 128; a mask of only 0 and 1, or 0 and 128, has its object
    there; in a coloured palette entry 0 is the background. With `size` the result is the centre square of that side.
    Raises DataError like `read_image`, and for a mask that does not say what is the object: one in colour, one of
    classes or instances.
    """
    numbers = mask_numbers(path)
    seen, form = numbers.seen(), numbers.form
    values = numbers.values
    if numbers.palette or form in ("ones", "half"):
        mask = np.where(values > 0, np.uint8(OBJECT), np.uint8(BACKGROUND))
    elif form == "numbers" and _means_classes(seen):
        raise DataError(
            f"{printable(path)}: the mask has the values {listed(seen)}, which do not show what the object is; "
            "save it with 0 for background and 255 for object, or remove it"
        )
    else:
        mask = _cut(values)
    return mask if size is None else np.asarray(fit_square(Image.fromarray(mask), size, Image.Resampling.NEAREST))


def read_object(path: str | Path, which: str) -> NDArray[np.uint8]:
    """A mask file as `read_mask` gives it, where it is known `which` of its values are the object.

    "nonzero": anything but 0, or black; "grey": cut at 128; or numbers, as in "1,2". Entry 255 of a coloured palette
    is then not labelled, as in Pascal VOC. Raises DataError like `read_image`.
    """
    numbers = mask_numbers(path, colours=which == "nonzero")
    if which == "grey":
        return _cut(numbers.values)
    wanted = [int(number) for number in which.split(",")] if which != "nonzero" else []
    inside = np.isin(numbers.values, wanted) if wanted else numbers.values > 0
    mask = np.where(inside, np.uint8(OBJECT), np.uint8(BACKGROUND))
    if numbers.palette and 255 not in wanted:
        mask[numbers.values == 255] = UNLABELLED
    return mask


def listed(values: Mapping[int, int] | set[int], most: int = 8) -> str:
    """The values in words: all of a few, else the first and the last."""
    ordered = sorted(values)
    if len(ordered) > most:
        return f"{', '.join(map(str, ordered[: most - 2]))}, ..., {ordered[-1]}"
    return " and ".join(filter(None, [", ".join(map(str, ordered[:-1])), str(ordered[-1])]))


def _cut(values: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    mask = np.where(values >= 128, np.uint8(OBJECT), np.uint8(BACKGROUND))
    mask[(values >= _OPEN[0]) & (values <= _OPEN[-1])] = UNLABELLED
    return mask


def _means_classes(seen: Mapping[int, int]) -> bool:
    """Whether a cut at half would not find the object in a mask of these values."""
    return max(seen) < _OPEN[0] or max(seen) > 255 or _classes_beside_white(seen)


def _whole(values: NDArray[np.generic]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Numbers of a deep file (H, W): whole ones stay, except where they reach the type's end; others are scaled."""
    numbers = np.nan_to_num(np.asarray(values, np.float64), nan=0, posinf=0, neginf=0)
    infinite = np.isposinf(np.asarray(values, np.float64))
    top = float(numbers.max(initial=0))
    numbers[infinite] = top = max(top, 1.0) if infinite.any() else top
    numbers = numbers.clip(0)
    if (numbers % 1).any():
        numbers = np.rint(numbers * (255 / (1.0 if top <= 1 else max(top, 255.0))))
    elif top > 2**16 - 1 or top >= 0.9 * (2**16 - 1):
        numbers = np.rint(numbers * (255 / max(top, 2**16 - 1)))
    return numbers.astype(np.uint8) if numbers.max(initial=0) <= 255 else numbers.astype(np.uint16)


def _opacity(pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The mask in the opacity of RGBA pixels (H, W, 4); None where the colours are the mask.

    They are where all is equally opaque. Where they are black and white under a hole, the hole is background.
    """
    alpha = pixels[..., 3]
    if alpha.size == 0 or alpha.min() == alpha.max():
        return None
    shades = pixels[..., :3][alpha >= 128].astype(np.int16)
    if len(shades):
        extreme = ((shades.max(-1) <= 20) | (shades.min(-1) >= _WHITE)).mean()
        if extreme > 1 - _NOISE and np.ptp(shades) > 128:
            return np.where(alpha >= 128, pixels[..., :3].max(-1), np.uint8(0))
    return alpha


def _is_coloured(pixels: NDArray[np.uint8]) -> bool:
    """Whether more than a thousandth of (H, W, 3) is clearly no grey."""
    spread = pixels.max(-1).astype(np.int16) - pixels.min(-1)
    return bool((spread > 48).mean() > 0.001)
