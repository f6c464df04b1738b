"""Films in, films out: each frame's mask, steady from one frame to the next, and the sound of the film."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redoseg.config.kinds import DRAWN, Kind
from redoseg.errors import DataError, FullError
from redoseg.files import alone, make_folder, printable, whole_folder, why_not_write, write_atomic
from redoseg.images.photo import Photo
from redoseg.inference.doubt import is_doubtful
from redoseg.inference.film_reading import FilmFile, Frame, open_film
from redoseg.inference.film_sources import Films
from redoseg.inference.film_writing import (
    FILM_FORMATS,
    FORMS,
    FilmFormat,
    FilmWriter,
    film_key,
    film_writer,
    form_of,
    packed_frame,
    pixels_of,
)
from redoseg.inference.object_mask import cleaned, object_of
from redoseg.inference.report import FilmReport
from redoseg.inference.request import Request, digest_of
from redoseg.inference.results import as_png, image_of
from redoseg.inference.segmenter import Seen, Segmenter
from redoseg.inference.sources import STREAM
from redoseg.inference.steady import Flicker, Steadied, small_mask, steadied
from redoseg.own_results import is_result, key_of
from redoseg.storage import Address, Place
from redoseg.system import in_order

_UNDER_WAY = 2**25  # pixels of frames in memory at each of two steps, roughly

OnFrame = Callable[[Path, int, "int | None"], None]
"""Called with a film, the frames done, and their total as far as it is known."""


def why_no_films(segmenter: Segmenter, request: Request, out: Place, *, engine: str) -> str:
    """Why a call with these settings takes no films, and what to do; empty if it takes them."""
    labels = [kind for kind in request.kinds if kind not in DRAWN]
    if labels:
        return f"--as {labels[0]} is for pictures; choose mask, soft, cutout or overlay"
    for given, option in (
        (request.crop, "--crop"),
        (request.square, "--square"),
        (request.parts, "--parts"),
        (request.review, "--review"),
        (getattr(segmenter, "tiles", 0), "--tiles"),
        (request.form != "png", "--format"),
    ):
        if given:
            return f"{option} is for pictures; remove it"
    if engine != "threads":
        return "--engine ray is for pictures; remove it"
    if str(out) == STREAM:
        return "-o - takes the result of one picture; choose a folder for --out"
    if isinstance(out, Address):
        return "films are written to this machine only; choose a folder for --out"
    return ""


def check_form(request: Request) -> None:
    """Raises DataError for a kind that the format of films does not take."""
    clear = "cutout" in request.kinds and request.ground is None
    if request.film == "mp4" and clear:
        raise DataError("MP4 has no transparency, which cut-outs need; add --ground white, or --film webm or prores")


def film_format_of(out: Path, request: Request, films: int) -> tuple[Path | None, Request]:
    """The one file that `out` names, if it does, and the request with its format. Raises DataError."""
    asked = FILM_FORMATS.get(out.suffix.lower())
    if asked is None or out.is_dir():
        return None, request
    if films > 1 or len(request.kinds) > 1:
        raise DataError(f"{printable(out)} is the name of one film, but there are several results; choose a folder")
    if request.film not in ("auto", asked):
        raise DataError(f"{printable(out)} does not go with --film {request.film}; change one of them")
    return out, request.with_film(asked)


@dataclass
class _Target:
    """One kind of result of a film."""

    kind: Kind
    clear: bool
    form: FilmFormat
    path: Path
    key: str


@dataclass
class _Cutter:
    """How the frames of a film are segmented and drawn."""

    segmenter: Segmenter
    request: Request
    targets: Sequence[_Target]
    flicker: Flicker = field(default_factory=Flicker)
    doubtful: int = 0

    def look(self, frame: Frame) -> tuple[Frame, Seen]:
        """What the network finds. Safe in several threads."""
        return frame, self.segmenter.look_at(frame.photo)

    def draw(self, one: Steadied[Frame]) -> tuple[Frame, list[Any], Any, Steadied[Frame]]:
        """The frames of each kind, and a small mask. Safe in several threads."""
        photo, request = one.item.photo, self.request
        soft = self.segmenter.enlarged(one.seen, photo)
        only = cleaned(photo, soft, request.threshold, request.cleaning)
        made = []
        for target in self.targets:
            image = image_of(
                photo,
                soft if target.kind == "soft" else only,
                target.kind,
                request.look_of(target.kind),
                keep_hidden=request.keep_hidden,
            )
            if target.form == "frames":
                made.append(as_png(image))
            else:
                made.append(packed_frame(image, pixels_of(target.form, target.kind, target.clear, photo.size)))
        return one.item, made, small_mask(object_of(photo, only, request.threshold)), one


def segment_films(
    segmenter: Segmenter,
    films: Films,
    out: Path,
    request: Request,
    on_frame: OnFrame | None = None,
    *,
    raises: bool = False,
) -> list[FilmReport]:
    """Segment films into files of the same names and sub-folders under `out`.

    The work continues after a film that fails; with `raises` that of a single film is raised. Raises FullError, a
    DataError, when the disk is full, and DataError if `out` cannot be used.
    """
    only, request = film_format_of(out, request, len(films.paths))
    check_form(request)
    inputs = {os.path.realpath(path) for path in films.paths}
    reports = []
    with alone(out if only is None else out.parent):
        for path, stem in zip(films.paths, films.stems, strict=True):
            try:
                targets = _targets(segmenter, path, request, stem=stem, out=out, only=only)
                reports.append(_segment_film(segmenter, path, targets, request, inputs=inputs, on_frame=on_frame))
            except FullError:
                raise
            except DataError as error:
                if raises and len(films.paths) == 1:
                    raise
                reports.append(FilmReport(path, why=str(error).removeprefix(f"{printable(path)}: ")))
    return reports


def _targets(
    segmenter: Segmenter, film: Path, request: Request, *, stem: str, out: Path, only: Path | None
) -> list[_Target]:
    digest, found = digest_of(film), []
    for kind in request.kinds:
        clear = kind == "cutout" and request.ground is None
        form = form_of(request.film, kind, clear)
        suffix = "" if form == "frames" else FORMS[form].suffix
        folder = out / kind if len(request.kinds) > 1 else out
        key = request.film_key(segmenter, kind, form, digest)
        found.append(_Target(kind, clear, form, only or folder / f"{stem}{suffix}", key))
    return found


def _key_there(target: _Target) -> str | None:
    """The key of a result that is there; None if none is."""
    if target.form == "frames":
        first = min(target.path.glob("*.png"), default=None) if target.path.is_dir() else None
        return None if first is None else key_of(first)
    return (film_key(target.path) or "") if target.path.exists() else None


def _segment_film(
    segmenter: Segmenter,
    path: Path,
    targets: list[_Target],
    request: Request,
    *,
    inputs: set[str],
    on_frame: OnFrame | None,
) -> FilmReport:
    differs = False
    if request.skip_existing:
        there = {target.path: _key_there(target) for target in targets}
        stale = [t for t in targets if there[t.path] is not None and there[t.path] != t.key]
        differs = bool(stale) and not request.overwrite
        targets = [t for t in targets if there[t.path] is None or (t in stale and request.overwrite)]
        if not targets:
            return FilmReport(path, skipped=not differs, differs=differs)
    for target in targets:
        problem = why_not_write(target.path, inputs, request.overwrite, "a film to segment")
        if problem is None and target.form == "frames" and target.path.exists() and not _are_frames(target.path):
            problem = "is not a folder of frames that redoseg made; choose another folder"
        if problem:
            raise DataError(f"{printable(target.path)} {problem}")
    with open_film(path) as film:
        return _frame_by_frame(segmenter, film, targets, request, on_frame=on_frame, differs=differs)


def _are_frames(folder: Path) -> bool:
    """Whether a folder has frames that redoseg made and nothing else."""
    return folder.is_dir() and all(path.suffix == ".png" and is_result(path) for path in folder.iterdir())


def _frame_by_frame(
    segmenter: Segmenter,
    film: FilmFile,
    targets: list[_Target],
    request: Request,
    *,
    on_frame: OnFrame | None,
    differs: bool,
) -> FilmReport:
    cutter, done, total = _Cutter(segmenter, request, targets), 0, film.frames
    writers: list[FilmWriter] = []
    waiting: list[Any] = []  # sound that comes before the first frame is drawn, when the writers are opened

    def send(packet: Any) -> None:
        for writer in writers:
            writer.add_sound(packet)

    def frames() -> Iterator[Frame]:
        for one in film.read():
            if isinstance(one, Frame):
                yield one
            elif writers:
                send(one)
            elif not done:
                waiting.append(one)

    with contextlib.ExitStack() as stack:
        sinks: list[Callable[[Any, Frame], None]] = []
        made = _drawn(cutter, frames(), segmenter.threads, stack)
        for frame, images, small, one in made:
            if not sinks:
                sinks = [_sink(target, film, frame.photo, stack, writers) for target in targets]
                for packet in waiting:
                    send(packet)
                waiting.clear()
            for sink, image in zip(sinks, images, strict=True):
                sink(image, frame)
            cutter.flicker.take(small, one.shift)
            cutter.doubtful += is_doubtful(one.seen.confidence)
            done += 1
            if on_frame is not None:
                on_frame(film.path, done, max(total, done) if total else None)
        if not done:
            raise DataError(f"{printable(film.path)}: no frame of it can be read; replace or remove it")
    notes = dict.fromkeys((*film.notes, *(note for writer in writers for note in writer.notes)))
    return FilmReport(
        film=film.path,
        frames=done,
        doubtful=cutter.doubtful,
        agreement=cutter.flicker.agreement,
        written=tuple(target.path for target in targets),
        notes=tuple(notes),
        differs=differs,
    )


def _drawn(cutter: _Cutter, frames: Iterator[Frame], threads: int, stack: contextlib.ExitStack) -> Iterator[Any]:
    """What is made of each frame, in order. As many frames are in memory as the steps need and no more."""
    first = next(frames, None)
    if first is None:
        return iter(())
    threads = max(1, min(threads, _UNDER_WAY // first.photo.pixels))

    def all_frames() -> Iterator[Frame]:
        yield first
        for frame in frames:
            if frame.photo.size != first.photo.size:  # a stream that changes its size
                frame = frame._replace(photo=frame.photo.shrunk(first.photo.size))
            yield frame

    seen = stack.enter_context(contextlib.closing(in_order(cutter.look, all_frames(), threads)))
    return stack.enter_context(
        contextlib.closing(in_order(cutter.draw, steadied(seen, cutter.request.steady), threads))
    )


def _sink(
    target: _Target, film: FilmFile, photo: Photo, stack: contextlib.ExitStack, writers: list[FilmWriter]
) -> Callable[[Any, Frame], None]:
    """What takes the frames of one kind of result."""
    make_folder(target.path.parent)
    if target.form == "frames":
        # one that is there has frames of an earlier call, as was checked
        folder, count = stack.enter_context(whole_folder(target.path, replace=True)), iter(range(1, 2**31))
        return lambda content, _: write_atomic(folder / f"{next(count):06}.png", content, target.key)
    writer = stack.enter_context(
        film_writer(target.path, film, target.kind, target.form, photo.size, clear=target.clear, key=target.key)
    )
    writers.append(writer)
    return lambda frame, shown: writer.add(frame, shown.time, shown.duration)
