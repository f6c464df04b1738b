"""What is made of a photograph and the soft mask of its object: masks, cut-outs and overlays, part by part."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.images.draw import cutout, line_radius, outline
from redoseg.images.foreground import EdgeColours
from redoseg.images.photo import LARGE, PART, Part, Photo, SoftMask, parts
from redoseg.images.png import png_chunks

Kind = Literal["mask", "soft", "cutout", "overlay", "coco"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_BAND = 4  # times PART: pixels of the rows that are drawn before they are packed


def drawn(
    photo: Photo,
    soft: SoftMask,
    kind: Kind,
    threshold: float = 0.5,
    *,
    keep_hidden: bool = False,
    box: Part | None = None,
) -> Image.Image:
    """What is made of a photograph and the network's soft mask of it, 0 to 1, cut at `threshold`.

    "mask" is grey of 0 and 255, "soft" grey of 0 to 255 (and not cut), "cutout" RGBA, "overlay" RGB. A cut-out and an
    overlay have the file's own colours, and in `info` the profile that describes them, which Pillow writes into a file.
    A cut-out is no more opaque than the file, and at its soft edge it has the object's colours alone. `box` is the part
    to draw, all of it if None.
    """
    return _Drawing.of(photo, soft, kind, threshold, keep_hidden).within(box or photo.whole)


def png_of(
    photo: Photo,
    soft: SoftMask,
    kind: Kind,
    threshold: float = 0.5,
    *,
    keep_hidden: bool = False,
    box: Part | None = None,
) -> Iterable[bytes]:
    """The PNG file of what `drawn` gives, in pieces. Of a large picture no more than some rows are there at a time."""
    left, top, right, bottom = box or photo.whole
    size = right - left, bottom - top
    drawing = _Drawing.of(photo, soft, kind, threshold, keep_hidden)
    if size[0] * size[1] <= LARGE:
        return [as_png(drawing.within(box or photo.whole))]

    def bands() -> Iterator[Image.Image]:
        for l, t, r, b in parts(size, _BAND * PART):  # noqa: E741
            yield drawing.within((left + l, top + t, left + r, top + b))

    return png_chunks(size, _mode(kind), bands(), drawing.profile)


def as_png(image: Image.Image) -> bytes:
    """The picture as a PNG file, packed quickly rather than tightly."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def result_key(
    segmenter: object,
    image: Path,
    kind: Kind,
    *,
    threshold: float = 0.5,
    crop: bool = False,
    keep_hidden: bool = False,
) -> str:
    """What a result is made of (model, settings and the picture's bytes), as 32 hexadecimal digits; "" if unreadable.

    A result that has this key need not be made again.
    """
    settings = [
        getattr(segmenter, "identity", ""),  # stand-ins for a segmenter have none
        kind,
        crop and kind != "coco",
        keep_hidden and kind == "cutout",
        None if kind == "soft" and not crop else float(threshold),
    ]
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=16)
    try:
        if not image.is_file():  # a FIFO is never waited for
            return ""
        with open(image, "rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    except OSError:
        return ""
    return digest.hexdigest()


def _mode(kind: Kind) -> str:
    return {"cutout": "RGBA", "overlay": "RGB"}.get(kind, "L")


def _tiles(box: Part) -> Iterator[Part]:
    """Parts of a box of at most PART pixels, as square as they may be, so that little more lies around them."""
    left, top, right, bottom = box
    rows = max(1, min(bottom - top, max(math.isqrt(PART), PART // max(1, right - left))))
    columns = max(1, PART // rows)
    for first_row in range(top, bottom, rows):
        for first in range(left, right, columns):
            yield first, first_row, min(first + columns, right), min(first_row + rows, bottom)


def _share(soft: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """How much of each pixel is the object, 0 to 1: half at the threshold.

    It rises faster than the soft mask, through whose own edge the background would show.
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
    edge: EdgeColours | None
    """The colours at the edge of a cut-out; None of other kinds, and where they cannot be guessed."""

    @classmethod
    def of(cls, photo: Photo, soft: SoftMask, kind: Kind, threshold: float, keep_hidden: bool) -> _Drawing:
        edge = None
        if kind == "cutout":
            edge = EdgeColours.guess(photo, lambda part: _bytes(_share(soft.part(part), threshold)))
        return cls(photo, soft, kind, threshold, keep_hidden, edge)

    @property
    def profile(self) -> bytes | None:
        """The ICC profile of what is drawn: that of the file's own colours."""
        return self.photo.profile if self.kind in ("cutout", "overlay") else None

    def within(self, box: Part) -> Image.Image:
        """The part in this box, drawn piece by piece."""
        left, top, right, bottom = box
        result = Image.new(_mode(self.kind), (right - left, bottom - top))
        for piece in _tiles(box):
            result.paste(self._piece(piece), (piece[0] - left, piece[1] - top))
        if self.profile is not None:
            result.info["icc_profile"] = self.profile
        return result

    def _piece(self, part: Part) -> Image.Image:
        if self.kind == "cutout":
            values = self.soft.part(part)
            share = _share(values, self.threshold)
            # not opaque at all outside the mask, so that mask and cut-out show the same
            opacity = np.where(values > self.threshold, share, np.float32(0))
            colours = (
                self.photo.own_of(part) if self.edge is None else self.edge.taken_off(self.photo, _bytes(opacity), part)
            )
            return cutout(colours, self.photo.dimmed(opacity, part), keep_hidden=self.keep_hidden)
        if self.kind == "mask":
            inside = self.photo.within(self.soft.part(part), part) > self.threshold
            return Image.fromarray(np.where(inside, np.uint8(255), np.uint8(0)))
        if self.kind == "soft":
            return Image.fromarray(_bytes(self.photo.within(self.soft.part(part), part)))
        left, top, right, bottom = part
        radius = line_radius(self.photo.size)
        margin = math.ceil(radius) + 1
        first_x, first_y = max(0, left - margin), max(0, top - margin)
        around = first_x, first_y, min(right + margin, self.photo.size[0]), min(bottom + margin, self.photo.size[1])
        mask = self.photo.within(self.soft.part(around), around) > self.threshold
        overlay = outline(self.photo.own_over_white_of(around), mask, radius=radius)
        return overlay.crop((left - first_x, top - first_y, right - first_x, bottom - first_y))
