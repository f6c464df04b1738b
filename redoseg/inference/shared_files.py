"""The files that all pictures of a folder share: those of labelling tools, and the review with table and histograms."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from PIL import Image

from redoseg.config.kinds import Kind
from redoseg.errors import DataError, RedosegError
from redoseg.files import printable
from redoseg.images.draw import captioned, encoded, grid
from redoseg.images.labels.entry import Entry
from redoseg.inference.histograms import check_drawable, histogram_page
from redoseg.inference.labelling import OneFile
from redoseg.inference.stores import Store, store_of
from redoseg.storage import Place

REVIEW_TABLE = "review.csv"
REVIEW_MEASURES = "review-measures.png"
TILE = 128  # a picture's side on a page of the review [pixels]

_COLUMNS, _ROWS, _GAP, _CAPTION = 8, 12, 4, 14  # of a page [tiles, tiles, pixels, pixels]
_EVERY = 60.0  # seconds between two writings, so that a kill costs no more


@dataclass(frozen=True)
class Reviewed:
    """A picture on a page of the review."""

    confidence: float
    share: float
    """The object's share of the picture."""
    name: str
    """Printable."""
    tile: bytes
    """A JPEG of TILE x TILE pixels."""
    key: str = ""
    file: str = ""
    """The picture's path from the folder of the review."""
    mask: str = ""
    """That of its mask; empty where none is written."""
    verdict: str = ""
    """What a person wrote into the table: accept or refuse."""


class SharedFiles:
    """What all pictures of a folder share, collected and written.

    Args:
        out: the folder of the review.
        formats: the file of each kind that has one for all pictures, and its format.
        beside: small files with what they contain, which are written with the others.
        review: whether there is a review.
        label: what the object is called.
        inputs: real paths of what is read, which is never replaced.
    """

    def __init__(
        self,
        out: Place,
        formats: Mapping[Kind, tuple[Place, OneFile]],
        beside: Mapping[Place, bytes],
        *,
        review: bool,
        label: str,
        inputs: set[str],
    ) -> None:
        self.out, self.formats, self.beside = out, formats, beside
        self.store = store_of(out)
        self.review, self.label, self.inputs = review, label, inputs
        self.entries: dict[Kind, dict[str, Entry]] = {kind: {} for kind in formats}
        self.reviewed: dict[str, Reviewed] = {}
        self._any, self._changed, self._next = False, False, time.monotonic() + _EVERY

    def begin(self, count: int, overwrite: bool, keep: bool) -> None:
        """Look at what is there, before the work on so many pictures; with `keep` its entries are kept.

        Raises RedosegError where a file may not be written, and MissingError.
        """
        if self._histograms:
            check_drawable()
        if keep:
            self._read()
            overwrite = overwrite or not self._foreign()
        names = [self.out / name for name in self._review_names(count)] if self.review else []
        other = [path for path, content in self.beside.items() if not _contains(self.store, path, content)]
        for target in [*(path for path, _ in self.formats.values()), *other, *names]:
            problem = self.store.why_not_write(target, self.inputs, overwrite)
            if problem:
                raise RedosegError(f"{printable(target)} {problem}")

    @property
    def _histograms(self) -> bool:
        return self.review and "measures" in self.formats

    def _review_names(self, count: int) -> list[str]:
        pages = [_page(n + 1) for n in range(math.ceil(count / (_COLUMNS * _ROWS)))]
        return [REVIEW_TABLE, *([REVIEW_MEASURES] if self._histograms else []), *pages]

    def _read(self) -> None:
        for kind, (path, form) in self.formats.items():
            with contextlib.suppress(OSError, ValueError, RecursionError):
                self.entries[kind] = {entry.name: entry for entry in form.entries_of(self.store.read(path))}
        if self.review:
            self.reviewed = {one.name: one for one in earlier_review(self.out, self.store)}

    def _foreign(self) -> bool:
        """Whether one of the files exists that no earlier run has written."""
        if any(self.store.exists(path) and not self.entries[kind] for kind, (path, _) in self.formats.items()):
            return True
        return self.review and self.store.exists(self.out / REVIEW_TABLE) and not self.reviewed

    def add(self, entries: Mapping[Kind, Entry], reviewed: Reviewed | None) -> None:
        """Take in what one picture gave; now and then all is written."""
        for kind, entry in entries.items():
            self.entries[kind][entry.name] = entry
        if reviewed is not None:
            self.reviewed[reviewed.name] = reviewed
        self._any = True
        self._changed |= bool(entries) or reviewed is not None
        if (any(self.entries.values()) or self.reviewed) and time.monotonic() >= self._next:
            before = time.monotonic()
            self.write()
            self._next = time.monotonic() + max(_EVERY, 20 * (time.monotonic() - before))

    def write(self) -> list[Place]:
        """Write those for which there is something; returns their paths."""
        store = self.store
        files = {path: data for path, data in self.beside.items() if self._any and not _contains(store, path, data)}
        for kind, (path, form) in self.formats.items():
            if self._changed and (entries := self.entries[kind]):
                files[path] = form.content([entries[name] for name in sorted(entries, key=_parts)], self.label)
        if self._changed and self.reviewed:
            files |= self._review()
        for path, content in files.items():
            store.write(path, [content])
        self._changed = False
        return list(files)

    def _review(self) -> dict[Place, bytes]:
        """The pages of the review and its table. Pages of an earlier, longer one are removed."""
        entries = sorted(self.reviewed.values(), key=lambda one: (one.confidence, _parts(one.name)))
        size = _COLUMNS * _ROWS
        pages = [entries[i : i + size] for i in range(0, len(entries), size)]
        files: dict[Place, bytes] = {}
        for number, page in enumerate(pages, 1):
            files[self.out / _page(number)] = _page_content(page)
        for name in _pages_of(self.out / REVIEW_TABLE, self.store):
            if self.out / name not in files and os.path.realpath(self.out / name) not in self.inputs:
                self.store.remove(self.out / name)
        files[self.out / REVIEW_TABLE] = _table_content(pages)
        if self._histograms and self.entries["measures"]:
            files[self.out / REVIEW_MEASURES] = histogram_page(list(self.entries["measures"].values()))
        return files


def _contains(store: Store, path: Place, content: bytes) -> bool:
    try:
        return store.read(path) == content
    except OSError:
        return False


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parts


def _page(number: int) -> str:
    return f"review-{number}.jpg"


def _rows_of(table: Place, store: Store) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(io.StringIO(store.read(table).decode("utf-8-sig"))))
    except (OSError, ValueError, csv.Error):
        return []


def _pages_of(table: Place, store: Store) -> set[str]:
    """The pages that an earlier review wrote, as its table has them."""
    return {name for row in _rows_of(table, store) if re.fullmatch(r"review-\d+\.jpg", name := row.get("page") or "")}


def earlier_review(out: Place, store: Store | None = None) -> list[Reviewed]:
    """The pictures of the review in a folder, cut out of its pages; none of a page that cannot be read."""
    store = store or store_of(out)
    found = []
    pages: dict[str, list[dict[str, str]]] = {}
    for row in _rows_of(out / REVIEW_TABLE, store):
        pages.setdefault(row.get("page") or "", []).append(row)
    for page, rows in pages.items():
        try:
            with Image.open(io.BytesIO(store.read(out / page)), formats=["JPEG"]) as file:
                sheet = file.convert("RGB")
            rows.sort(key=lambda row: float(row["confidence"]))  # somebody may have sorted the table otherwise
            for place, row in enumerate(rows):
                left = _GAP + place % _COLUMNS * (TILE + _GAP)
                top = _GAP + place // _COLUMNS * (TILE + _CAPTION + _GAP)
                if left + TILE > sheet.width or top + TILE > sheet.height:
                    raise ValueError("the page is too small")
                tile = encoded(sheet.crop((left, top, left + TILE, top + TILE)), "JPEG", quality=95)
                figures = float(row["confidence"]), float(row["object_share"])
                more = [row.get(column) or "" for column in ("file", "mask", "verdict")]
                found.append(Reviewed(*figures, row["picture"], tile, row["key"], *more))
        except (OSError, DataError, ValueError, KeyError, TypeError, Image.DecompressionBombError):
            continue
    return found


def _table_content(pages: Sequence[Sequence[Reviewed]]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["picture", "verdict", "confidence", "object_share", "page", "file", "mask", "key"])
    for number, entries in enumerate(pages, 1):
        for one in entries:
            figures = f"{one.confidence:.4f}", f"{one.share:.4f}"
            rows.writerow([one.name, one.verdict, *figures, _page(number), one.file, one.mask, one.key])
    return text.getvalue().encode()


def _page_content(entries: Sequence[Reviewed]) -> bytes:
    tiles = [
        captioned(
            Image.open(io.BytesIO(one.tile)).convert("RGB"),
            f"{one.confidence:.2f} {one.name if len(one.name) < 18 else '...' + one.name[-15:]}",
            _CAPTION,
        )
        for one in entries
    ]
    return encoded(grid([tiles[i : i + _COLUMNS] for i in range(0, len(tiles), _COLUMNS)], _GAP), "JPEG", quality=88)
