"""Photographs with their soft masks: previews for the page, and files to download."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.config.kinds import DrawnKind
from redoseg.errors import DataError
from redoseg.files import printable, write_atomic
from redoseg.images.backdrop import Ground, image_ground
from redoseg.images.draw import checkerboard, encoded
from redoseg.images.objects import Found, objects_of
from redoseg.images.photo import Photo, SoftMask
from redoseg.images.read import MAX_PIXELS, read_photo
from redoseg.inference.doubt import is_doubtful
from redoseg.inference.object_mask import CLEANING, cleaned, object_of, object_share
from redoseg.inference.one_image import frame_of
from redoseg.inference.request import Request, digest_of
from redoseg.inference.results import drawn, file_of, image_of
from redoseg.inference.segmenter import cleaning_for
from redoseg.system import Room

PREVIEW = 1024  # the longer side of what the page shows [pixels]; downloads have the photograph's size
ZOOM = 2048  # of photograph and cut-out side by side, into which one can zoom
MOST_BYTES = 700 * 10**6  # to decode a photograph; gradio and the rest of the page take up to 280 MB
_GROUND = 4096  # the longer side of a picture that is kept as a ground; a larger one is made smaller
_CUTOUT = Request(kinds=("cutout",))

SAVED: tuple[tuple[DrawnKind, str], ...] = (("mask", ""), ("cutout", "-cutout"), ("soft", "-soft"))
"""The kinds of files to download, each with what is added to the photograph's name."""


class HasSoftMask(Protocol):
    """What the page needs of a segmenter."""

    name: str

    def soft_mask(self, photo: Photo) -> tuple[SoftMask, float]:
        """The object's soft mask, and how sure the network is of it, 0 to 1."""


def seen_name(path: Path) -> Path:
    """The name of an upload, without the dot that hides a file: nothing hidden is segmented, or sent to a browser."""
    return Path(path.name.lstrip(".") or "photograph")


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
        room: for the pixels of all that are worked on; its own if None.
    """

    def __init__(self, segmenter: HasSoftMask, most: int, room: Room | None = None) -> None:
        self.segmenter, self.most = segmenter, most
        self.cleaning = cleaning_for(getattr(segmenter, "edges", "guided"), CLEANING)  # stand-ins have none
        self._kept: OrderedDict[tuple[str, int], Cut] = OrderedDict()
        self._lock = threading.Lock()
        self.room = room or Room(MAX_PIXELS)  # large photographs wait for each other

    def of(self, path: Path) -> Cut:
        """The upright photograph and the network's soft mask of it. Raises DataError, without the folder's name."""
        with self.held(path) as cut:
            return cut

    @contextlib.contextmanager
    def held(self, path: Path) -> Iterator[Cut]:
        """The same for work that lasts as long as the block: until then it counts as in memory."""
        with self.room.shared() as take:
            yield self._of(path, take)

    def _of(self, path: Path, take: Callable[[int], None]) -> Cut:
        try:
            seen = path.stat()
            key = str(path), seen.st_mtime_ns
            os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))  # now its hour begins again
        except (OSError, ValueError):
            raise DataError("The photograph has been deleted. The page keeps it for an hour. Drop it again.") from None
        known = self._pixels_of(key)
        if known:  # it stays in memory as long as it is used, also if others make it be forgotten
            take(known)
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]

        def make_room(pixels: int) -> None:
            if not known:  # one that waits for more while it has some could wait for ever
                take(pixels)
            self._forget(pixels)  # only now is it known how many those are

        photo = self._read(path, make_room)
        found = _cut(photo, *self.segmenter.soft_mask(photo))
        self._forget(photo.pixels)
        with self._lock:
            self._kept[key] = found
        return found

    def _pixels_of(self, key: tuple[str, int]) -> int:
        """Those of a photograph that is kept; 0 of any other."""
        with self._lock:
            return self._kept[key].photo.pixels if key in self._kept else 0

    def _read(self, path: Path, take: Callable[[int], None]) -> Photo:
        try:
            return read_photo(path, most=self.most, take=take, most_bytes=MOST_BYTES)
        except DataError as error:
            raise type(error)(str(error).replace(printable(path), printable(path.name))) from None

    def ground(self, path: Path) -> Ground:
        """A picture as the ground of cut-outs. Raises DataError, without the folder's name."""
        with self.room.shared() as take:
            photo = self._read(path, take)
            if max(photo.size) > _GROUND:
                photo = photo.shrunk(_size_within(photo.size, _GROUND))
        return image_ground(path, photo)

    def _forget(self, pixels: int) -> None:
        """Forget the oldest photographs until so many pixels more may be kept."""
        with self._lock:
            while self._kept and sum(cut.photo.pixels for cut in self._kept.values()) + pixels > self.most:
                self._kept.popitem(last=False)

    def files(self, path: Path, threshold: float, folder: Path, cutout: Request = _CUTOUT) -> list[Path]:
        """Write the files of SAVED into a new folder below `folder`; returns their paths.

        `cutout` says how the cut-out looks. The others are PNG files of the photograph's size.
        """
        with self.held(path) as cut:
            mask = cleaned(cut.photo, cut.soft, threshold, self.cleaning)
            target_folder = folder / secrets.token_hex(16)
            target_folder.mkdir(parents=True)
            written = []
            digest = digest_of(path)
            for kind, suffix in SAVED:
                base = cutout if kind == "cutout" else Request(kinds=(kind,))
                request = replace(base, threshold=threshold, cleaning=self.cleaning)
                target = target_folder / f"{seen_name(path).stem}{suffix}{request.suffix(kind)}"
                frame = frame_of(request, _framed(cut.photo, mask, request), cut.photo.size)
                soft = cut.soft if kind == "soft" else mask
                pieces = file_of(cut.photo, soft, kind, request.look_of(kind), **frame._asdict())
                write_atomic(target, pieces, request.key(self.segmenter, kind, digest))
                written.append(target)
            return written

    def previews(self, path: Path, threshold: float, cutout: Request = _CUTOUT) -> tuple[list[Image.Image], str]:
        """Overlay, mask and cut-out with at most PREVIEW pixels a side, and a sentence about the object's size."""
        with self.held(path) as cut:
            return self._previews(cut, threshold, cutout)

    def _previews(self, cut: Cut, threshold: float, cutout: Request) -> tuple[list[Image.Image], str]:
        width, height = cut.photo.size
        soft = cleaned(cut.photo, cut.soft, threshold, self.cleaning)
        share = object_share(cut.photo, soft, threshold)
        words = (
            f"{width} × {height} pixels; the object covers {100 * share:.1f} % at a threshold of "
            f"{threshold:.2f}. Model {printable(self.segmenter.name)}, confidence {cut.confidence:.2f}."
        )
        if cut.photo.note:
            words += f" The photograph {cut.photo.note}."
        if is_doubtful(cut.confidence):
            words += " **This mask looks doubtful.**"
        small = soft if cut.small.size == cut.photo.size else soft.shrunk(cut.small.size)
        overlay, mask = (drawn(cut.small, small, kind, threshold) for kind in ("overlay", "mask"))
        request = replace(cutout, threshold=threshold)
        frame = frame_of(request, _framed(cut.small, small, request), cut.small.size)
        shown = image_of(cut.small, small, "cutout", request.look, **frame._asdict())
        return [overlay, mask, _on_checks(shown)], words

    def before_after(self, path: Path, threshold: float, folder: Path, cutout: Request = _CUTOUT) -> list[Path]:
        """Write photograph and cut-out as JPEG files of one size, of at most ZOOM pixels a side; returns their paths.

        The cut-out is on its ground, but neither cropped nor square.
        """
        with self.held(path) as cut:
            size = _size_within(cut.photo.size, ZOOM)
            soft = cleaned(cut.photo, cut.soft, threshold, self.cleaning)
            small = soft if size == cut.photo.size else soft.shrunk(size)
            photo = cut.photo.shrunk(size)
        after = image_of(
            photo, small, "cutout", replace(cutout, threshold=threshold, square=0, crop=False, margin=None).look
        )
        target_folder = folder / secrets.token_hex(16)
        target_folder.mkdir(parents=True)
        targets = [target_folder / f"{seen_name(path).stem}-{side}.jpg" for side in ("before", "after")]
        targets[0].write_bytes(encoded(photo.rgb, "JPEG", quality=90))
        write_atomic(targets[1], encoded(_on_checks(after), "JPEG", quality=90))
        return targets

    def to_correct(self, path: Path, threshold: float) -> tuple[Image.Image, NDArray[np.bool_], NDArray[np.bool_]]:
        """A small copy of the photograph (RGB), its mask (h, w), and the photograph's mask (H, W)."""
        with self.held(path) as cut:
            soft = cleaned(cut.photo, cut.soft, threshold, self.cleaning)
            small = soft if cut.small.size == cut.photo.size else soft.shrunk(cut.small.size)
            return cut.small.rgb, object_of(cut.small, small, threshold), object_of(cut.photo, soft, threshold)


def _framed(photo: Photo, soft: SoftMask, request: Request) -> Found | None:
    """The object that a crop or a square shows; None where all of the photograph is shown. Raises DataError."""
    if not (request.crop or request.square):
        return None
    found = objects_of(object_of(photo, soft, request.threshold))
    if not found:
        raise DataError("There is no object to crop to. Lower the threshold, or show the whole photograph.")
    return found[0]


def _on_checks(image: Image.Image) -> Image.Image:
    """On a checkerboard where it is transparent (RGB)."""
    return Image.alpha_composite(checkerboard(image.size), image).convert("RGB") if image.mode == "RGBA" else image


def _size_within(size: tuple[int, int], most: int) -> tuple[int, int]:
    """A size of the same proportions whose longer side has at most so many pixels."""
    shrink = min(1.0, most / max(size))
    return max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))


def _cut(photo: Photo, soft: SoftMask, confidence: float) -> Cut:
    return Cut(photo, soft, confidence, photo.shrunk(_size_within(photo.size, PREVIEW)))
