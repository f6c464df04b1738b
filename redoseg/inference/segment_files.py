"""Photographs in, masks out: one file, or a folder whose sub-folders are mirrored."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.errors import DataError, RedosegError
from redoseg.files import alone, make_folder, printable, why_not_write, write_atomic
from redoseg.images.coco import Annotated, annotated, bounding_box, document
from redoseg.images.crashes import DecodingNotes
from redoseg.images.draw import captioned, grid, tile_of
from redoseg.images.photo import Photo
from redoseg.images.read import IMAGE_SUFFIXES, MAX_PIXELS, list_images, note_results, read_photo
from redoseg.inference.results import KINDS, Kind, png_of
from redoseg.inference.segmenter import Segmenter, object_of
from redoseg.system import Room, in_order

COCO_FILE = "coco.json"
REVIEW_TABLE = "review.csv"

_MARGIN = 0.02  # around a crop, as a share of its longer side
_TILE, _COLUMNS, _ROWS = 128, 8, 12  # of a page of the review [pixels, tiles, tiles]


@dataclass(frozen=True)
class SegmentReport:
    """What became of a picture or a folder of pictures."""

    done: int
    failed: tuple[tuple[Path, str], ...]
    """Pictures without a result, each with its reason."""
    written: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    """What else a user should know."""


OnItem = Callable[[Path, int, int, str | None], None]
"""Called with a picture, the pictures done, their total, and why it failed if it did."""


@dataclass(frozen=True)
class _Wanted:
    kind: Kind
    crop: bool
    review: bool
    overwrite: bool
    label: str
    keep_hidden: bool


@dataclass(frozen=True)
class _Result:
    """What one picture gave."""

    png: Iterable[bytes] | None
    coco: Annotated | None
    reviewed: tuple[float, float, str, bytes] | None
    """Confidence, the object's share of the picture, name, and a tile as JPEG."""


def segment_paths(
    segmenter: Segmenter,
    source: str | Path,
    out: str | Path,
    *,
    kind: Kind = "mask",
    overwrite: bool = False,
    on_item: OnItem | None = None,
    crop: bool = False,
    keep_hidden: bool = False,
    review: bool = False,
    label: str = "",
) -> SegmentReport:
    """Segment one picture or a folder into PNG files of the same names and sub-folders under `out`.

    Args:
        kind: "mask" (0 and 255), "soft" (0 to 255), "cutout" (RGBA), "overlay" (drawn on the picture), all of the
            picture's own size; or "coco", one file `coco.json` for all pictures.
        source: a picture, or a folder.
        out: a folder; for one picture also a file ending in .png (.json for "coco").
        overwrite: whether files that are there may be replaced; a picture to segment never is.
        crop: cut the results to the box around the object, which must be there then.
        keep_hidden: leave the photograph below what is transparent in a cut-out; otherwise it is black there.
        review: of a folder, also write contact sheets `review-1.jpg`, ... that go from the least to the most sure
            picture, and `review.csv` in that order. It keeps some 5 kB in memory for each picture.
        label: what the object is called in COCO's file; the model's name if empty.

    Pictures that would give the same name keep their suffix in it (`a.jpg.png`). In a folder the rest continues after
    a picture that fails; stopped by hand, what all pictures share is written of those done. Raises RedosegError for a
    single picture that fails, or if `out` cannot be used.
    """
    source, out = Path(source), Path(out)
    if kind not in KINDS:
        raise RedosegError(f"kind {kind!r} is not known; choose one of {', '.join(KINDS)}")
    if kind == "coco" and crop:
        raise RedosegError(
            "crop cannot be combined with kind coco, whose masks and boxes are of whole pictures; remove one of them"
        )
    wanted = _Wanted(kind, crop, review, overwrite, label or segmenter.name, keep_hidden)
    if label and kind != "coco":
        raise RedosegError(f"a label cannot be combined with kind {kind}; remove the label, or choose kind coco")
    if source.is_dir():
        return _segment_folder(segmenter, source, out, wanted, on_item)
    if not source.exists():
        raise DataError(
            f"{printable(source)} does not exist; expected a picture or a folder of pictures; check the name"
        )
    if review:
        raise RedosegError(f"a review needs a folder, but {printable(source)} is one picture; remove the review")
    target = _target(source, out, kind)
    make_folder(target.parent)
    problem = why_not_write(target, {os.path.realpath(source)}, overwrite)
    if problem:
        raise RedosegError(f"{printable(target)} {problem}")
    result = _segmented(segmenter, read_photo(source), source, source.name, wanted)
    if result.png is not None:
        write_atomic(target, result.png)
    else:
        with alone(target.parent):  # a folder's results may be on their way into a file of that name
            problem = why_not_write(target, {os.path.realpath(source)}, overwrite)
            if problem:
                raise RedosegError(f"{printable(target)} {problem}")
            write_atomic(target, _coco_file([result.coco] if result.coco else [], wanted.label))
    if on_item is not None:
        on_item(source, 1, 1, None)
    return SegmentReport(1, (), (target,))


def _segment_folder(
    segmenter: Segmenter, source: Path, out: Path, wanted: _Wanted, on_item: OnItem | None
) -> SegmentReport:
    if (out.exists() and not out.is_dir()) or (not out.exists() and out.suffix.lower() in (".json", *IMAGE_SUFFIXES)):
        raise RedosegError(
            f"{printable(out)} is the name of a file, but the results of a folder need a folder; choose one"
        )
    if source.resolve() == out.resolve():  # the next run would take them for photographs
        raise RedosegError(f"{printable(out)} is the folder of the pictures; choose another folder for the results")
    found = list_images(source)
    images, failed = found.images, found.problems
    if source.resolve() in out.resolve().parents:  # results of an earlier run are no pictures
        images = [p for p in images if not p.resolve().is_relative_to(out.resolve())]
        if not images:
            raise DataError(
                f"{printable(source)} has no pictures except the results in {printable(out)}; choose another folder"
            )
    # Texts, made when they are needed: a path object costs several times as much, and there may be a million.
    names = _names(images, source)
    inputs = {os.path.realpath(image) for image in images}
    room = Room(MAX_PIXELS)  # so that many large pictures take no more memory than one
    notes = DecodingNotes(out / ".decoding")
    shared = _Shared(out, wanted, inputs)

    def result_of(job: tuple[Path, str]) -> _Result | str:
        """Segments one picture; why there is no result, if there is none."""
        image, target = job[0], out / job[1]
        refused = None if wanted.kind == "coco" else why_not_write(target, inputs, wanted.overwrite)
        if refused:
            return f"{printable(target)} {refused}"
        try:
            name = image.relative_to(source).as_posix()
            with room.shared() as take:
                with notes.decoding(image):
                    photo = read_photo(image, take=take)
                result = _segmented(segmenter, photo, image, name, wanted)
                if result.png is not None:
                    make_folder(target.parent)
                    write_atomic(target, result.png)
        except DataError as error:
            return str(error).removeprefix(f"{printable(image)}: ")
        except MemoryError:
            return "does not fit the memory that is free: make it smaller"
        return replace(result, png=None)

    written: list[Path] = []
    done = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(alone(out))
        shared.refuse(len(images))
        # Held here once: threads that enter and leave it in turns would restore each other's filters.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.callback(notes.close)
        stack.callback(lambda: written.extend(shared.write()))  # also when stopped by hand
        jobs = zip(images, names, strict=True)
        results = stack.enter_context(contextlib.closing(in_order(result_of, jobs, segmenter.threads)))
        for seen, (image, name, result) in enumerate(zip(images, names, results, strict=True), 1):
            if isinstance(result, str):
                failed.append((image, result))
            else:
                done += 1
                shared.add(result)
                if wanted.kind != "coco":
                    written.append(out / name)
            if on_item is not None:
                on_item(image, seen, len(images), result if isinstance(result, str) else None)
    return SegmentReport(done, tuple(failed), tuple(written), note_results(found.results))


def _segmented(segmenter: Segmenter, photo: Photo, path: Path, name: str, wanted: _Wanted) -> _Result:
    """What the picture of file `path` gives. Raises DataError."""
    soft, confidence = segmenter.soft_mask(photo)
    reviewed, box = None, None
    if wanted.review or wanted.crop or wanted.kind == "coco":
        mask = object_of(photo, soft)
        if wanted.review:
            tile = _encoded(tile_of(photo, mask, _TILE), "JPEG", quality=80)
            reviewed = confidence, float(mask.mean()), name, tile
        if wanted.kind == "coco":
            return _Result(None, annotated(name, mask, confidence), reviewed)
        box = _crop_of(mask, path) if wanted.crop else None
    return _Result(png_of(photo, soft, wanted.kind, keep_hidden=wanted.keep_hidden, box=box), None, reviewed)


def _crop_of(mask: NDArray[np.bool_], path: Path) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is kept of a picture. Raises DataError where there is no object."""
    box = bounding_box(mask)
    if box is None:
        raise DataError(f"{printable(path)}: no object was found to crop to; segment this picture without the crop")
    left, top, width, height = box
    margin = round(_MARGIN * max(width, height))
    return (
        max(left - margin, 0),
        max(top - margin, 0),
        min(left + width + margin, mask.shape[1]),
        min(top + height + margin, mask.shape[0]),
    )


def _encoded(image: Image.Image, kind: str, **settings: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def _coco_file(images: Sequence[Annotated], label: str) -> bytes:
    return json.dumps(document(images, label)).encode()


@dataclass
class _Shared:
    """The files that all pictures of a folder share."""

    out: Path
    wanted: _Wanted
    inputs: set[str]
    coco: list[Annotated] = field(default_factory=list)
    reviewed: list[tuple[float, float, str, bytes]] = field(default_factory=list)

    def refuse(self, images: int) -> None:
        """Raises RedosegError where one of them may not be written, before the work on so many pictures."""
        names = [COCO_FILE] if self.wanted.kind == "coco" else []
        if self.wanted.review:
            names += [REVIEW_TABLE, *(_page(n + 1) for n in range(math.ceil(images / (_COLUMNS * _ROWS))))]
        for target in (self.out / name for name in names):
            problem = why_not_write(target, self.inputs, self.wanted.overwrite)
            if problem:
                raise RedosegError(f"{printable(target)} {problem}")

    def add(self, result: _Result) -> None:
        if result.coco is not None:
            self.coco.append(result.coco)
        if result.reviewed is not None:
            self.reviewed.append(result.reviewed)

    def write(self) -> list[Path]:
        """Those for which there is something, and their paths."""
        if not self.coco and not self.reviewed:
            return []
        make_folder(self.out)
        files = {}
        if self.coco:
            files[COCO_FILE] = _coco_file(self.coco, self.wanted.label)
        if self.reviewed:
            self.reviewed.sort(key=lambda entry: entry[0])
            size = _COLUMNS * _ROWS
            pages = [self.reviewed[i : i + size] for i in range(0, len(self.reviewed), size)]
            files |= {_page(number): _review_page(entries) for number, entries in enumerate(pages, 1)}
            for name in _pages_of(self.out / REVIEW_TABLE) - files.keys():  # of an earlier, longer review
                if os.path.realpath(self.out / name) not in self.inputs:
                    (self.out / name).unlink(missing_ok=True)
            files[REVIEW_TABLE] = _review_table(pages)
        for name, data in files.items():
            write_atomic(self.out / name, data)
        return [self.out / name for name in files]


def _page(number: int) -> str:
    return f"review-{number}.jpg"


def _pages_of(table: Path) -> set[str]:
    """The pages that an earlier review wrote, as its table has them."""
    try:
        rows = csv.DictReader(io.StringIO(table.read_text("utf-8")))
        return {name for row in rows if re.fullmatch(r"review-\d+\.jpg", name := row.get("page") or "")}
    except (OSError, ValueError, csv.Error):
        return set()


def _review_table(pages: Sequence[Sequence[tuple[float, float, str, bytes]]]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["picture", "confidence", "object_share", "page"])
    for number, entries in enumerate(pages, 1):
        for confidence, share, name, _ in entries:
            rows.writerow([printable(name), f"{confidence:.4f}", f"{share:.4f}", _page(number)])
    return text.getvalue().encode()


def _review_page(entries: Sequence[tuple[float, float, str, bytes]]) -> bytes:
    tiles = [
        captioned(
            Image.open(io.BytesIO(tile)).convert("RGB"),
            f"{confidence:.2f} {name if len(name) < 18 else '...' + name[-15:]}",
        )
        for confidence, _, name, tile in entries
    ]
    return _encoded(grid([tiles[i : i + _COLUMNS] for i in range(0, len(tiles), _COLUMNS)]), "JPEG", quality=88)


def _target(source: Path, out: Path, kind: Kind) -> Path:
    """Where one picture's result goes: a file in the folder `out`, or the file `out`."""
    suffix, right = out.suffix.lower(), ".json" if kind == "coco" else ".png"
    if out.is_dir() or suffix not in (right, ".json", *IMAGE_SUFFIXES):
        return out / (COCO_FILE if kind == "coco" else f"{source.stem}.png")
    if suffix != right:
        raise RedosegError(
            f"{printable(out)}: the result is a {right} file; choose a name that ends in {right}, or a folder"
        )
    return out


def _names(images: Sequence[Path], source: Path) -> list[str]:
    """A result's name for each picture: what differs from another in case or suffix alone keeps its suffix."""
    whole: set[Path] = set()  # pictures that keep their suffix

    def name(path: Path) -> str:
        relative = path.relative_to(source)
        return str(relative.with_name((path.name if path in whole else path.stem) + ".png"))

    while True:
        names = [name(p) for p in images]
        count = Counter(name.lower() for name in names)
        clashing = {p for p, name in zip(images, names, strict=True) if count[name.lower()] > 1} - whole
        if not clashing:
            return names
        whole |= clashing
