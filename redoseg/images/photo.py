"""A photograph that is decoded once, and its pixels part by part: whole copies of a large one would take gigabytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.images.colour import convert_colours, profile_of, space_of

PART = 2**20  # pixels that are converted at a time; what is made of them takes up to 80 bytes for each
LARGE = 2**24  # pixels; of a larger photograph nothing is made whole that has more than a byte a pixel

Box = tuple[float, float, float, float]
"""Left, top, right and bottom [pixels]."""
Part = tuple[int, int, int, int]
"""A `Box` of whole pixels."""

# EXIF orientation -> what turns the stored picture upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = {UPRIGHT[how] for how in (5, 6, 7, 8)}  # these exchange width and height
_FROM_RIGHT = {UPRIGHT[how] for how in (2, 3, 7, 8)}  # stored columns are counted from the other side
_FROM_BELOW = {UPRIGHT[how] for how in (3, 4, 6, 7)}  # and stored rows
# how far a filter reaches, in pixels of the smaller of the two sizes
_SUPPORT = {Image.Resampling.BILINEAR: 1.0, Image.Resampling.BICUBIC: 2.0, Image.Resampling.LANCZOS: 3.0}
GAP = 3.0  # an image is averaged in whole pixels to this many times the size before it is resized (Pillow)


def parts(size: tuple[int, int], most: int = 0) -> Iterator[Part]:
    """Boxes that cover an image of `size` (width, height) in the order of its rows.

    Each has several whole rows, or a piece of one row, of at most `most` pixels (PART if 0).
    """
    width, height = size
    most = most or PART
    rows, columns = max(1, most // max(1, width)), min(width, most)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield left, top, min(left + columns, width), min(top + rows, height)


@dataclass(frozen=True)
class Photo:
    """A photograph as its file has it. Its colours and opacity are made where they are needed, part by part."""

    stored: Image.Image
    """8 bits a channel, of any mode, perhaps lying on its side."""
    turn: Image.Transpose | None = None
    """What turns it upright."""
    transparent: bool = False
    """Whether any of it is not wholly opaque."""
    extent: Box | None = None
    """The part that the file has, where libjpeg has filled the last pixels of a reduced JPEG; upright."""
    described: bytes | None = None
    """The ICC profile of what is stored, if there is one that can be used."""
    note: str = ""
    """What a user should know of the file, after its name."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright [pixels]."""
        width, height = self.stored.size
        return (height, width) if self.turn in _LYING else (width, height)

    @property
    def pixels(self) -> int:
        """How many there are."""
        return self.size[0] * self.size[1]

    @property
    def whole(self) -> Part:
        """The part that is all of it."""
        return 0, 0, *self.size

    def rgb_of(self, part: Part) -> Image.Image:
        """Part of it upright, 8-bit sRGB, over white where it is transparent."""
        values, alpha = self._values(part)
        return _over_white(convert_colours(values, self.described).srgb, alpha)

    def own_of(self, part: Part) -> Image.Image:
        """The file's own RGB of a part, which `profile` describes: neither sRGB nor mixed with white."""
        return convert_colours(self._values(part)[0], self.described).own

    def own_over_white_of(self, part: Part) -> Image.Image:
        """The file's own RGB of a part, over white where it is transparent."""
        return _over_white(self.own_of(part), self.alpha_of(part))

    def alpha_of(self, part: Part) -> Image.Image | None:
        """How opaque a part is, 8-bit grey; None if the photograph is wholly opaque."""
        return self._values(part)[1]

    @property
    def rgb(self) -> Image.Image:
        """`rgb_of` all of it."""
        return self.rgb_of(self.whole)

    @property
    def alpha(self) -> Image.Image | None:
        """`alpha_of` all of it."""
        return self.alpha_of(self.whole)

    @property
    def profile(self) -> bytes | None:
        """The ICC profile of the file's own RGB; None for sRGB without one."""
        return convert_colours(self._values((0, 0, 1, 1))[0], self.described).profile

    @property
    def _is_rgb(self) -> bool:
        """Whether `rgb` is what is stored, so that it takes no memory of its own."""
        one = self.stored.crop((0, 0, 1, 1))
        as_it_is = self.turn is None and not _says_how_opaque(self.stored)
        return as_it_is and convert_colours(one, self.described).srgb is one

    def within(self, soft: NDArray[np.float32], part: Part | None = None) -> NDArray[np.float32]:
        """A soft mask (h, w) of a part, 0 to 1, no larger than the photograph is opaque, whose white may look like it.

        The part is all of the photograph if None.
        """
        alpha = self.alpha_of(part or self.whole)
        if alpha is None:
            return soft
        return np.minimum(soft, np.asarray(alpha, np.float32) * np.float32(1 / 255))

    def dimmed(self, opacity: NDArray[np.float32], part: Part) -> NDArray[np.float32]:
        """An opacity (h, w) of a part, 0 to 1, times how opaque the photograph is there."""
        alpha = self.alpha_of(part)
        return opacity if alpha is None else opacity * (np.asarray(alpha, np.float32) * np.float32(1 / 255))

    def resized(
        self,
        size: tuple[int, int],
        box: Box | None = None,
        gap: float = GAP,
        resample: Image.Resampling = Image.Resampling.BILINEAR,
    ) -> Image.Image:
        """`rgb` within `box` at `size`, as by Pillow's `resize` with this filter and `reducing_gap`."""
        if self.pixels <= LARGE or self._is_rgb:
            result = self.rgb.resize(size, resample, box=box, reducing_gap=gap)
            result.info.clear()  # profile, comments: what the file says of other pixels
            return result
        return resized_by_parts(self.size, "RGB", self.rgb_of, size, box=box, gap=gap, resample=resample)

    def shrunk(self, size: tuple[int, int]) -> Photo:
        """The whole photograph in sRGB at `size` (width, height): colours and opacity each by Pillow's `resize`."""
        if not self.transparent:
            return Photo(self.resized(size))

        def opacity(part: Part) -> Image.Image:
            alpha = self.alpha_of(part)
            assert alpha is not None
            return alpha

        colours = resized_by_parts(
            self.size, "RGB", lambda part: convert_colours(self._values(part)[0], self.described).srgb, size
        )
        colours.putalpha(resized_by_parts(self.size, "L", opacity, size))
        return Photo(colours, transparent=True)

    def square(self, size: int, resample: Image.Resampling = Image.Resampling.BILINEAR) -> Image.Image:
        """The centre square at `size` [pixels], as by `fit_square`, of what the file has."""
        if resample != Image.Resampling.BILINEAR:
            return fit_square(self.rgb, size, resample, self.extent)
        return self.resized((size, size), _centre(self.size, self.extent))

    def _values(self, part: Part) -> tuple[Image.Image, Image.Image | None]:
        """Part of it upright without its opacity, in a mode that `convert_colours` takes, and how opaque it is."""
        left, top, right, bottom = part
        if self.turn in _LYING:
            left, top, right, bottom = top, left, bottom, right
        width, height = self.stored.size
        if self.turn in _FROM_RIGHT:
            left, right = width - right, width - left
        if self.turn in _FROM_BELOW:
            top, bottom = height - bottom, height - top
        all_of_it = (left, top, right, bottom) == (0, 0, width, height)
        image = self.stored if all_of_it else self.stored.crop((left, top, right, bottom))
        if self.turn is not None:
            image = image.transpose(self.turn)
        if not _says_how_opaque(image):
            return image, None
        grey = space_of(image) == "GRAY"
        image = image.convert("LA" if grey else "RGBA")
        alpha = image.getchannel("A") if self.transparent else None
        return image.convert("L" if grey else "RGB"), alpha


@dataclass(frozen=True)
class Window(Photo):
    """Part of a photograph, as a photograph of its own."""

    of_photo: Photo | None = None
    box: Part = (0, 0, 0, 0)

    @classmethod
    def of(cls, photo: Photo, box: Part) -> Window:
        """The part `box` of a photograph."""
        return cls(photo.stored, photo.turn, photo.transparent, described=photo.described, of_photo=photo, box=box)

    @property
    def size(self) -> tuple[int, int]:
        return self.box[2] - self.box[0], self.box[3] - self.box[1]

    @property
    def _is_rgb(self) -> bool:
        return False

    def _values(self, part: Part) -> tuple[Image.Image, Image.Image | None]:
        assert self.of_photo is not None
        left, top = self.box[:2]
        return self.of_photo._values((part[0] + left, part[1] + top, part[2] + left, part[3] + top))


def _over_white(rgb: Image.Image, alpha: Image.Image | None) -> Image.Image:
    if alpha is None:
        return rgb
    white = Image.new("RGB", rgb.size, (255, 255, 255))
    white.paste(rgb, mask=alpha)
    return white


def _says_how_opaque(image: Image.Image) -> bool:
    return bool(image.has_transparency_data)


def _without_odd_key(image: Image.Image) -> Image.Image:
    """The same, without a transparent colour that is none, as damage or a program may leave one."""
    try:
        Photo(image, transparent=True).alpha_of((0, 0, 1, 1))
        return image
    except (TypeError, ValueError, OverflowError):
        other = image.copy()
        other.info.pop("transparency", None)
        return other


def to_photo(
    image: Image.Image, extent: Box | None = None, turn: Image.Transpose | None = None, note: str = ""
) -> Photo:
    """Any image as a photograph. Raises nothing that a damaged profile can cause."""
    described = profile_of(image)
    shallow = _without_odd_key(eight_bit(image) if is_deep(image) else image)
    photo = Photo(shallow, turn, extent=extent, described=described, note=note)
    if not _says_how_opaque(photo.stored):
        return photo
    asked = replace(photo, transparent=True)

    def least(part: Part) -> int:
        alpha = asked.alpha_of(part)
        return 255 if alpha is None else int(np.asarray(alpha).min(initial=255))

    return asked if any(least(part) < 255 for part in parts(photo.size)) else photo


def resized_by_parts(
    whole: tuple[int, int],
    mode: str,
    of: Callable[[Part], Image.Image],
    size: tuple[int, int],
    *,
    box: Box | None = None,
    gap: float = GAP,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
) -> Image.Image:
    """Pillow's `resize` of an image of which `of` gives parts: means of whole blocks part by part, then the filter."""
    small, inner = reduced_by_parts(whole, mode, of, size, box=box, gap=gap, resample=resample)
    return small.resize(size, resample, box=inner)


def reduced_by_parts(
    whole: tuple[int, int],
    mode: str,
    of: Callable[[Part], Image.Image],
    size: tuple[int, int],
    *,
    box: Box | None = None,
    gap: float = GAP,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
) -> tuple[Image.Image, Box]:
    """The first half of `resized_by_parts`: an image of means of whole blocks, and where `box` is in it."""
    left, top, right, bottom = box or (0, 0, *whole)
    across = int((right - left) / size[0] / gap) or 1
    down = int((bottom - top) / size[1] / gap) or 1
    # around the box, what the filter uses too; a filter that enlarges uses the next pixel
    reach = _SUPPORT[resample] - 0.5
    more = 0.0 if across > 1 or down > 1 else _SUPPORT[resample]
    beside_x, beside_y = reach * (right - left) / size[0] + more, reach * (bottom - top) / size[1] + more
    first_x, first_y = max(0, int(left - beside_x)), max(0, int(top - beside_y))
    last_x, last_y = min(whole[0], math.ceil(right + beside_x)), min(whole[1], math.ceil(bottom + beside_y))
    small = Image.new(mode, (-(-(last_x - first_x) // across), -(-(last_y - first_y) // down)))
    for piece in parts(small.size, max(1, PART // (across * down))):
        here = (
            first_x + piece[0] * across,
            first_y + piece[1] * down,
            min(first_x + piece[2] * across, last_x),
            min(first_y + piece[3] * down, last_y),
        )
        small.paste(of(here).reduce((across, down)), piece[:2])
    inner = (
        (left - first_x) / across,
        (top - first_y) / down,
        (right - first_x) / across,
        (bottom - first_y) / down,
    )
    return small, inner


def _centre(size: tuple[int, int], extent: Box | None) -> Box:
    """The largest centred square of `extent`, or of all of an image of this size."""
    left, top, right, bottom = extent or (0, 0, *size)
    side = min(right - left, bottom - top)
    left, top = (left + right - side) / 2, (top + bottom - side) / 2
    # a sum of fractions may end a hair beyond the picture
    return max(left, 0.0), max(top, 0.0), min(left + side, size[0]), min(top + side, size[1])


def fit_square(
    image: Image.Image,
    size: int,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
    extent: Box | None = None,
) -> Image.Image:
    """The paper's pre-processing: shorter side to `size` [pixels], then the centre, in one pass.

    Bilinear is Pillow's, which averages when it reduces. Masks need NEAREST. Only `extent` of the image is used.
    """
    return image.resize((size, size), resample, box=_centre(image.size, extent), reducing_gap=GAP)


# ---------------------------------------------------------------------------------------- grey of more than 8 bits


def is_deep(image: Image.Image) -> bool:
    """Whether it is grey of more than 8 bits or of floats."""
    return image.mode == "F" or image.mode.startswith("I")


def eight_bit(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits or of floats, scaled (not clipped) to 8 bits; "LA" if one value is transparent.

    Whole numbers that are only 0 and 1, as masks have them, stay what they are.
    """
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    unknown = 32 if image.mode == "I" and image.format is None else 16
    bits, signed = tags.get(258, (unknown,))[0], tags.get(339, (1,))[0] == 2
    unsigned = image.mode == "I" and bits == 32 and not signed and bool(tags)

    def values(part: Part) -> NDArray[np.generic]:
        found = np.asarray(image.crop(part))
        return found.view(np.uint32) if unsigned else found  # as which Pillow reads it without saying so

    def top_of(part: Part) -> float:
        found = values(part)
        return float(found.max(where=np.isfinite(found), initial=0))

    top = max(map(top_of, parts(image.size)), default=0.0)
    full, key = _full(image.mode, top, bits, signed), image.info.get("transparency")
    white_is_zero = tags.get(262) == 0  # which Pillow heeds only up to 8 bits
    plain = top <= 1 and image.mode != "F"

    def grey(part: Part) -> Image.Image:
        found = values(part)
        if plain:
            return Image.fromarray(found.clip(0).astype(np.uint8))
        scaled = found.astype(np.float32)
        np.nan_to_num(scaled, copy=False, posinf=full, neginf=0)
        if white_is_zero:
            np.subtract(full, scaled, out=scaled)
        scaled *= 255 / full
        level = Image.fromarray(np.rint(scaled, out=scaled).clip(0, 255).astype(np.uint8))
        if not isinstance(key, int):
            return level
        return Image.merge("LA", (level, Image.fromarray(np.where(found == key, np.uint8(0), np.uint8(255)))))

    result = Image.new("LA" if isinstance(key, int) and not plain else "L", image.size)
    for part in parts(image.size):
        result.paste(grey(part), part[:2])
    return result


def _full(mode: str, top: float, bits: int, signed: bool) -> float:
    """The value that becomes white, of an image whose largest value is `top`."""
    if mode == "F":
        return 1.0 if top <= 1 else max(top, 255.0)
    if bits == 32:
        return 255.0 if top <= 255 else max(top, 65535.0)
    return float(2.0 ** (bits - signed) - 1)


# ------------------------------------------------------------------------------------------------ soft masks


class SoftMask:
    """A soft mask of a photograph's size, 0 to 1, made part by part.

    Args:
        size: width and height [pixels].
        make: gives a part, float32 (h, w).
    """

    def __init__(self, size: tuple[int, int], make: Callable[[Part], NDArray[np.float32]]) -> None:
        self.size, self._make = size, make
        self._kept: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, soft: NDArray[np.float32]) -> SoftMask:
        """A soft mask (H, W) that is there already."""
        return cls((soft.shape[1], soft.shape[0]), lambda part: soft[part[1] : part[3], part[0] : part[2]])

    def part(self, part: Part) -> NDArray[np.float32]:
        """(h, w) of a part. That of a mask of up to LARGE pixels is made once."""
        if self.size[0] * self.size[1] > LARGE:
            return self._make(part)
        left, top, right, bottom = part
        return self.whole()[top:bottom, left:right]

    def made(self, part: Part) -> NDArray[np.float32]:
        """(h, w) of a part, of which nothing is kept."""
        return self._make(part)

    def whole(self) -> NDArray[np.float32]:
        """All of it, (H, W): 4 bytes for each pixel."""
        if self._kept is None:
            width, height = self.size
            found = np.empty((height, width), np.float32)
            for left, top, right, bottom in parts(self.size):
                found[top:bottom, left:right] = self._make((left, top, right, bottom))
            if width * height > LARGE:
                return found
            self._kept = found
        return self._kept

    def shrunk(self, size: tuple[int, int]) -> SoftMask:
        """The same at a smaller `size` (width, height)."""
        if self.size[0] * self.size[1] <= LARGE:
            small = Image.fromarray(self.whole()).resize(size, Image.Resampling.BILINEAR)
        else:
            small = resized_by_parts(self.size, "F", lambda part: Image.fromarray(self.part(part)), size)
        return SoftMask.of(np.asarray(small).clip(0, 1))
