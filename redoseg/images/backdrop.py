"""Another ground for a cut-out: a colour, a picture, or the photograph's own ground, blurred."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageFilter

from redoseg.errors import DataError
from redoseg.files import at_home, printable
from redoseg.images.grounds import own_ground
from redoseg.images.photo import Part, Photo, SoftMask
from redoseg.images.read import read_photo

BLUR = "blur"
_SMALL = 512  # longer side at which a ground is blurred [pixels]
_RADIUS = 1 / 40  # of the blur, as a share of the longer side


@dataclass(frozen=True)
class Ground:
    """What is put behind an object, sRGB. One of its three is given."""

    identity: str
    """A text that another ground does not have."""
    colour: tuple[int, int, int] | None = None
    image: Photo | None = None
    """Scaled so that it covers the result, about its middle."""
    path: Path | None = None
    """The picture's file."""

    def behind(self, photo: Photo, soft: SoftMask, threshold: float) -> Ground:
        """The ground for one photograph: itself, or the photograph's own without the object, blurred."""
        if self.colour is not None or self.image is not None:
            return self
        shrink = min(1.0, _SMALL / max(photo.size))
        size = max(1, round(photo.size[0] * shrink)), max(1, round(photo.size[1] * shrink))
        image = np.asarray(photo.resized(size), np.float32)
        mask = (soft if size == photo.size else soft.shrunk(size)).whole() > threshold
        filled = Image.fromarray(own_ground(image, mask).clip(0, 255).round().astype(np.uint8))
        return Ground(self.identity, image=Photo(filled.filter(ImageFilter.GaussianBlur(_RADIUS * max(size)))))

    def part(self, size: tuple[int, int], part: Part) -> Image.Image:
        """A part of it (RGB), in a result of this size (width, height)."""
        left, top, right, bottom = part
        if self.colour is not None:
            return Image.new("RGB", (right - left, bottom - top), self.colour)
        assert self.image is not None
        width, height = self.image.size
        scale = max(size[0] / width, size[1] / height)
        x, y = (width - size[0] / scale) / 2, (height - size[1] / scale) / 2
        box = (x + left / scale, y + top / scale, x + right / scale, y + bottom / scale)
        inside = (max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height))
        return self.image.resized((right - left, bottom - top), inside, resample=Image.Resampling.BICUBIC)


def ground_of(text: str) -> Ground | None:
    """The ground that a text names: a colour as white or #ff8800, blur, or the path of a picture; None if empty.

    Raises DataError for any other, and for a picture that cannot be read.
    """
    if not text:
        return None
    if not isinstance(text, str):
        raise DataError(
            f"the ground is {text!r}, but must be a text such as white, #ff8800 or blur; choose one of these"
        )
    if text == BLUR:
        return Ground(BLUR)
    path = at_home(text)
    if path.is_file():
        return image_ground(path, read_photo(path))
    try:
        red, green, blue, *more = ImageColor.getrgb(text)
    except ValueError:
        more = [0]
    if more:
        raise DataError(
            f"the ground is {printable(text)!r}, but must be a colour such as white or #ff8800, blur, or the path of a "
            "picture; choose one of these"
        )
    return Ground(f"#{red:02x}{green:02x}{blue:02x}", colour=(red, green, blue))


def image_ground(path: Path, image: Photo) -> Ground:
    """A picture as a ground, which is read already from this file."""
    return Ground(hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest(), image=image, path=path)
