"""How much memory decoding a picture takes. Some libraries hold a picture several times, or all passes of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import IO

from PIL import ImageFile

MOST_BYTES = 850 * 10**6  # with the program and what is made of a picture part by part, less than a gigabyte
_SMALL = 40 * 10**6  # pixels; no JPEG of so few takes more than MOST_BYTES

_NOT_READ = dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "a lossless JPEG") | {0xF7: "a JPEG-LS picture"}
_NOT_READ |= dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "a hierarchical JPEG")

# Bytes a pixel. libwebp makes two copies and Pillow two more; those of AVIF and HEIC depend on bits and subsampling.
_OF_FORMAT = {"WEBP": 16, "AVIF": 16, "HEIF": 12}
_OF_MODE = {"1": 1, "L": 1, "P": 1, "I;16": 3, "I;16B": 3, "I;16L": 3, "I;16N": 3, "I": 5, "F": 5}  # all others: 4


def bytes_to_decode(image: ImageFile.ImageFile, file: IO[bytes], pixels: int) -> int:
    """The most memory that decoding takes [bytes], of an image that is opened and not decoded yet.

    `file` is the image's file and is left anywhere. `pixels` is the number of pixels that are stored in the file; the
    image has fewer if it is decoded reduced.
    """
    result = image.width * image.height * _OF_FORMAT.get(image.format or "", _OF_MODE.get(image.mode, 4))
    if image.format in ("JPEG", "MPO") and pixels > _SMALL:
        file.seek(0)
        return result + _bytes_of_passes(file.read())
    if image.format == "TIFF":  # a tile may be larger than the image
        return result + _bytes_of_strip(image)
    return result


def advice(kind: str) -> str:
    """What to do about a picture of a format, as Pillow names it, that takes more memory than is used."""
    if kind in ("JPEG", "MPO"):
        return "save it as a JPEG that is not progressive, or make it smaller"
    if kind == "TIFF":
        return "save it in strips of few rows, or as PNG"
    return "save it as PNG or JPEG, or make it smaller"


def segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The segments of a JPEG, each its kind (the marker's second byte) and what it contains."""
    at = 2
    while (at := content.find(b"\xff", at)) >= 0 and at + 4 <= len(content):
        kind = content[at + 1]
        if kind in (0, 0xFF) or 0xD0 <= kind <= 0xD9:  # within the pixels
            at += 1 if kind == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        yield kind, content[at + 4 : end]
        at = end


def kind_not_read(content: bytes) -> str:
    """Of a JPEG of a kind that libjpeg does not decode, what it is; else empty."""
    for kind, body in segments(content):
        if kind in _NOT_READ:
            return _NOT_READ[kind]
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return f"a JPEG with {body[0]} bits a channel" if body[:1] not in (b"", b"\x08") else ""
    return ""


def _bytes_of_passes(content: bytes) -> int:
    """What libjpeg holds of a JPEG with several passes: two bytes for each number that is stored."""
    frame, progressive = b"", False
    for kind, body in segments(content):
        if kind in (0xC0, 0xC1, 0xC2) and len(body) >= 6:
            frame, progressive = body, kind == 0xC2
        elif kind == 0xDA:  # the pixels begin
            if not frame or not body or (not progressive and body[0] == frame[5]):
                return 0
            break
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    sampled = [(body >> 4 or 1) * (body & 15 or 1) for body in frame[7::3]]
    whole = max(((body >> 4 or 1) for body in frame[7::3]), default=1)
    whole *= max(((body & 15 or 1) for body in frame[7::3]), default=1)
    return 2 * width * height * sum(sampled) // whole


def _bytes_of_strip(image: ImageFile.ImageFile) -> int:
    """What libtiff holds of a TIFF: its largest strip or tile, packed and unpacked."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(259, 1) == 1:  # not packed: it is read row by row
        return 0
    width, rows = tags.get(322, image.width), min(tags.get(323, tags.get(278, image.height)), image.height)
    bits = tags.get(258, (1,))
    in_planes = tags.get(284) == 2
    of_pixel = math.ceil((max(bits) if in_planes else sum(bits)) / 8)
    packed = tags.get(325, tags.get(279, (0,)))
    return int(width * rows * max(of_pixel, 1) + max(packed if isinstance(packed, tuple) else (packed,)))
