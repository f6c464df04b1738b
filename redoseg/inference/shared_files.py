"""The files that all pictures of a folder share: coco.json, and the review with its table."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from redoseg.errors import RedosegError
from redoseg.files import make_folder, printable, why_not_write, write_atomic
from redoseg.images.coco import Annotated, document, pictures_of
from redoseg.images.draw import captioned, encoded, grid

COCO_FILE = "coco.json"
REVIEW_TABLE = "review.csv"
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


class SharedFiles:
    """What all pictures of a folder share, collected and written.

    Args:
        out: the folder.
        coco: the path of coco.json; None if there is none.
        review: whether there is a review.
        label: what the object is called in coco.json.
        inputs: real paths of what is read, which is never replaced.
    """

    def __init__(self, out: Path, coco: Path | None, review: bool, label: str, inputs: set[str]) -> None:
        self.out, self.coco_file, self.review, self.label, self.inputs = out, coco, review, label, inputs
        self.coco: dict[str, Annotated] = {}
        self.reviewed: dict[str, Reviewed] = {}
        self._changed, self._next = False, time.monotonic() + _EVERY

    def begin(self, pictures: int, overwrite: bool, keep: bool) -> None:
        """Look at what is there, before the work on so many pictures; with `keep` its entries are kept.

        Raises RedosegError where a file may not be written.
        """
        if keep:
            self._read()
            overwrite = overwrite or not self._foreign()
        names = [self.out / name for name in self._review_names(pictures)] if self.review else []
        for target in [*([self.coco_file] if self.coco_file else []), *names]:
            problem = why_not_write(target, self.inputs, overwrite)
            if problem:
                raise RedosegError(f"{printable(target)} {problem}")

    def _review_names(self, pictures: int) -> list[str]:
        return [REVIEW_TABLE, *(_page(n + 1) for n in range(math.ceil(pictures / (_COLUMNS * _ROWS))))]

    def _read(self) -> None:
        if self.coco_file is not None:
            try:
                found = pictures_of(json.loads(self.coco_file.read_bytes()))
                self.coco = {picture.file_name: picture for picture in found}
            except (OSError, ValueError, RecursionError):
                pass
        if self.review:
            self.reviewed = {one.name: one for one in _earlier_review(self.out)}

    def _foreign(self) -> bool:
        """Whether one of the files exists that no earlier run has written."""
        if self.coco_file is not None and self.coco_file.exists() and not self.coco:
            return True
        return self.review and (self.out / REVIEW_TABLE).exists() and not self.reviewed

    def add(self, coco: Annotated | None, reviewed: Reviewed | None) -> None:
        """Take in what one picture gave; now and then all is written."""
        if coco is not None:
            self.coco[coco.file_name] = coco
        if reviewed is not None:
            self.reviewed[reviewed.name] = reviewed
        self._changed = True
        if (self.coco or self.reviewed) and time.monotonic() >= self._next:
            before = time.monotonic()
            self.write()
            self._next = time.monotonic() + max(_EVERY, 20 * (time.monotonic() - before))

    def write(self) -> list[Path]:
        """Write those for which there is something; returns their paths."""
        if not self._changed or not (self.coco or self.reviewed):
            return []
        make_folder(self.out)
        files: dict[Path, bytes] = {}
        if self.coco and self.coco_file is not None:
            files[self.coco_file] = coco_content(
                [self.coco[name] for name in sorted(self.coco, key=_parts)], self.label
            )
        if self.reviewed:
            entries = sorted(self.reviewed.values(), key=lambda one: (one.confidence, _parts(one.name)))
            size = _COLUMNS * _ROWS
            pages = [entries[i : i + size] for i in range(0, len(entries), size)]
            files |= {self.out / _page(number): _page_content(page) for number, page in enumerate(pages, 1)}
            for name in _pages_of(self.out / REVIEW_TABLE):  # of an earlier, longer review
                if self.out / name not in files and os.path.realpath(self.out / name) not in self.inputs:
                    (self.out / name).unlink(missing_ok=True)
            files[self.out / REVIEW_TABLE] = _table_content(pages)
        for path, data in files.items():
            write_atomic(path, data)
        self._changed = False
        return list(files)


def coco_content(pictures: Sequence[Annotated], label: str) -> bytes:
    """What coco.json contains."""
    return json.dumps(document(pictures, label)).encode()


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parts


def _page(number: int) -> str:
    return f"review-{number}.jpg"


def _rows_of(table: Path) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(io.StringIO(table.read_text("utf-8"))))
    except (OSError, ValueError, csv.Error):
        return []


def _pages_of(table: Path) -> set[str]:
    """The pages that an earlier review wrote, as its table has them."""
    return {name for row in _rows_of(table) if re.fullmatch(r"review-\d+\.jpg", name := row.get("page") or "")}


def _earlier_review(out: Path) -> list[Reviewed]:
    """The pictures of the review in a folder, cut out of its pages; none of a page that cannot be read."""
    found = []
    pages: dict[str, list[dict[str, str]]] = {}
    for row in _rows_of(out / REVIEW_TABLE):
        pages.setdefault(row.get("page") or "", []).append(row)
    for page, rows in pages.items():
        try:
            with Image.open(out / page, formats=["JPEG"]) as file:
                sheet = file.convert("RGB")
            for place, row in enumerate(rows):
                left = _GAP + place % _COLUMNS * (TILE + _GAP)
                top = _GAP + place // _COLUMNS * (TILE + _CAPTION + _GAP)
                if left + TILE > sheet.width or top + TILE > sheet.height:
                    raise ValueError("the page is too small")
                tile = encoded(sheet.crop((left, top, left + TILE, top + TILE)), "JPEG", quality=95)
                figures = float(row["confidence"]), float(row["object_share"])
                found.append(Reviewed(*figures, row["picture"], tile, row["key"]))
        except (OSError, ValueError, KeyError, TypeError, Image.DecompressionBombError):
            continue
    return found


def _table_content(pages: Sequence[Sequence[Reviewed]]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["picture", "confidence", "object_share", "page", "key"])
    for number, entries in enumerate(pages, 1):
        for one in entries:
            rows.writerow([one.name, f"{one.confidence:.4f}", f"{one.share:.4f}", _page(number), one.key])
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
