"""Photographs in, masks out: one file, or several and folders, whose sub-folders are mirrored."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redoseg.errors import DataError, FullError, RedosegError
from redoseg.files import (
    alone,
    at_home,
    check_writable,
    key_of,
    make_folder,
    marked,
    printable,
    why_not_write,
    write_atomic,
)
from redoseg.images.clean import Cleaning
from redoseg.images.coco import Annotated, annotated, bounding_box
from redoseg.images.crashes import DecodingNotes
from redoseg.images.cut_short import notes_of
from redoseg.images.draw import encoded, tile_of
from redoseg.images.kinds import IMAGE_SUFFIXES
from redoseg.images.photo import Photo
from redoseg.images.read import MAX_PIXELS, note_results, read_photo
from redoseg.inference import streams
from redoseg.inference.doubt import is_doubtful
from redoseg.inference.object_mask import CLEANING, HALF, check_threshold, cleaned, object_of
from redoseg.inference.results import FEATHER, KINDS, Kind, check_feather, png_of, result_key
from redoseg.inference.segmenter import Segmenter, cleaning_for
from redoseg.inference.shared_files import COCO_FILE, TILE, Reviewed, SharedFiles, coco_content
from redoseg.inference.sources import STREAM, Pictures, expand_patterns, list_pictures
from redoseg.system import Room, in_order

_MARGIN = 0.02  # around a crop, as a share of its longer side


@dataclass(frozen=True)
class SegmentReport:
    """What became of a picture or of many."""

    done: int
    failed: tuple[tuple[Path, str], ...]
    """Pictures without a result, each with its reason."""
    written: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    """What else a user should know."""
    doubtful: int = 0
    """How many of those done look doubtful, by the network's confidence."""
    skipped: int = 0
    """Pictures whose result was there already."""
    differing: tuple[Path, ...] = ()
    """Pictures whose result was there and stays, but is of other settings or of a picture that has changed since."""


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
    threshold: float
    skip_existing: bool
    cleaning: Cleaning | None
    feather: float


@dataclass(frozen=True)
class _Result:
    """What one picture gave."""

    png: Iterable[bytes] | None
    coco: Annotated | None
    reviewed: Reviewed | None
    confidence: float
    note: str


@dataclass(frozen=True)
class _There:
    """A result that is there already and stays; up to date or not."""

    current: bool


def segment_paths(
    segmenter: Segmenter,
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    kind: Kind = "mask",
    overwrite: bool = False,
    on_item: OnItem | None = None,
    crop: bool = False,
    keep_hidden: bool = False,
    review: bool = False,
    label: str = "",
    threshold: float = HALF,
    skip_existing: bool = False,
    cleaning: Cleaning | None = CLEANING,
    feather: float = FEATHER,
) -> SegmentReport:
    """Segment one picture, or several and folders, into PNG files of the same names and sub-folders under `out`.

    Args:
        kind: "mask" (0 and 255), "soft" (0 to 255), "cutout" (RGBA), "overlay" (drawn on the picture), all of the
            picture's own size; or "coco", one file `coco.json` for all pictures.
        source: a picture, a folder, a pattern as in `photos/*.jpg`, or several of these; "-" for the picture that
            comes through standard input.
        out: a folder; for one picture also a file ending in .png (.json for "coco"), or "-" for standard output.
        overwrite: whether files that are there may be replaced; a picture to segment never is.
        crop: cut the results to the box around the object, which must be there then.
        keep_hidden: leave the photograph below what is transparent in a cut-out; otherwise it is black there.
        review: of several pictures, also write contact sheets `review-1.jpg`, ... that go from the least to the most
            sure picture, and `review.csv` in that order. It keeps some 5 kB in memory for each picture.
        label: what the object is called in COCO's file; the model's name if empty.
        threshold: from which value of the soft mask on a pixel is the object's, 0 to 1; "soft" is not cut.
        skip_existing: leave results that the same model and settings made of the same pictures, and keep the other
            pictures of `coco.json` and of the review. Results that differ are replaced with `overwrite` alone.
        cleaning: which parts are dropped from masks and which holes are filled, but not in "soft" nor with plain edges;
            None for none.
        feather: over how many pixels a cut-out fades in from its edge inwards, 0 to 200.

    Results of several sources have the sub-folders below the folder that all sources have in common. Pictures that
    would give the same name keep their suffix in it (`a.jpg.png`). The rest continues after a picture that fails;
    stopped by hand, what all pictures share is written of those done. Raises RedosegError for a single picture that
    fails, or if `out` cannot be used; FullError, a DataError, at the first result for which the disk is full.
    """
    out = at_home(out)
    if kind not in KINDS:
        raise RedosegError(f"kind {kind!r} is not known; choose one of {', '.join(KINDS)}")
    if kind == "coco" and crop:
        raise RedosegError(
            "crop cannot be combined with kind coco, whose masks and boxes are of whole pictures; remove one of them"
        )
    check_threshold(threshold)
    check_feather(feather)
    wanted = _Wanted(
        kind=kind,
        crop=crop,
        review=review,
        overwrite=overwrite,
        label=label or segmenter.name,
        keep_hidden=keep_hidden,
        threshold=float(threshold),
        skip_existing=skip_existing,
        cleaning=cleaning_for(getattr(segmenter, "edges", "guided"), cleaning),  # stand-ins have none
        feather=float(feather),
    )
    if label and kind != "coco":
        raise RedosegError(f"a label cannot be combined with kind {kind}; remove the label, or choose kind coco")
    given = [source] if isinstance(source, str | Path) else list(source)
    sources = expand_patterns(given)
    if not sources:
        raise DataError("no picture is given; name a picture, a folder or a pattern")
    piped = str(sources[0]) == STREAM
    if str(out) == STREAM and (len(sources) > 1 or (sources[0].is_dir() and not piped)):
        what = "a folder" if len(sources) == 1 else f"the first of {len(sources):,} pictures"
        raise DataError(
            f"-o - takes the result of one picture, but {printable(sources[0])} is {what}; choose one picture, or a "
            "folder for the results"
        )
    if not piped and (len(sources) > 1 or sources[0].is_dir()):
        return _segment_many(segmenter, sources, out, wanted, on_item)
    if review:
        raise RedosegError(
            f"a review sheet (--review) shows the pictures of a folder, but {printable(sources[0])} is one picture; "
            "remove --review"
        )
    if str(out) == STREAM:
        return _send_one(segmenter, sources[0], wanted)
    return _segment_one(segmenter, sources[0], out, wanted, on_item)


def _segment_one(
    segmenter: Segmenter, source: Path, out: Path, wanted: _Wanted, on_item: OnItem | None
) -> SegmentReport:
    content = streams.received() if str(source) == STREAM else None
    source = Path(streams.NAME) if content is not None else source
    target = _target(source, out, wanted.kind)
    inputs = {os.path.realpath(source)} if content is None else set()
    check_writable(target.parent)
    with contextlib.ExitStack() as stack:
        shared = None
        if wanted.kind == "coco":  # a folder's results may be on their way into a file of that name
            stack.enter_context(alone(target.parent))
            shared = SharedFiles(target.parent, target, False, wanted.label, inputs)
            shared.begin(1, wanted.overwrite, wanted.skip_existing)
        key = _key_of_one(segmenter, source if content is None else content, wanted)
        there = _there(shared, target, source.name, key, wanted)
        if there is not None:
            return SegmentReport(0, (), skipped=int(there.current), differing=() if there.current else (source,))
        problem = None if shared else why_not_write(target, inputs, wanted.overwrite)
        if problem:
            raise RedosegError(f"{printable(target)} {problem}")
        result = _segmented(segmenter, read_photo(source, content=content), source, source.name, wanted, key)
        if result.png is not None:
            write_atomic(target, result.png, key)
        elif shared is not None:
            shared.add(result.coco, None)
            shared.write()
    if on_item is not None:
        on_item(source, 1, 1, None)
    notes = notes_of([(printable(source), result.note)] if result.note else [])
    return SegmentReport(1, (), (target,), notes, doubtful=int(is_doubtful(result.confidence)))


def _send_one(segmenter: Segmenter, source: Path, wanted: _Wanted) -> SegmentReport:
    """The result of one picture, to standard output."""
    if wanted.skip_existing:
        raise DataError("-o - writes to standard output, where no result is kept; remove --skip-existing")
    streams.check_sendable()
    content = streams.received() if str(source) == STREAM else None
    source = Path(streams.NAME) if content is not None else source
    key = _key_of_one(segmenter, source if content is None else content, wanted)
    result = _segmented(segmenter, read_photo(source, content=content), source, source.name, wanted, key)
    png = coco_content([result.coco], wanted.label) if result.coco is not None else result.png
    assert png is not None
    streams.send(marked(png, key))
    notes = notes_of([(printable(source), result.note)] if result.note else [])
    return SegmentReport(1, (), (), notes, doubtful=int(is_doubtful(result.confidence)))


def _key_of_one(segmenter: Segmenter, image: Path | bytes, wanted: _Wanted) -> str:
    return result_key(
        segmenter,
        image,
        wanted.kind,
        threshold=wanted.threshold,
        crop=wanted.crop,
        keep_hidden=wanted.keep_hidden,
        feather=wanted.feather,
        cleaning=wanted.cleaning,
    )


def _there(shared: SharedFiles | None, target: Path, name: str, key: str, wanted: _Wanted) -> _There | None:
    """The result of a picture, where --skip-existing leaves it."""
    if not wanted.skip_existing:
        return None
    if wanted.kind == "coco" and shared is not None:
        entry = shared.coco.get(name)
        found = None if entry is None else entry.key
    else:
        found = key_of(target)
    if found is None:
        return None
    current = bool(key) and found == key
    if current and shared is not None and shared.review:
        row = shared.reviewed.get(printable(name))
        return _There(True) if row is not None and row.key == key else None
    return None if wanted.overwrite and not current else _There(current)


def _segment_many(
    segmenter: Segmenter, sources: Sequence[Path], out: Path, wanted: _Wanted, on_item: OnItem | None
) -> SegmentReport:
    if (out.exists() and not out.is_dir()) or (not out.exists() and out.suffix.lower() in (".json", *IMAGE_SUFFIXES)):
        raise RedosegError(
            f"{printable(out)} is the name of a file, but the results of a folder need a folder; choose one"
        )
    if any(source.is_dir() and source.resolve() == out.resolve() for source in sources):
        raise RedosegError(f"{printable(out)} is the folder of the pictures; choose another folder for the results")
    found = list_pictures(sources, out)
    inputs = {os.path.realpath(image) for image in found.images}
    coco_file = out / COCO_FILE if wanted.kind == "coco" else None
    shared = SharedFiles(out, coco_file, wanted.review, wanted.label, inputs)
    job = _Many(segmenter, out, wanted, found, inputs, shared, on_item)
    with contextlib.ExitStack() as stack:
        stack.enter_context(alone(out))
        shared.begin(len(found.images), wanted.overwrite, wanted.skip_existing)
        # Held here once: threads that enter and leave it in turns would restore each other's filters.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        return job.run()


@dataclass
class _Many:
    """The pictures of one call, on their way to results."""

    segmenter: Segmenter
    out: Path
    wanted: _Wanted
    found: Pictures
    inputs: set[str]
    shared: SharedFiles
    on_item: OnItem | None
    done: int = 0
    skipped: int = 0
    doubtful: int = 0
    differing: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    cut_short: list[tuple[str, str]] = field(default_factory=list)

    def run(self) -> SegmentReport:
        """Segment all; what they share is written also when stopped by hand."""
        images = self.found.images
        self.failed += self.found.problems
        self.notes = DecodingNotes(self.out / ".decoding")
        self.room = Room(MAX_PIXELS)  # so that many large pictures take no more memory than one
        jobs = zip(images, self.found.names, self.found.results, strict=True)
        full = False
        try:
            with contextlib.closing(in_order(self._result_of, jobs, self.segmenter.threads)) as results:
                for seen, (image, name, result) in enumerate(zip(images, self.found.results, results, strict=True), 1):
                    self._take(image, name, result)
                    if self.on_item is not None:
                        self.on_item(image, seen, len(images), result if isinstance(result, str) else None)
        except FullError as error:
            full = True
            kept = f"{self.done + self.skipped:,} of {len(images):,} pictures are segmented"
            raise FullError(f"{error}; {kept}, and --skip-existing continues") from None
        finally:
            with contextlib.suppress(FullError) if full else contextlib.nullcontext():
                self.written += self.shared.write()
            self.notes.close()
        notes = (*notes_of(self.cut_short), *note_results(self.found.own))
        return SegmentReport(
            self.done,
            tuple(self.failed),
            tuple(self.written),
            notes,
            self.doubtful,
            self.skipped,
            tuple(self.differing),
        )

    def _take(self, image: Path, name: str, result: _Result | _There | str) -> None:
        if isinstance(result, str):
            self.failed.append((image, result))
        elif isinstance(result, _There):
            self.skipped += result.current
            self.differing += [] if result.current else [image]
        else:
            self.done += 1
            self.doubtful += is_doubtful(result.confidence)
            if result.note:
                self.cut_short.append((printable(image), result.note))
            self.shared.add(result.coco, result.reviewed)
            if self.wanted.kind != "coco":
                self.written.append(self.out / name)

    def _result_of(self, job: tuple[Path, str, str]) -> _Result | _There | str:
        """Segments one picture; why there is no result, if there is none. Raises FullError."""
        image, name, target = job[0], job[1], self.out / job[2]
        key = _key_of_one(self.segmenter, image, self.wanted)
        there = _there(self.shared, target, name, key, self.wanted)
        if there is not None:
            return there
        if self.wanted.kind != "coco":
            ours = self.wanted.skip_existing and bool(key) and key_of(target) == key  # only the review lacks it
            refused = why_not_write(target, self.inputs, self.wanted.overwrite or ours)
            if refused:
                return f"{printable(target)} {refused}"
        try:
            with self.room.shared() as take:
                with self.notes.decoding(image):
                    photo = read_photo(image, take=take)
                result = _segmented(self.segmenter, photo, image, name, self.wanted, key)
                if result.png is not None:
                    make_folder(target.parent)
                    write_atomic(target, result.png, key)
        except FullError:
            raise
        except DataError as error:
            return str(error).removeprefix(f"{printable(image)}: ")
        except MemoryError:
            return "does not fit the memory that is free: make it smaller"
        return replace(result, png=None)


def _segmented(segmenter: Segmenter, photo: Photo, path: Path, name: str, wanted: _Wanted, key: str) -> _Result:
    """What the picture of file `path` gives. Raises DataError."""
    soft, confidence = segmenter.soft_mask(photo)
    only_soft = wanted.kind == "soft" and not wanted.review and not wanted.crop
    object_soft = soft if only_soft else cleaned(photo, soft, wanted.threshold, wanted.cleaning)
    reviewed, box = None, None
    if wanted.review or wanted.crop or wanted.kind == "coco":
        mask = object_of(photo, object_soft, wanted.threshold)
        if wanted.review:
            tile = encoded(tile_of(photo, mask, TILE), "JPEG", quality=80)
            reviewed = Reviewed(confidence, float(mask.mean()), printable(name), tile, key)
        if wanted.kind == "coco":
            return _Result(None, annotated(name, mask, confidence, key), reviewed, confidence, photo.note)
        box = _crop_of(mask, path) if wanted.crop else None
    png = png_of(
        photo,
        soft if wanted.kind == "soft" else object_soft,
        wanted.kind,
        wanted.threshold,
        keep_hidden=wanted.keep_hidden,
        feather=wanted.feather,
        box=box,
    )
    return _Result(png, None, reviewed, confidence, photo.note)


def _crop_of(mask: NDArray[np.bool_], path: Path) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is kept of a picture. Raises DataError where there is no object."""
    box = bounding_box(mask)
    if box is None:
        raise DataError(f"{printable(path)}: no object was found to crop to; segment this picture without --crop")
    left, top, width, height = box
    margin = round(_MARGIN * max(width, height))
    return (
        max(left - margin, 0),
        max(top - margin, 0),
        min(left + width + margin, mask.shape[1]),
        min(top + height + margin, mask.shape[0]),
    )


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
