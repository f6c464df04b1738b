"""PNG files written part by part, for images of which no whole copy may be made."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOUR_TYPES = {"L": 0, "RGB": 2, "RGBA": 6}
_LEVEL = 3  # packed quickly rather than tightly
_CHUNK = 2**20  # bytes

_Bytes = NDArray[np.uint8]


def png_chunks(
    size: tuple[int, int], mode: str, pieces: Iterable[Image.Image], profile: bytes | None = None
) -> Iterator[bytes]:
    """A PNG file of `size` (width, height), `mode` "L", "RGB" or "RGBA", in pieces to be written one after another.

    Args:
        pieces: the image in the order of its rows; each has whole rows, or is a piece of one row.
        profile: the ICC profile of its colours.
    """
    yield b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">2L5B", *size, 8, COLOUR_TYPES[mode], 0, 0, 0))
    if profile is not None:
        yield _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile))
    packer, packed = zlib.compressobj(_LEVEL), bytearray()
    for row in _filtered(size[0], len(mode), pieces):
        packed += packer.compress(row.data)
        if len(packed) > _CHUNK:
            yield _chunk(b"IDAT", packed)
            packed.clear()
    yield _chunk(b"IDAT", packed + packer.flush()) + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes | bytearray) -> bytes:
    return struct.pack(">L", len(content)) + name + content + struct.pack(">L", zlib.crc32(content, zlib.crc32(name)))


def _filtered(width: int, channels: int, pieces: Iterable[Image.Image]) -> Iterator[_Bytes]:
    """Rows as PNG wants them before they are packed: less what is left of a pixel, or above it."""
    above = np.zeros((1, width * channels), np.uint8)
    left = np.zeros((1, channels), np.uint8)
    done = 0  # pixels of a row that comes in pieces
    for piece in pieces:
        rows = np.asarray(piece).reshape(piece.height, piece.width * channels)
        if piece.width == width:
            few = max(1, _CHUNK // rows.shape[1])  # at a time, since there are several copies of them
            for first in range(0, len(rows), few):
                some = rows[first : first + few]
                yield _best(some, np.concatenate([above, some[:-1]]), channels)
                above = some[-1:]
            continue
        if done == 0:
            yield np.ones(1, np.uint8)  # all of the row less what is left of it
            left = np.zeros((1, channels), np.uint8)
        yield rows - np.concatenate([left, rows[:, :-channels]], axis=1)
        left = rows[:, -channels:]
        done = (done + piece.width) % width


def _best(rows: _Bytes, above: _Bytes, channels: int) -> _Bytes:
    """Each row in whichever of three forms has the smallest numbers, after the form's number."""
    beside = np.concatenate([np.zeros((len(rows), channels), np.uint8), rows[:, :-channels]], axis=1)
    best, least = np.concatenate([np.zeros((len(rows), 1), np.uint8), rows], axis=1), _sizes(rows)
    for number, other in ((1, beside), (2, above)):
        form = rows - other
        sizes = _sizes(form)
        better = sizes < least
        best[better, 0], best[better, 1:] = number, form[better]
        least = np.minimum(sizes, least)
    return best


def _sizes(rows: _Bytes) -> NDArray[np.int64]:
    """The sum of each row's numbers, as signed ones without their signs."""
    return np.minimum(rows, -rows).sum(axis=1, dtype=np.int64)
