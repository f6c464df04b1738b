"""The numbers in a MATLAB 5 file, read by a small bounded parser: the plain install needs no scipy for one list."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redoseg.errors import DataError
from redoseg.files import printable

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_LIMIT = 2**26  # bytes unpacked: the official file needs 33 kB


def read_mat(path: str | Path) -> dict[str, NDArray[np.float64]]:
    """The numeric matrices of a MATLAB 5 file, by name, flattened. Raises DataError for any other."""
    path = Path(path)
    try:
        data = path.read_bytes()
        if len(data) < 128 or data[126:128] not in (b"IM", b"MI"):
            raise ValueError("no MATLAB 5 header")
        order = "<" if data[126:128] == b"IM" else ">"
        found = {}
        for kind, body in _elements(data[128:], order):
            if kind == _COMPRESSED:
                unpacker = zlib.decompressobj()
                kind, body = _elements(unpacker.decompress(body, _LIMIT), order)[0]
            if kind == _MATRIX:
                parts = _elements(body, order)
                if len(parts) > 3 and parts[3][0] in _NUMBERS:  # flags, dimensions, name, values
                    values = np.frombuffer(parts[3][1], order + _NUMBERS[parts[3][0]])
                    found[parts[2][1].decode("ascii")] = values.astype(np.float64)
        return found
    except (OSError, ValueError, IndexError, struct.error, zlib.error) as error:
        raise DataError(
            f"{printable(path)}: cannot be read ({error}); expected a MATLAB 5 file; fetch it again"
        ) from error


def _elements(data: bytes, order: str) -> list[tuple[int, bytes]]:
    """The data elements of a MAT file: (type, bytes)."""
    found, at = [], 0
    while at + 8 <= len(data):
        kind, count = struct.unpack_from(order + "II", data, at)
        if kind >> 16:  # a small element: length and type in one word, up to four bytes in the other
            kind, count, start = kind & 0xFFFF, kind >> 16, at + 4
            at += 8
        else:
            start = at + 8
            at = start + count
            if kind != _COMPRESSED:  # all others are padded
                at += -at % 8
        if start + count > len(data):
            raise ValueError("it ends too early")
        found.append((kind, data[start : start + count]))
    return found
