"""Photographs with their soft masks: previews for the page, and files to download."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.errors import DataError
from redoseg.files import printable, write_atomic
from redoseg.images.colour import in_srgb
from redoseg.images.draw import checkerboard
from redoseg.images.read import Photo, read_photo
from redoseg.inference.segment_files import Kind, as_png, drawn, is_large

PREVIEW = 1024  # the longer side of what the page shows [pixels]; downloads have the photograph's size

SAVED: tuple[tuple[Kind, str], ...] = (("mask", ""), ("cutout", "-cutout"), ("soft", "-soft"))
"""The kinds of files to download, each with what is added to the photograph's name."""


class HasSoft(Protocol):
    """What the page needs of a segmenter."""

    def soft(self, image: Photo) -> NDArray[np.float32]:
        """The object's soft mask (H, W), 0 to 1."""


class Cuts:
    """Photographs with their soft masks. The latest stay in memory, so another threshold runs no network.

    Args:
        segmenter: computes the soft masks.
        most: most pixels of one photograph, and of all that stay in memory together; 7 to 14 bytes each.
    """

    def __init__(self, segmenter: HasSoft, most: int) -> None:
        self.segmenter, self.most = segmenter, most
        self._kept: OrderedDict[tuple[str, int], tuple[Photo, NDArray[np.float32]]] = OrderedDict()
        self._lock = threading.Lock()
        self._one_large = threading.Lock()

    def of(self, path: Path) -> tuple[Photo, NDArray[np.float32]]:
        """The upright photograph and the network's soft mask of it. Raises DataError, without the folder's name."""
        try:
            key = str(path), path.stat().st_mtime_ns
        except (OSError, ValueError):
            raise DataError("The photograph has been deleted. The page keeps it for an hour. Drop it again.") from None
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        try:
            photo = read_photo(path, most=self.most)
        except DataError as error:
            raise DataError(str(error).replace(printable(path), printable(path.name))) from None
        with self._alone_if_large(photo.rgb):
            found = photo, self.segmenter.soft(replace(photo, alpha=None))
        with self._lock:
            self._kept[key] = found
            while sum(soft.size for _, soft in self._kept.values()) > self.most and len(self._kept) > 1:
                self._kept.popitem(last=False)
        return found

    def files(self, path: Path, threshold: float, folder: Path) -> list[Path]:
        """Write the files of SAVED, of the photograph's size, into a new folder below `folder`; returns their paths."""
        photo, soft = self.of(path)
        target_folder = folder / secrets.token_hex(16)
        target_folder.mkdir(parents=True)
        written = []
        with self._alone_if_large(photo.rgb):
            for kind, suffix in SAVED:
                target = target_folder / f"{path.stem}{suffix}.png"
                write_atomic(target, as_png(drawn(photo, soft, kind, threshold)))
                written.append(target)
        return written

    def previews(self, path: Path, threshold: float) -> tuple[list[Image.Image], str]:
        """Overlay, mask and cut-out with at most PREVIEW pixels a side, and a sentence about the object's size."""
        photo, soft = self.of(path)
        words = (
            f"{photo.rgb.width} × {photo.rgb.height} pixels; the object covers "
            f"{100 * float((photo.within(soft) > threshold).mean()):.1f} % at a threshold of {threshold:.2f}."
        )
        shrink = min(1.0, PREVIEW / max(photo.rgb.size))
        if shrink < 1:
            size = max(1, round(photo.rgb.width * shrink)), max(1, round(photo.rgb.height * shrink))

            def small(plane: Image.Image) -> Image.Image:
                return plane.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)

            alpha, own = photo.alpha and small(photo.alpha), photo.colours and small(photo.colours)
            photo = Photo(small(photo.rgb), alpha, own, profile=photo.profile)
            soft = np.asarray(Image.fromarray(soft).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)
        if photo.profile is not None:  # a page shows sRGB
            photo = replace(photo, colours=in_srgb(photo.own, photo.profile), profile=None)
        cut = drawn(photo, soft, "cutout", threshold)
        on_checks = Image.alpha_composite(checkerboard(cut.size), cut).convert("RGB")
        return [drawn(photo, soft, "overlay", threshold), drawn(photo, soft, "mask", threshold), on_checks], words

    def _alone_if_large(self, image: Image.Image) -> contextlib.AbstractContextManager[object]:
        """One large photograph at a time, since each needs much memory."""
        return self._one_large if is_large(image) else contextlib.nullcontext()
