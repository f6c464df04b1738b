"""Photographs with their soft masks: previews for the page, and files to download."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from redoseg.config.kinds import DrawnKind
from redoseg.errors import DataError
from redoseg.files import printable, write_atomic
from redoseg.images.draw import checkerboard
from redoseg.images.photo import Photo, SoftMask
from redoseg.images.read import MAX_PIXELS, read_photo
from redoseg.inference.doubt import is_doubtful
from redoseg.inference.object_mask import CLEANING, cleaned, object_of
from redoseg.inference.request import Request, digest_of
from redoseg.inference.results import drawn, png_of
from redoseg.inference.segmenter import cleaning_for
from redoseg.system import Room

PREVIEW = 1024  # the longer side of what the page shows [pixels]; downloads have the photograph's size

SAVED: tuple[tuple[DrawnKind, str], ...] = (("mask", ""), ("cutout", "-cutout"), ("soft", "-soft"))
"""The kinds of files to download, each with what is added to the photograph's name."""


class HasSoftMask(Protocol):
    """What the page needs of a segmenter."""

    name: str

    def soft_mask(self, photo: Photo) -> tuple[SoftMask, float]:
        """The object's soft mask, and how sure the network is of it, 0 to 1."""


@dataclass(frozen=True)
class Cut:
    """A photograph, its soft mask, and what the page shows of them."""

    photo: Photo
    soft: SoftMask
    confidence: float
    small: Photo
    """In sRGB, with at most PREVIEW pixels a side."""


class Cuts:
    """Photographs with their soft masks. The latest stay in memory, so another threshold runs no network.

    Args:
        segmenter: computes the soft masks.
        most: most pixels of one photograph, and of all that stay in memory together; up to 8 bytes each.
    """

    def __init__(self, segmenter: HasSoftMask, most: int) -> None:
        self.segmenter, self.most = segmenter, most
        self._cleaning = cleaning_for(getattr(segmenter, "edges", "guided"), CLEANING)  # stand-ins have none
        self._kept: OrderedDict[tuple[str, int], Cut] = OrderedDict()
        self._lock = threading.Lock()
        self._room = Room(MAX_PIXELS)  # large photographs wait for each other

    def of(self, path: Path) -> Cut:
        """The upright photograph and the network's soft mask of it. Raises DataError, without the folder's name."""
        with self._room.shared() as take:
            return self._of(path, take)

    def _of(self, path: Path, take: Callable[[int], None]) -> Cut:
        try:
            key = str(path), path.stat().st_mtime_ns
        except (OSError, ValueError):
            raise DataError("The photograph has been deleted. The page keeps it for an hour. Drop it again.") from None
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]

        def make_room(pixels: int) -> None:
            take(pixels)
            self._forget(pixels)  # only now is it known how many those are

        try:
            photo = read_photo(path, most=self.most, take=make_room)
        except DataError as error:
            raise DataError(str(error).replace(printable(path), printable(path.name))) from None
        found = _cut(photo, *self.segmenter.soft_mask(photo))
        self._forget(photo.pixels)
        with self._lock:
            self._kept[key] = found
        return found

    def _forget(self, pixels: int) -> None:
        """Forget the oldest photographs until so many pixels more may be kept."""
        with self._lock:
            while self._kept and sum(cut.photo.pixels for cut in self._kept.values()) + pixels > self.most:
                self._kept.popitem(last=False)

    def files(self, path: Path, threshold: float, folder: Path) -> list[Path]:
        """Write the files of SAVED, of the photograph's size, into a new folder below `folder`; returns their paths."""
        with self._room.shared() as take:
            cut = self._of(path, take)
            mask = cleaned(cut.photo, cut.soft, threshold, self._cleaning)
            target_folder = folder / secrets.token_hex(16)
            target_folder.mkdir(parents=True)
            written = []
            request, digest = Request(threshold=threshold, cleaning=self._cleaning), digest_of(path)
            for kind, suffix in SAVED:
                target = target_folder / f"{path.stem}{suffix}.png"
                key = request.key(self.segmenter, kind, digest)
                write_atomic(target, png_of(cut.photo, cut.soft if kind == "soft" else mask, kind, threshold), key)
                written.append(target)
            return written

    def previews(self, path: Path, threshold: float) -> tuple[list[Image.Image], str]:
        """Overlay, mask and cut-out with at most PREVIEW pixels a side, and a sentence about the object's size."""
        cut = self.of(path)
        width, height = cut.photo.size
        soft = cleaned(cut.photo, cut.soft, threshold, self._cleaning)
        share = object_of(cut.photo, soft, threshold).mean()
        words = (
            f"{width} × {height} pixels; the object covers {100 * share:.1f} % at a threshold of "
            f"{threshold:.2f}. Model {printable(self.segmenter.name)}, confidence {cut.confidence:.2f}."
        )
        if cut.photo.note:
            words += f" The photograph {cut.photo.note}."
        if is_doubtful(cut.confidence):
            words += " **This mask looks doubtful.**"
        small = soft if cut.small.size == cut.photo.size else soft.shrunk(cut.small.size)
        overlay, mask, shown = (drawn(cut.small, small, kind, threshold) for kind in ("overlay", "mask", "cutout"))
        on_checks = Image.alpha_composite(checkerboard(shown.size), shown).convert("RGB")
        return [overlay, mask, on_checks], words


def _cut(photo: Photo, soft: SoftMask, confidence: float) -> Cut:
    shrink = min(1.0, PREVIEW / max(photo.size))
    size = max(1, round(photo.size[0] * shrink)), max(1, round(photo.size[1] * shrink))
    return Cut(photo, soft, confidence, photo.shrunk(size))
