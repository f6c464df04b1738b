"""Several photographs at once: what `segment` writes for a folder, in one archive."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from redoseg.config.kinds import DRAWN, KINDS, LABELS, MEASURES, Kind
from redoseg.errors import ConfigError, DataError, RedosegError
from redoseg.files import printable, write_atomic
from redoseg.images.kinds import IMAGE_SUFFIXES, listed
from redoseg.inference.report import SegmentReport
from redoseg.inference.request import Request
from redoseg.inference.segment_files import segment_many
from redoseg.inference.shared_files import earlier_review
from redoseg.storage import Place
from redoseg.web.cuts import MOST_BYTES, Cuts, seen_name

MOST = 200  # photographs at a time
_RESULTS = 2**29  # bytes of their results, so that these and the uploads fit the page's share of the disk
_SHOWN = 100  # tiles
_LISTED = 10  # problems

NAMES: dict[Kind, str] = {
    "mask": "mask",
    "soft": "soft mask",
    "cutout": "cut-out",
    "overlay": "overlay",
    "coco": "COCO",
    "yolo": "YOLO",
    "labelme": "labelme",
    "labelstudio": "Label Studio",
    "measures": "measures",
}


def kinds_offered() -> list[Kind]:
    """Those that this installation can write."""
    return [kind for kind in KINDS if kind != MEASURES or find_spec("skimage") is not None]


@dataclass(frozen=True)
class Batch:
    """What became of several photographs."""

    archive: Path
    """A zip file."""
    tiles: list[tuple[str, str]]
    """Paths of small pictures with their captions, the least sure first."""
    words: str


def request_of(cutout: Request, kinds: Sequence[Any], threshold: float, parts: bool, label: str) -> Request:
    """What a segmenter is asked for. Raises ConfigError for kinds that cannot be combined with the rest."""
    if not kinds:
        raise ConfigError("No kind of results is chosen. Choose at least one, such as cut-out.")
    chosen = tuple(kinds)
    if parts and "soft" in chosen:
        raise ConfigError("A soft mask has no clear edge, so it has no parts. Choose one of the two.")
    exact = [kind for kind in chosen if kind in ("mask", "soft")]
    lossy = cutout.form != "png" and bool(set(chosen) & set(DRAWN))
    if lossy and exact:
        raise ConfigError(f"The {NAMES[exact[0]]} is always a PNG file. Choose PNG, or cut-outs and overlays alone.")
    is_cut, is_drawn = "cutout" in chosen, bool(set(chosen) & set(DRAWN))
    crop, square = cutout.crop and is_drawn, cutout.square if is_cut else 0
    return replace(
        cutout,
        kinds=chosen,
        threshold=threshold,
        parts=parts,
        label=label if set(chosen) & set(LABELS) else "",
        ground=cutout.ground if is_cut else None,
        crop=crop,
        square=square,
        margin=cutout.margin if crop or square else None,
        form=cutout.form if lossy else "png",
        review=True,
    )


def segment_several(
    cuts: Cuts,
    photographs: Sequence[Path],
    request: Request,
    folder: Path,
    on_item: Callable[[int, int], None] | None = None,
) -> Batch:
    """Segment photographs and write all results into an archive in a new folder below `folder`.

    Paths in the results are those from `results/` to `photos/` beside it. `on_item` is called with how many are done,
    and of how many. Raises RedosegError where there is nothing to show for it.
    """
    if len(photographs) > MOST:
        raise DataError(f"There are {len(photographs)} photographs, but the page takes {MOST} at a time. Remove some.")
    here = folder / secrets.token_hex(16)
    work = here / "work"
    results = work / "results"

    def seen(_: Place, done: int, total: int, problem: str | None) -> None:
        if _bytes_in(results) > _RESULTS:
            raise DataError(
                f"The results of {done} photographs take more than {_RESULTS // 2**20} MB. Choose fewer photographs, "
                "or WebP."
            )
        if on_item is not None:
            on_item(done, total)

    try:
        others = _gathered(photographs, work / "photos")
        report = segment_many(
            cuts.segmenter,  # type: ignore[arg-type]
            [work / "photos"],
            results,
            replace(request, cleaning=cuts.cleaning),
            seen,
            most=cuts.most,
            most_bytes=MOST_BYTES,
            room=cuts.room,
        )
        tiles = _tiles(results, here)
        return Batch(_packed(results, here / "results.zip"), tiles, _in_words(report, others))
    except RedosegError as error:
        raise type(error)(str(error).replace(printable(work) + os.sep, "")) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _gathered(photographs: Sequence[Path], into: Path) -> list[tuple[Path, str]]:
    """Give the photographs names of their own in one folder; returns those that cannot be used, with reasons."""
    into.mkdir(parents=True)
    others, taken = [], set()
    for path in photographs:
        kind = listed(path)
        if kind is not True:
            others.append((path, kind or "its format is not one that redoseg reads"))
            continue
        plain = seen_name(path)
        name, number = plain.name, 1
        while name.lower() in taken:
            number += 1
            name = f"{plain.stem}-{number}{plain.suffix}"
        taken.add(name.lower())
        try:
            try:
                os.link(path, into / name)
            except FileNotFoundError:
                raise
            except OSError:  # a disk without hard links
                shutil.copyfile(path, into / name)
        except OSError:
            others.append((path, "it has been deleted; the page keeps photographs for an hour"))
    if len(others) == len(photographs):
        raise DataError(f"{_listed(others)}. Upload photographs, such as JPEG or PNG.")
    return others


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # on its way to its name
            total += path.stat().st_size
    return total


def _tiles(results: Path, into: Path) -> list[tuple[str, str]]:
    tiles = []
    for number, one in enumerate(sorted(earlier_review(results), key=lambda one: one.confidence)[:_SHOWN]):
        target = into / f"{number:03}.jpg"
        write_atomic(target, one.tile)
        tiles.append((str(target), f"{one.confidence:.2f} {one.name}"))
    return tiles


def _packed(results: Path, archive: Path) -> Path:
    """A zip file of a folder, whose files go as they are packed, so that little is on disk twice."""
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(results.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                small = path.suffix.lower() in IMAGE_SUFFIXES  # packed already
                how = zipfile.ZIP_STORED if small else zipfile.ZIP_DEFLATED
                packed.write(path, f"results/{path.relative_to(results).as_posix()}", how)
                path.unlink()
    return archive


def _in_words(report: SegmentReport, others: Sequence[tuple[Path, str]]) -> str:
    count = f"{report.done} photographs are" if report.done != 1 else "1 photograph is"
    words = f"{count} segmented."
    if report.doubtful:
        looks = "masks look" if report.doubtful != 1 else "mask looks"
        words += f" {report.doubtful} {looks} doubtful; the least sure are first."
    failed = [*others, *report.failed]
    if failed:
        words += f" {len(failed)} could not be: {_listed(failed)}."
    return " ".join([words, *report.notes])


def _listed(failed: Sequence[tuple[Place, str]]) -> str:
    shown = "; ".join(f"{printable(path.name)}: {why}" for path, why in failed[:_LISTED])
    return shown if len(failed) <= _LISTED else f"{shown}; and {len(failed) - _LISTED} more"
