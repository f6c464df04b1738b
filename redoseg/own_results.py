"""How redoseg knows its own results from photographs: a mark and a key in each picture, the files of a run's folder."""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator

MARK = {"Software": "redoseg result"}
"""What stands in a comment of every picture that redoseg writes. `info` of a PIL image takes it along into a PNG."""
_MARK = MARK["Software"].encode()
_KEY = b"tEXtredoseg key\0"
_KEYS = re.compile(rb'(?:redoseg key\0|^\{"redoseg_key": ")([0-9a-f]{32})')
_HEAD = 1024  # bytes; the mark and the key are within them
_OWN_FOLDERS = (  # files that only a folder made by redoseg has together
    {"config.json", "log.jsonl"},
    {"config.json", "state.safetensors"},
    {"dataset.json", "images.npy"},
    {"results.jsonl", "runs"},
)


def marked(data: bytes | Iterable[bytes], key: str = "") -> Iterator[bytes | memoryview]:
    """What a file contains, in pieces, with the mark and the key where it is a picture; as for `write_atomic`."""
    pieces = iter([data] if isinstance(data, bytes) else data)
    head = next(pieces, b"")
    start, at = _marked_start(head, key)
    yield start
    yield memoryview(head)[at:]
    yield from pieces


def _chunk(body: bytes) -> bytes:
    """A chunk of a PNG file, of its type and content."""
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _marked_start(content: bytes, key: str) -> tuple[bytes, int]:
    """The start of a PNG, JPEG, GIF or WebP file with the mark, and where the file continues; nothing of another."""
    at, mark = 0, b""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        at, mark = 33, _chunk(b"tEXtSoftware\0" + _MARK)  # after the header
        mark += _chunk(_KEY + key.encode()) if key else b""
    elif content.startswith(b"\xff\xd8"):
        # JFIF wants its own segment to be the first
        at = 4 + int.from_bytes(content[4:6], "big") if content[2:4] == b"\xff\xe0" else 2
        comments = [_MARK, b"redoseg key\0" + key.encode()] if key else [_MARK]
        mark = b"".join(b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text for text in comments)
    elif content[:4] == b"RIFF" and content[8:16] == b"WEBPVP8X":
        text = _MARK + (b" redoseg key\0" + key.encode() if key else b"")
        chunk = b"RDSG" + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2)  # readers pass over it
        size = struct.unpack("<I", content[4:8])[0] + len(chunk)
        return content[:4] + struct.pack("<I", size) + content[8:] + chunk, len(content)
    elif content.startswith((b"GIF87a", b"GIF89a")):
        at = 13 + (3 * (2 << (content[10] & 7)) if content[10] & 0x80 else 0)  # after the palette
        mark = b"!\xfe" + bytes([len(_MARK)]) + _MARK + b"\0"
        return b"GIF89a" + content[6:at] + mark, at  # which may have comments
    return content[:at] + mark, at


def is_result(path: str | os.PathLike[str] | bytes) -> bool:
    """Whether a file, or what it contains, is a picture that redoseg wrote; False where it cannot be read."""
    return _MARK in _head(path)


def key_of(path: str | os.PathLike[str] | bytes) -> str | None:
    """The key of a picture or in the head of a JSON file; "" without one, None where no such file can be read.

    In place of a path it takes what the file contains.
    """
    found = _KEYS.search(head := _head(path))
    return found[1].decode() if found else "" if head else None


def _head(path: str | os.PathLike[str] | bytes) -> bytes:
    if isinstance(path, bytes):
        return path[:_HEAD] + (path[-_HEAD:] if path[:4] == b"RIFF" else b"")
    try:
        # without blocking: it may be a FIFO
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            head: bytes = file.read(_HEAD)
            if head[:4] == b"RIFF" and head[8:12] == b"WEBP":  # whose mark is at the end
                file.seek(max(len(head), os.fstat(file.fileno()).st_size - _HEAD))
                head += file.read(_HEAD)
            return head
    except OSError:
        return b""


def is_own_folder(names: Collection[str]) -> bool:
    """Whether a folder with files of these names is a run, a study or a prepared set."""
    return any(own.issubset(names) for own in _OWN_FOLDERS)
