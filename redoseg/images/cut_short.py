"""JPEGs whose last bytes are missing, as an interrupted download or a full card leaves them."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageFile

from redoseg.images.decoding_cost import kind_not_read, segments
from redoseg.images.photo import LARGE, parts

_MISSING = 0.05  # the largest share of pixels that may be missing
_FEW = 1024  # pixels that may be missing at least, up to a quarter of a small picture: libjpeg's blocks have 256
_BLOCK = 18  # rows of pixels that one row of blocks can change, with its neighbours' share of its colour
_END = b"\xff\xd9"
# What could have followed: no zeros, as which libjpeg takes what is missing, and no 255, with which markers begin.
_OTHER = bytes(1 + (i * 151 + 180) % 254 for i in range(254)) * 64


def complete(content: bytes, size: int | None) -> tuple[ImageFile.ImageFile, int]:
    """A JPEG that ends early, decoded as far as it goes, and in how many of its last rows pixels are missing.

    libjpeg continues from the last bytes that it has. Where its result depends on what is appended to the file, the
    pixels are missing. In a large JPEG only its brightness is compared, since two copies do not fit the memory; the
    colours of some ten rows more may be missing. `size` is as for `read_photo`. Raises OSError where more than one
    pixel in 20 is missing, a progressive JPEG lacks whole passes, or libjpeg does not decode a JPEG of this kind.
    """
    content = content.rstrip(b"\xff")  # half of a marker, with which the next byte would be one
    odd = kind_not_read(content)
    if odd:
        raise OSError(f"{odd}, which is not read")
    if _lacks_passes(content):
        raise OSError("the file is truncated: passes of a progressive JPEG are missing")
    with Image.open(io.BytesIO(content)) as whole:
        rows, pixels = whole.height, whole.width * whole.height
    grey = size is None and pixels > LARGE
    other_end = _OTHER + _next_restart(content) + _OTHER + _END
    some, other = _decoded(content + _END, size, grey), _decoded(content + other_end, size, grey)
    width, height = some.size
    first, missing, block = height, 0, -(-_BLOCK * height // rows)
    for part in parts(some.size):
        here = ImageChops.difference(some.crop(part).convert("RGB"), other.crop(part).convert("RGB"))
        different = np.nonzero(np.asarray(here).any(axis=2))[0] + part[1]
        first = min(first, int(different.min(initial=first)))
        # of the rows in which it ends, what differs; below them all is missing, though it may look the same
        missing += int(np.count_nonzero(different < first + block))
    missing += max(0, height - first - block) * width
    share = missing / (width * height)
    if share > max(_MISSING, min(_FEW / pixels, 0.25)):
        raise OSError(f"the file is truncated: {100 * share:.0f} % of its pixels are missing")
    lacking = round((height - first) * rows / height)
    if not grey:
        return some, lacking
    del some, other  # first: all of a large one takes half a gigabyte
    return _decoded(content + _END), lacking


def note_of(missing: int) -> str:
    """What to say of a picture with so many rows that are not whole, after its name."""
    if not missing:
        return "ends early; no pixel is missing"
    return f"ends early; pixels of its last {'row' if missing == 1 else f'{missing:,} rows'} are missing"


def notes_of(ended: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """A note on pictures that end early, each its name and what `note_of` says; none for none."""
    if not ended:
        return ()
    name, what = ended[0]
    if len(ended) == 1:
        return (f"{name} {what}",)
    return (f"{len(ended):,} pictures end early but are used, first of all {name}: it {what}",)


def _decoded(content: bytes, size: int | None = None, grey: bool = False) -> ImageFile.ImageFile:
    image = Image.open(io.BytesIO(content), formats=("JPEG",))
    if grey:
        image.draft("L", (image.width // (4 if image.mode == "CMYK" else 1), 1))  # only that of CMYK gets no smaller
    elif size is not None:
        image.draft(None, (2 * size, 2 * size))
    image.load()
    return image


def _next_restart(content: bytes) -> bytes:
    """The marker that a JPEG's pixels continue after, if it was cut just where its marker of a restart should be."""
    last = re.findall(rb"\xff([\xd0-\xd7])", content[content.rfind(b"\xff\xda") :])
    return bytes((0xFF, 0xD0 + (last[-1][0] - 0xD0 + 1) % 8 if last else 0xD0))


def _lacks_passes(content: bytes) -> bool:
    """Whether a progressive JPEG ends before each of its frequencies has begun its last pass."""
    channels, seen = 0, set[tuple[int, int]]()
    progressive = False
    for kind, body in segments(content):
        if kind == 0xC2 and len(body) > 5:
            progressive, channels = True, body[5]
        elif kind == 0xDA and len(body) >= 4 and progressive:
            count, first, last, low = body[0], body[-3], body[-2], body[-1] & 15
            if low == 0:
                seen.update((body[1 + 2 * i], f) for i in range(count) for f in range(first, last + 1))
    return progressive and len(seen) < 64 * channels
