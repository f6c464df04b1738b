"""What is made of a photograph and the soft mask of its object: masks, cut-outs and overlays, part by part."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from redoseg.config.kinds import Kind
from redoseg.errors import DataError
from redoseg.images.backdrop import Ground
from redoseg.images.colour import in_srgb
from redoseg.images.draw import cutout, line_radius, outline
from redoseg.images.foreground import EdgeColours
from redoseg.images.matting import matte
from redoseg.images.packing import QUALITY, ImageFormat, check_packable, packed
from redoseg.images.photo import LARGE, PART, Box, Part, Photo, SoftMask, parts, reduced_by_parts
from redoseg.images.png import png_chunks
from redoseg.inference.object_mask import HALF

MARGIN = 0.02  # around a crop, as a share of its object's longer side
FEATHER = 0.0  # over how many pixels a cut-out fades in from its edge
MOST_FEATHER = 200.0
_BAND = 4  # times PART: pixels of the rows that are drawn before they are packed


@dataclass(frozen=True)
class Look:
    """How results are drawn and packed."""

    threshold: float = HALF
    feather: float = FEATHER
    ground: Ground | None = None
    """What cut-outs are put on; transparent if None."""
    form: ImageFormat = "png"
    quality: int = QUALITY
    square: int = 0
    """Side of a square cut-out [pixels]; 0 for the size in the photograph."""
    margin: float = MARGIN
    """Around the object of a crop or square, as a share of its longer side."""
    matting: bool = False
    """Whether a cut-out's opacity at its edge is found by matting."""

    @property
    def plain(self) -> bool:
        """Whether there is no ground, square, matting or other format."""
        return self.ground is None and self.form == "png" and not self.square and not self.matting


def drawn(
    photo: Photo,
    soft: SoftMask,
    kind: Kind,
    threshold: float = HALF,
    *,
    keep_hidden: bool = False,
    feather: float = FEATHER,
    box: Part | None = None,
) -> Image.Image:
    """What is made of a photograph and the network's soft mask of it, 0 to 1, cut at `threshold`.

    "mask" is grey of 0 and 255, "soft" grey of 0 to 255 (and not cut), "cutout" RGBA, "overlay" RGB. A cut-out and an
    overlay have the file's own colours, and in `info` the profile that describes them, which Pillow writes into a file.
    A cut-out is no more opaque than the file, and at its edge it has the object's colours alone, and fades in over
    `feather` pixels. `box` is the part to draw, all of it if None.
    """
    return _Drawing.of(photo, soft, kind, threshold, keep_hidden=keep_hidden, feather=feather).within(
        box or photo.whole
    )


def png_of(
    photo: Photo,
    soft: SoftMask,
    kind: Kind,
    threshold: float = HALF,
    *,
    keep_hidden: bool = False,
    feather: float = FEATHER,
    box: Part | None = None,
) -> Iterable[bytes]:
    """The PNG file of what `drawn` gives, in pieces. Of a large picture no more than some rows are there at a time."""
    left, top, right, bottom = box or photo.whole
    size = right - left, bottom - top
    drawing = _Drawing.of(photo, soft, kind, threshold, keep_hidden=keep_hidden, feather=feather)
    if size[0] * size[1] <= LARGE:
        return [as_png(drawing.within(box or photo.whole))]

    return png_chunks(size, drawing.mode, drawing.bands((left, top, right, bottom)), drawing.profile)


def file_of(
    photo: Photo,
    soft: SoftMask,
    kind: Kind,
    look: Look,
    *,
    keep_hidden: bool = False,
    box: Part | None = None,
    square_about: Part | None = None,
) -> Iterable[bytes]:
    """The file of what is drawn, in pieces; `look` says how.

    `box` is the part to draw, all of it if None. `square_about` is the object's box, for a square picture.
    Raises DataError for a picture that the format cannot have.
    """
    if look.plain:
        return png_of(photo, soft, kind, look.threshold, keep_hidden=keep_hidden, feather=look.feather, box=box)
    drawing = _Drawing.looking(photo, soft, kind, look, keep_hidden)
    left, top, right, bottom = box or photo.whole
    size = right - left, bottom - top
    if look.square:
        size = look.square, look.square
    if look.form != "png":
        check_packable(size, look.form)
    if square_about is not None and look.square:
        image = drawing.square(square_about, look.square, look.margin)
    elif look.form == "png" and size[0] * size[1] > LARGE:
        return png_chunks(size, drawing.mode, drawing.bands((left, top, right, bottom)), drawing.profile)
    else:
        image = drawing.within((left, top, right, bottom))
    return [as_png(image) if look.form == "png" else packed(image, look.form, look.quality)]


def image_of(
    photo: Photo,
    soft: SoftMask,
    kind: Kind,
    look: Look,
    *,
    keep_hidden: bool = False,
    box: Part | None = None,
    square_about: Part | None = None,
) -> Image.Image:
    """The image that `file_of` makes a file of."""
    drawing = _Drawing.looking(photo, soft, kind, look, keep_hidden)
    if square_about is not None and look.square:
        return drawing.square(square_about, look.square, look.margin)
    return drawing.within(box or photo.whole)


def as_png(image: Image.Image) -> bytes:
    """The picture as a PNG file, packed quickly rather than tightly."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def check_feather(feather: float) -> None:
    """Raises DataError for a width of the edge that is not a number from 0 to MOST_FEATHER."""
    if not 0 <= feather <= MOST_FEATHER:
        raise DataError(f"the feather is {feather!r} pixels, but must be from 0 to {MOST_FEATHER:g}; choose another")


def _mode(kind: Kind) -> str:
    return {"cutout": "RGBA", "overlay": "RGB"}.get(kind, "L")


def opacity_of(soft: SoftMask, part: Part, threshold: float = HALF, feather: float = FEATHER) -> NDArray[np.float32]:
    """How opaque a cut-out is in a part, 0 to 1: not at all outside the mask, half to three quarters on its edge.

    The edge is that of the mask and one pixel wide. The soft mask may rise over many pixels, through which the ground
    would show as a haze. With a feather it fades in over so many pixels more, inwards.
    """
    around, inner = _around(part, math.ceil(feather) + 2, soft.size)
    mask = Image.fromarray(np.where(soft.part(around) > threshold, np.uint8(255), np.uint8(0)))
    opacity = np.asarray(mask.filter(ImageFilter.BoxBlur(0.5)).crop(inner), np.float32) * np.float32(1 / 255)
    if feather:
        near = np.asarray(mask.filter(ImageFilter.BoxBlur(feather)).crop(inner), np.float32) * np.float32(1 / 255)
        opacity = opacity * (2 * near - 1).clip(0, 1)
    return np.where(np.asarray(mask.crop(inner)) > 0, opacity, np.float32(0))


def _around(part: Part, margin: int, size: tuple[int, int]) -> tuple[Part, Part]:
    """The box with a margin [pixels] around a part, within an image of `size`, and where the part lies in it."""
    left, top, right, bottom = part
    first_x, first_y = max(0, left - margin), max(0, top - margin)
    around = first_x, first_y, min(right + margin, size[0]), min(bottom + margin, size[1])
    return around, (left - first_x, top - first_y, right - first_x, bottom - first_y)


def _tiles(box: Part) -> Iterator[Part]:
    """Parts of a box of at most PART pixels, as square as they may be, so that little more lies around them."""
    left, top, right, bottom = box
    rows = max(1, min(bottom - top, max(math.isqrt(PART), PART // max(1, right - left))))
    columns = max(1, PART // rows)
    for first_row in range(top, bottom, rows):
        for first in range(left, right, columns):
            yield first, first_row, min(first + columns, right), min(first_row + rows, bottom)


def _without_bright_rim(small: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
    """`small` (RGBA) within `box` at `size`, by a filter that goes beyond the values at steps of the opacity.

    Where the opacity would be more than all, its colours, which Pillow multiplies by it, would come out too bright.
    Of half the opacity they do not, but have a step less.
    """
    result = small.resize(size, Image.Resampling.LANCZOS, box=box)
    faint = small.copy()
    faint.putalpha(small.getchannel("A").point(lambda opacity: opacity // 2))
    *colours, opacity = faint.resize(size, Image.Resampling.LANCZOS, box=box).split()
    apart = ImageChops.difference(Image.merge("RGB", colours), result.convert("RGB")).split()
    most = ImageChops.lighter(ImageChops.lighter(apart[0], apart[1]), apart[2])
    steps = ImageChops.darker(most.point(lambda most: 255 * (most > 2)), opacity.point(lambda o: 255 * (o >= 64)))
    result.paste(Image.merge("RGBA", (*colours, result.getchannel("A"))), mask=steps)
    return result


def _share(soft: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """How much of each pixel is the object, 0 to 1: half at the threshold.

    What is between 0 and 1 may be mixed with the ground's colours. It rises faster than the soft mask.
    """
    rise = max(min(0.125, (1 - threshold) / 2), 1e-6)
    return (0.5 + (soft - np.float32(threshold)) * np.float32(0.5 / rise)).clip(0, 1)


def _bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(values * 255).astype(np.uint8)


@dataclass(frozen=True)
class _Drawing:
    """What is drawn of one photograph, whichever part of it."""

    photo: Photo
    soft: SoftMask
    kind: Kind
    threshold: float
    keep_hidden: bool
    feather: float
    edge: EdgeColours | None
    """The colours at the edge of a cut-out; None of other kinds, and where they cannot be guessed."""
    opacity: SoftMask | None = None
    """How opaque a cut-out is; None where it follows from the mask alone."""
    ground: Ground | None = None
    """What a cut-out is put on; transparent if None."""

    @classmethod
    def of(
        cls,
        photo: Photo,
        soft: SoftMask,
        kind: Kind,
        threshold: float,
        *,
        keep_hidden: bool,
        feather: float,
        opacity: SoftMask | None = None,
    ) -> _Drawing:
        drawing = cls(
            photo=photo,
            soft=soft,
            kind=kind,
            threshold=threshold,
            keep_hidden=keep_hidden,
            feather=feather,
            edge=None,
            opacity=opacity,
        )
        return replace(drawing, edge=EdgeColours.guess(photo, drawing._object_share)) if kind == "cutout" else drawing

    @classmethod
    def looking(cls, photo: Photo, soft: SoftMask, kind: Kind, look: Look, keep_hidden: bool) -> _Drawing:
        """As `of`, with the ground and the opacity that `look` asks for."""
        opacity = matte(photo, soft, look.threshold) if look.matting and kind == "cutout" else None
        drawing = cls.of(
            photo, soft, kind, look.threshold, keep_hidden=keep_hidden, feather=look.feather, opacity=opacity
        )
        if look.ground is not None and kind == "cutout":
            return replace(drawing, ground=look.ground.behind(photo, soft, look.threshold))
        return drawing

    def _object_share(self, part: Part) -> NDArray[np.uint8]:
        """How much of each pixel of a part is the object, 0 to 255."""
        return _bytes(_share(self.soft.part(part), self.threshold) if self.opacity is None else self.opacity.part(part))

    @property
    def profile(self) -> bytes | None:
        """The ICC profile of what is drawn: that of the file's own colours."""
        return self.photo.profile if self.kind in ("cutout", "overlay") and self.ground is None else None

    @property
    def mode(self) -> str:
        """Of the image that is drawn, as Pillow calls it."""
        return "RGB" if self.ground is not None else _mode(self.kind)

    def bands(self, box: Part) -> Iterator[Image.Image]:
        """The parts of a box from above, none of them large."""
        left, top, right, bottom = box
        for l, t, r, b in parts((right - left, bottom - top), _BAND * PART):  # noqa: E741
            yield self.within((left + l, top + t, left + r, top + b))

    def square(self, box: Part, side: int, margin: float) -> Image.Image:
        """What is in a box, in the middle of a square of `side` [pixels]; `margin` is a share of its longer side."""
        left, top, right, bottom = box
        width, height = right - left, bottom - top
        scale = side / (max(width, height) * (1 + 2 * margin))
        fit = max(1, round(width * scale)), max(1, round(height * scale))
        small, inner = reduced_by_parts(
            (width, height),
            "RGBA",
            lambda part: self._cut((left + part[0], top + part[1], left + part[2], top + part[3])),
            fit,
            resample=Image.Resampling.LANCZOS,
        )
        cut = _without_bright_rim(small, fit, inner)
        if not self.keep_hidden:  # a filter leaves shades of the ground where the opacity rounds to nothing
            cut.paste((0, 0, 0, 0), mask=cut.getchannel("A").point(lambda opacity: 255 * (not opacity)))
        place = (side - fit[0]) // 2, (side - fit[1]) // 2
        if self.ground is not None:
            whole = self.ground.part((side, side), (0, 0, side, side))
            whole.paste(cut.convert("RGB"), place, cut.getchannel("A"))
        else:
            whole = Image.new("RGBA", (side, side))
            whole.paste(cut, place)
        if self.profile is not None:
            whole.info["icc_profile"] = self.profile
        return whole

    def _cut(self, part: Part) -> Image.Image:
        """A part of the cut-out (RGBA); for another ground in sRGB."""
        share = self._object_share(part)
        colours = self.photo.own_of(part) if self.edge is None else self.edge.taken_off(self.photo, share, part)
        if self.ground is not None:
            colours = in_srgb(colours, self.photo.profile)
        if self.opacity is None:
            opacity = opacity_of(self.soft, part, self.threshold, self.feather)
        else:
            opacity = self.opacity.part(part)
        return cutout(colours, self.photo.dimmed(opacity, part), keep_hidden=self.keep_hidden)

    def within(self, box: Part) -> Image.Image:
        """The part in this box, drawn piece by piece."""
        left, top, right, bottom = box
        result = Image.new(self.mode, (right - left, bottom - top))
        for piece in _tiles(box):
            result.paste(self._piece(piece), (piece[0] - left, piece[1] - top))
        if self.profile is not None:
            result.info["icc_profile"] = self.profile
        return result

    def _piece(self, part: Part) -> Image.Image:
        if self.kind == "cutout":
            cut = self._cut(part)
            if self.ground is None:
                return cut
            below = self.ground.part(self.photo.size, part)
            below.paste(cut.convert("RGB"), mask=cut.getchannel("A"))
            return below
        if self.kind == "mask":
            inside = self.photo.within(self.soft.part(part), part) > self.threshold
            return Image.fromarray(np.where(inside, np.uint8(255), np.uint8(0)))
        if self.kind == "soft":
            return Image.fromarray(_bytes(self.photo.within(self.soft.part(part), part)))
        radius = line_radius(self.photo.size)
        around, inner = _around(part, math.ceil(radius) + 1, self.photo.size)
        mask = self.photo.within(self.soft.part(around), around) > self.threshold
        return outline(self.photo.own_over_white_of(around), mask, radius=radius).crop(inner)
