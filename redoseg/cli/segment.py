"""The verb `segment`: what it does, and what it prints of that."""

from __future__ import annotations

import sys
from functools import partial

from redoseg import signals
from redoseg.cli.console import IN_PART, STOPPED, list_failed, note_unfinished, progress
from redoseg.cli.console import say as print_lines
from redoseg.cli.options import Segment
from redoseg.files import printable
from redoseg.images.clean import Cleaning
from redoseg.inference import segment_files
from redoseg.inference.doubt import DOUBTFUL, many_doubtful
from redoseg.inference.object_mask import check_threshold
from redoseg.inference.report import SegmentReport
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
                picture_format=None if command.picture_format == "auto" else command.picture_format,
                quality=command.quality,
                mm_per_pixel=command.mm_per_pixel,
                engine=command.engine,
                workers=command.workers,
            )
        except KeyboardInterrupt:
            print(
                f"redoseg: stopped {signals.how()}; the same command with --skip-existing continues where it stopped",
                file=sys.stderr,
            )
            return STOPPED
    _say_done(command, report, segmenter.name)
    failed = list_failed([(str(path), why) for path, why in report.failed])
    return IN_PART if report.differing else failed


def _say_done(command: Segment, report: SegmentReport, model: str) -> None:
    piped = command.out == STREAM  # then standard output has the result and nothing else
    say = partial(print_lines, stderr=piped)
    total = report.done + report.skipped + len(report.differing) + len(report.failed)
    there = f"; {report.skipped:,} were there already" if report.skipped else ""
    if not piped:
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
