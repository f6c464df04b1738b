"""Whether a TIFF file is a camera's raw picture, of which a decoder of TIFF finds only the thumbnail, or nothing."""

from __future__ import annotations

import struct
from typing import IO

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
RAW_TIFF_STARTS = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0")  # Olympus, Panasonic: TIFF in all but these bytes

_PHOTOMETRIC, _SUB_FOLDERS, _DNG_VERSION = 262, 330, 50706
_OF_SENSOR = (32803, 34892)  # photometric: a mosaic of colours, and what was computed of it without a camera's curve
_MOST_FOLDERS, _MOST_ENTRIES = 32, 1024


def is_raw_start(head: bytes) -> bool:
    """Whether a file that starts so is a camera's raw picture, as some are that look like TIFF."""
    return head.startswith(RAW_TIFF_STARTS) or (
        head.startswith(TIFF_STARTS) and (head[8:10] == b"CR" or head[8:12] in (b"IIII", b"MMMM"))
    )


def is_camera_raw(file: IO[bytes]) -> bool:
    """Whether a file is a TIFF with values of a sensor in any of its folders, a DNG by its own word, or begins as raw.

    The file is left at its begin. What is damaged is not raw.
    """
    try:
        return _has_raw(file)
    except (struct.error, OSError, OverflowError, ValueError):
        return False
    finally:
        file.seek(0)


def _has_raw(file: IO[bytes]) -> bool:
    file.seek(0)
    head = file.read(16)
    if is_raw_start(head):
        return True
    if not head.startswith(TIFF_STARTS):
        return False
    order = "<" if head[:2] == b"II" else ">"
    if b"+" in head[2:4]:
        count_of, entry, pointer = "Q", "HHQ8s", "Q"
        waiting = [struct.unpack(order + "8xQ", head)[0]]
    else:
        count_of, entry, pointer = "H", "HHL4s", "L"
        waiting = [struct.unpack(order + "4xL", head[:8])[0]]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_FOLDERS:
        at = waiting.pop(0)
        if at == 0 or at in seen:
            continue
        seen.add(at)
        file.seek(at)
        (count,) = struct.unpack(order + count_of, file.read(struct.calcsize(order + count_of)))
        size = struct.calcsize(order + entry)
        if count > _MOST_ENTRIES:
            continue
        table = file.read(count * size)
        following = file.read(struct.calcsize(order + pointer))
        for tag, kind, length, value in struct.iter_unpack(order + entry, table[: len(table) // size * size]):
            if tag == _DNG_VERSION:
                return True
            if tag == _PHOTOMETRIC and kind == 3 and struct.unpack(order + "H", value[:2])[0] in _OF_SENSOR:
                return True
            if tag == _SUB_FOLDERS:
                waiting += _pointers(file, order, kind, length, value)
        if len(following) == struct.calcsize(order + pointer):
            waiting += struct.unpack(order + pointer, following)
    return False


def _pointers(file: IO[bytes], order: str, kind: int, length: int, value: bytes) -> tuple[int, ...]:
    """Where the folders of a folder are."""
    item = "Q" if kind in (16, 18) else "L"
    length = min(length, _MOST_FOLDERS)
    form = f"{order}{length}{item}"
    needed = struct.calcsize(form)
    if needed > len(value):
        file.seek(struct.unpack(order + ("Q" if len(value) == 8 else "L"), value)[0])
        value = file.read(needed)
    return tuple(struct.unpack(form, value[:needed]))
