"""TIFF files that are larger than memory, read part by part: only the tiles or strips that a part needs are decoded.

Needs tifffile, the part `tiff` of redoseg; some compressions need imagecodecs too.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.errors import DataError, MissingError
from redoseg.files import describe_error, printable
from redoseg.images.colour import profile_of
from redoseg.images.photo import Part, Photo

KEPT = 2**28  # bytes of tiles or strips that are decoded and kept
MOST_SEGMENT = 2**28  # bytes of one of them, decoded

_RGB, _MIN_IS_WHITE, _MIN_IS_BLACK, _YCBCR = 2, 0, 1, 6


def is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF file does."""
    try:
        with open(path, "rb") as file:
            head = file.read(4)
    except OSError:
        return False
    return head[:2] in (b"II", b"MM") and head[2:].strip(b"\0") in (b"*", b"+")


def read_big_tiff(path: Path) -> Photo:
    """The first page of a TIFF file, of which nothing is decoded yet.

    Raises DataError, one line with the reason, for a file that is broken or has a form that is not read by parts, and
    MissingError without tifffile.
    """
    try:
        import tifffile
    except ImportError:
        raise MissingError.of("a TIFF file of this size needs tifffile, which", "tiff") from None
    try:
        with contextlib.ExitStack() as opened:  # closed again where the file is refused
            file = opened.enter_context(tifffile.TiffFile(path))
            page: Any = file.pages.first
            pages = _Pages(path, page)
            stored = Image.new("L" if pages.channels == 1 else "RGB", (1, 1))
            icc = page.tags.get(34675)
            if icc is not None:
                stored.info["icc_profile"] = icc.value
            pages.read((0, 0, 1, 1))  # what cannot be decoded is known now
            weakref.finalize(pages, opened.pop_all().close)
    except DataError:
        raise
    except Exception as error:  # tifffile raises nearly anything on a damaged file
        if "imagecodecs" in str(error):
            raise DataError(
                f"{printable(path)}: its compression needs the package imagecodecs; run: pip install imagecodecs"
            ) from None
        raise DataError(f"{printable(path)}: cannot be read ({describe_error(error)}); replace or remove it") from error
    return BigTiff(stored, described=profile_of(stored), pages=pages)


@dataclass(frozen=True)
class BigTiff(Photo):
    """A photograph that stays in its file."""

    pages: _Pages | None = None

    @property
    def size(self) -> tuple[int, int]:
        assert self.pages is not None
        return self.pages.size

    @property
    def _is_rgb(self) -> bool:
        return False

    def _values(self, part: Part) -> tuple[Image.Image, None]:
        assert self.pages is not None
        return Image.fromarray(self.pages.read(part)), None


class _Pages:
    """The pixels of a page. Safe in several threads."""

    def __init__(self, path: Path, page: Any) -> None:
        self._path, self._page, self._lock = path, page, threading.Lock()
        self._kept: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0
        self.size = int(page.imagewidth), int(page.imagelength)
        self.channels = 1 if int(page.samplesperpixel) == 1 else 3
        self._check()
        tiled = bool(page.is_tiled)
        self._tile = (
            (int(page.tilewidth), int(page.tilelength))
            if tiled
            else (self.size[0], min(page.rowsperstrip, self.size[1]))
        )
        self._across = -(-self.size[0] // self._tile[0])
        self._mapped = page.asarray(out="memmap") if page.is_memmappable else None
        segment = self._tile[0] * self._tile[1] * int(page.samplesperpixel) * page.dtype.itemsize
        if self._mapped is None and segment > MOST_SEGMENT:
            raise DataError(
                f"{printable(path)}: its strips have {segment // 10**6:,} MB each, but at most "
                f"{MOST_SEGMENT // 10**6} MB are read; save it in tiles, or without compression"
            )

    def _check(self) -> None:
        """Raises DataError for a form that is not read by parts."""
        page = self._page
        orientation = page.tags.get(274)
        for wrong, seen, wanted in (
            (
                page.dtype is None or page.dtype not in (np.uint8, np.uint16),
                page.dtype,
                "whole numbers of 8 or 16 bits",
            ),
            (int(page.planarconfig or 1) == 2, "planes", "the colours of a pixel side by side"),
            (page.photometric not in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _YCBCR), page.photometric, "grey or RGB"),
            (page.samplesperpixel == 2, "two channels", "grey or RGB"),
            (int(page.imagedepth) != 1, "a volume", "one image"),
            (orientation is not None and int(orientation.value) != 1, "turned by a tag", "stored upright"),
        ):
            if wrong:
                raise DataError(
                    f"{printable(self._path)}: it is {seen}, but a TIFF file that is read part by part must be "
                    f"{wanted}; save it again"
                )

    def read(self, part: Part) -> NDArray[np.uint8]:
        """Part of the picture, (h, w) of grey or (h, w, 3)."""
        left, top, right, bottom = part
        if self._mapped is not None:
            return self._bytes_of(self._mapped[top:bottom, left:right])
        shape = (bottom - top, right - left, 3)[: 2 if self.channels == 1 else 3]
        found = np.zeros(shape, np.uint8)
        width, height = self._tile
        for row in range(top // height, -(-bottom // height)):
            for column in range(left // width, -(-right // width)):
                x, y = column * width, row * height
                tile = self._segment(row * self._across + column)
                first_x, first_y = max(left, x), max(top, y)
                piece = tile[first_y - y : bottom - y, first_x - x : right - x]
                found[first_y - top :, first_x - left :][: piece.shape[0], : piece.shape[1]] = piece
        return found

    def _segment(self, number: int) -> NDArray[np.uint8]:
        """A tile or strip, decoded."""
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
            page = self._page
            file = page.parent.filehandle
            file.seek(page.dataoffsets[number])
            packed = file.read(page.databytecounts[number]) if page.databytecounts[number] else None
            decoded, _, _ = page.decode(packed, number, jpegtables=page.jpegtables)
            if decoded is None:  # a tile that the file does not store
                decoded = np.zeros((1, self._tile[1], self._tile[0], page.samplesperpixel), page.dtype)
            found = self._bytes_of(decoded[0])
            self._kept[number] = found
            self._bytes += found.nbytes
            while self._bytes > KEPT and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
            return found

    def _bytes_of(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Values (h, w) or (h, w, channels) as 8 bits of grey or RGB."""
        if values.ndim == 3:
            values = values[..., 0] if self.channels == 1 else values[..., :3]
        if values.dtype == np.uint16:
            values = (values // 257).astype(np.uint8)
        values = np.ascontiguousarray(values, np.uint8)
        return 255 - values if self._page.photometric == _MIN_IS_WHITE else values
