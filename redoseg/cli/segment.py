"""The verb `segment`: what it does, and what it prints of that."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

from redoseg import signals
from redoseg.cli.console import DONE, IN_PART, STOPPED, list_failed, note_unfinished, progress
from redoseg.cli.console import say as print_lines
from redoseg.cli.options import Segment
from redoseg.files import printable
from redoseg.images.clean import Cleaning
from redoseg.inference import segment_files
from redoseg.inference.doubt import DOUBTFUL, many_doubtful
from redoseg.inference.object_mask import check_threshold
from redoseg.inference.report import FilmReport, SegmentReport
from redoseg.inference.segmenter import Segmenter
from redoseg.inference.sources import STREAM


def segment(command: Segment) -> int:
    """Segment the pictures of a command; returns the exit code."""
    check_threshold(command.threshold)
    cleaning = Cleaning(command.smallest_part, command.largest_hole) if command.clean else None
    segmenter = Segmenter(
        command.model,
        command.threads or None,
        command.edges,
        trust=command.trust,
        device=command.device,
        tiles=command.tiles,
    )
    note_unfinished(command.model)
    with progress("segmenting") as advance:
        try:
            report = segment_files.segment_paths(
                segmenter,
                command.source,
                command.out,
                kind=command.kind,
                overwrite=command.overwrite,
                on_item=lambda _path, done, total, _why: advance(done, total),
                on_frame=lambda path, done, total: advance(done, total, f"frames of {printable(path.name)}"),
                crop=command.crop,
                keep_hidden=command.keep_hidden,
                review=command.review,
                label=command.label,
                threshold=command.threshold,
                skip_existing=command.skip_existing,
                cleaning=cleaning,
                feather=command.feather,
                polygons=command.polygons,
                parts=command.parts,
                matting=command.matting,
                ground=command.ground,
                margin=command.margin,
                square=command.square,
                image_format=None if command.image_format == "auto" else command.image_format,
                quality=command.quality,
                mm_per_pixel=command.mm_per_pixel,
                engine=command.engine,
                workers=command.workers,
                film=command.film,
                steady=command.steady,
            )
        except KeyboardInterrupt:
            print(
                f"redoseg: stopped {signals.how()}; the same command with --skip-existing continues where it stopped",
                file=sys.stderr,
            )
            return STOPPED
    if command.as_json:
        print_lines(json.dumps(_as_values(report)), stderr=command.out == STREAM)
        return IN_PART if report.failed or report.differing else DONE
    _say_done(command, report, segmenter.name)
    total = report.done + report.skipped + len(report.failed)
    failed = list_failed([(str(path), why) for path, why in report.failed], total)
    return IN_PART if report.differing else failed


def _say_done(command: Segment, report: SegmentReport, model: str) -> None:
    piped = command.out == STREAM  # then standard output has the result and nothing else
    say = partial(print_lines, stderr=piped)
    for film in report.films:
        if film.frames:
            say(_of_film(film, command.out))
        elif film.skipped:
            say(f"{printable(film.film)} was there already")
    of_films = {film.film for film in report.films}
    lost = sum(path not in of_films for path in (*(path for path, _ in report.failed), *report.differing))
    total = report.done + report.skipped + lost
    there = f"; {report.skipped:,} were there already" if report.skipped else ""
    if report.skipped and not command.review:
        there += ", whose confidence is not known now (--review shows it)"
    if not piped and (total or not report.films):
        say(f"{report.done} of {total} pictures segmented into {command.out}{there}")
    if report.differing:
        say(
            f"{len(report.differing):,} results were made with other settings, or their pictures have changed since "
            f"(the first is of {printable(report.differing[0])}); add --overwrite to make them again"
        )
    if report.doubtful:
        first = (
            f"they come first in {command.out.rstrip('/')}/review-1.jpg"
            if command.review
            else "--review shows them first"
        )
        if total == 1:
            first = "check it"
        say(f"{report.doubtful:,} of {report.done:,} masks look doubtful (confidence below {DOUBTFUL:g}); {first}")
    if many_doubtful(report.doubtful, report.done):
        say(f"note: many masks look doubtful, so {model} may not be a model for pictures of this kind")
    for note in report.notes:
        say(f"note: {note}")


def _of_film(film: FilmReport, out: str) -> str:
    steady = "" if film.agreement is None else f"; neighbouring masks overlap by {film.agreement:.3f} (mean IoU)"
    doubtful = f"; {film.doubtful:,} look doubtful (confidence below {DOUBTFUL:g})" if film.doubtful else ""
    return f"{printable(film.film)}: {film.frames:,} frames segmented into {out}{steady}{doubtful}"


def _as_values(report: SegmentReport) -> dict[str, Any]:
    """A report for JSON: paths as text."""
    films = [
        {
            "film": printable(film.film),
            "frames": film.frames,
            "agreement": film.agreement,
            "doubtful": film.doubtful,
            "skipped": film.skipped,
            "written": [printable(path) for path in film.written],
        }
        for film in report.films
    ]
    return {
        "done": report.done,
        "skipped": report.skipped,
        "doubtful": report.doubtful,
        "failed": {printable(path): why for path, why in report.failed},
        "differing": [printable(path) for path in report.differing],
        "films": films,
        "notes": list(report.notes),
    }
