"""The research sets in their own layouts. Every reader takes what is there and says what is missing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redoseg.data.folder import labelled_folder, list_folder
from redoseg.data.listing import Item, Listing
from redoseg.errors import DataError
from redoseg.pictures import BACKGROUND, OBJECT, read_picture, shown

# The paper trains on what Oxford calls the test pictures, and tests on the training pictures.
FLOWERS102_SPLITS = {"train": ("tstid", 6149), "val": ("valid", 1020), "test": ("trnid", 1020)}


def is_flowers102(source: str | Path) -> bool:
    """Whether the folder has Oxford's own layout of Flowers-102."""
    return Path(source, "setid.mat").is_file() and Path(source, "jpg").is_dir()


def flowers102(source: str | Path) -> Listing:
    """Flowers-102: `jpg/image_00001.jpg`, `setid.mat` and, if they are there, `segmim/segmim_00001.jpg`.

    Raises DataError if the layout is another.
    """
    source = Path(source)
    if not is_flowers102(source):
        missing = "jpg" if (source / "setid.mat").is_file() else "setid.mat"
        raise DataError(
            f"{shown(source)} has no {missing}, the layout of Flowers-102 expected: "
            "name the folder that holds jpg/, setid.mat and segmim/"
        )
    ids = read_mat(source / "setid.mat")
    items: list[Item] = []
    notes: list[str] = []
    for split, (key, official) in FLOWERS102_SPLITS.items():
        if key not in ids:
            raise DataError(
                f"{shown(source / 'setid.mat')} has no {key!r}, tstid, valid and trnid expected: fetch the file again"
            )
        found = []
        for number in sorted({int(i) for i in ids[key]}):
            picture = source / "jpg" / f"image_{number:05d}.jpg"
            mask = source / "segmim" / f"segmim_{number:05d}.jpg"
            if picture.is_file():
                found.append(Item(picture.stem, picture, mask if mask.is_file() else None, split, read_segmim))
        if len(found) != official:
            notes.append(f"{split}: {len(found)} of the official {official} pictures are here")
        items += found
    without = sum(item.mask is None for item in items)
    if without:
        notes.append(f"{without} of {len(items)} pictures have no mask in segmim/")
    return Listing(tuple(items), notes=tuple(notes))


def read_segmim(path: Path) -> NDArray[np.uint8]:
    """A Flowers-102 segmentation as a mask (H, W): background where R is 0, G is 0 or B is 254."""
    pixels = np.asarray(read_picture(path))
    background = (pixels[..., 0] == 0) | (pixels[..., 1] == 0) | (pixels[..., 2] == 254)
    return np.where(background, BACKGROUND, OBJECT).astype(np.uint8)


READERS: dict[str, Callable[[str | Path], Listing]] = {
    "flowers102": flowers102,
    "flowers17": labelled_folder,
    "butterflies": labelled_folder,
    "horses": labelled_folder,
    "celebamask": labelled_folder,
    "folder": list_folder,
}
"""Name of a set -> what lists its pictures."""


# ------------------------------------------------------------------------------------------------ MAT files

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
        raise DataError(f"{shown(path)}: cannot be read ({error}), a MATLAB 5 file expected: fetch it again") from error


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
