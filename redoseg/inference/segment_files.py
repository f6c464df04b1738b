"""Photographs in, masks out: one picture, or several and folders, whose sub-folders are mirrored."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

from redoseg.config.kinds import Kind
from redoseg.errors import DataError, FullError, RedosegError
from redoseg.files import check_writable, printable
from redoseg.images.backdrop import ground_of
from redoseg.images.clean import Cleaning
from redoseg.images.cut_short import notes_of
from redoseg.images.kinds import names_a_file
from redoseg.images.packing import SUFFIXES, ImageFormat
from redoseg.images.read import MAX_BYTES, MAX_PIXELS
from redoseg.images.shards import is_shard
from redoseg.inference import streams
from redoseg.inference.doubt import is_doubtful
from redoseg.inference.film_sources import Films, find_films
from redoseg.inference.film_writing import FILM_FORMATS, FilmFormat
from redoseg.inference.labelling import OneFile
from redoseg.inference.object_mask import CLEANING, HALF
from redoseg.inference.one_image import Job, Made, Places, Work
from redoseg.inference.report import OnItem, SegmentReport, Tally, joined, note_films
from redoseg.inference.request import Engine, Request
from redoseg.inference.results import FEATHER
from redoseg.inference.segment_films import OnFrame, segment_films, why_no_films
from redoseg.inference.segment_shards import segment_shards
from redoseg.inference.segmenter import Segmenter, cleaning_for
from redoseg.inference.shared_files import SharedFiles
from redoseg.inference.sources import STREAM, are_several, expand_patterns, find_images, place_named
from redoseg.inference.steady import STEADY
from redoseg.inference.steps import Done, Steps, by_threads
from redoseg.own_results import marked
from redoseg.storage import Address, Place, check_target, forget_listings
from redoseg.system import Room

# a path that ends so is meant as a file


def segment_paths(
    segmenter: Segmenter,
    source: str | Place | Sequence[str | Place],
    out: str | Place,
    *,
    kind: Kind | Sequence[Kind] = "mask",
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
    polygons: bool = False,
    parts: bool = False,
    matting: bool = False,
    ground: str = "",
    margin: float | None = None,
    square: int = 0,
    image_format: ImageFormat | None = None,
    quality: int | None = None,
    mm_per_pixel: float | None = None,
    engine: Engine = "threads",
    workers: int = 0,
    film: FilmFormat = "auto",
    steady: int = STEADY,
    on_frame: OnFrame | None = None,
) -> SegmentReport:
    """Segment one picture or film, or several and folders, into files of the same names and sub-folders under `out`.

    Args:
        kind: "mask" (0 and 255), "soft" (0 to 255), "cutout" (RGBA), "overlay" (drawn on the picture), all PNG files of
            the picture's own size; "yolo" or "labelme", a text for each picture; "coco", "labelstudio" or "measures",
            one file for all. Each of several kinds has a sub-folder of its name.
        source: a picture, a folder, a pattern as in `photos/*.jpg`, a list of pictures that ends in .txt, or several
            of these; each may be an address such as s3://bucket/photos. "-" for the picture that comes through
            standard input.
        out: a folder or the address of one; for one picture also a file ending in .png (.json or .txt for labels), or
            "-" for standard output.
        overwrite: whether files that are there may be replaced; a picture to segment never is.
        crop: cut the results to the box around the object, which must be there then.
        keep_hidden: leave the photograph below what is transparent in a cut-out; otherwise it is black there.
        review: of several pictures, also write contact sheets `review-1.jpg`, ... that go from the least to the most
            sure picture, and `review.csv` in that order; with measures, also `review-measures.png` with histograms.
            It keeps some 5 kB in memory for each picture.
        label: what the object is called in files of labelling tools; the model's name if empty.
        threshold: from which value of the soft mask on a pixel is the object's, 0 to 1; "soft" is not cut.
        skip_existing: leave results that the same model and settings made of the same pictures, and keep the other
            pictures of `coco.json` and of the review. Results that differ are replaced with `overwrite` alone.
        cleaning: which parts are dropped from masks and which holes are filled, but not in "soft" nor with plain edges;
            None for none.
        feather: over how many pixels a cut-out fades in from its edge inwards, 0 to 200.
        matting: find how opaque a cut-out is along its edge from the photograph's colours there, for hair and petals.
        polygons: masks in `coco.json` are polygons rather than run-length codes.
        parts: each connected part of a mask is an object of its own: a picture `NAME-1.png`, ... with the largest
            first, and an object in files of labelling tools.
        ground: what cut-outs are put on: a colour as "white" or "#ff8800", "blur" for the photograph's own ground
            blurred, or the path of a picture; transparent if empty.
        margin: around a crop or square, as a share of the object's longer side, 0 to 1; 0.02 if None.
        square: side of square cut-outs with the object in the middle [pixels]; 0 for the photograph's pixels.
        image_format: "png", "jpg" or "webp" for cut-outs and overlays; if None, by the suffix of `out`, else PNG.
        quality: of JPEG and WebP, 1 to 100; 90 if None.
        mm_per_pixel: how much of the object a pixel shows, for the table of measures [mm]; only pixels if None.
        engine: "threads" of this process, or "ray" for several pictures or shards on a Ray cluster.
        workers: processes of "ray", each with a core; 0 for as many as the cluster has cores.
        film: how films that are made of films are packed: "mp4", "webm", "prores", "ffv1", or "frames" for a folder of
            PNG files; "auto" is WebM for transparent cut-outs and MP4 for the rest.
        steady: over how many frames before and after a film's masks are averaged, 0 to 15.
        on_frame: called after each frame of a film.

    Results of several sources have the sub-folders below the folder that all sources have in common. Pictures that
    would give the same name keep their suffix in it (`a.jpg.png`). The rest continues after a picture that fails;
    stopped by hand, what all pictures share is written of those done. Raises RedosegError for a single picture that
    fails, or if `out` cannot be used; FullError, a DataError, at the first result for which the disk is full.
    """
    out = place_named(out, "the place of the results")
    kinds: tuple[Kind, ...] = (kind,) if isinstance(kind, str) else tuple(dict.fromkeys(kind)) or ("mask",)
    request = Request(
        kinds=kinds,
        parts=parts,
        matting=matting,
        ground=ground_of(ground),
        margin=margin,
        square=square,
        form=image_format or _format_of(out, kinds),
        quality=quality,
        mm_per_pixel=mm_per_pixel,
        threshold=threshold,
        cleaning=cleaning_for(getattr(segmenter, "edges", "guided"), cleaning),  # stand-ins have none
        crop=crop,
        keep_hidden=keep_hidden,
        feather=feather,
        polygons=polygons,
        review=review,
        label=label,
        overwrite=overwrite,
        skip_existing=skip_existing,
        film=film,
        steady=steady,
    )
    _check_place(out, kinds)
    forget_listings()
    sources = expand_patterns(source)
    if not sources:
        raise DataError("no picture is given; name a picture, a folder or a pattern")
    films, sources = find_films(sources, out, why_no_films(segmenter, request, out, engine=engine))
    if films.paths:
        return _with_films(segmenter, films, sources, out, request, on_item=on_item, on_frame=on_frame)
    report = _segment_images(segmenter, sources, out, request, on_item, engine=engine, workers=workers)
    return replace(report, notes=(*report.notes, *note_films(films)))


def _with_films(
    segmenter: Segmenter,
    films: Films,
    rest: Sequence[Place],
    out: Place,
    request: Request,
    *,
    on_item: OnItem | None,
    on_frame: OnFrame | None,
) -> SegmentReport:
    """The pictures among the rest of the sources, if there are any, and then the films."""
    assert isinstance(out, Path)
    _check_out(Path(out.parent) if out.suffix.lower() in FILM_FORMATS else out, rest)
    images = SegmentReport(0, ())
    try:
        rest = rest and find_images(rest, out).images and rest
    except DataError:  # folders that have only films
        rest = ()
    if rest:
        images = _segment_images(segmenter, rest, out, request, on_item, engine="threads", workers=0)
    return joined(images, segment_films(segmenter, films, out, request, on_frame, raises=not rest))


def _segment_images(
    segmenter: Segmenter,
    sources: Sequence[Place],
    out: Place,
    request: Request,
    on_item: OnItem | None,
    *,
    engine: Engine,
    workers: int,
) -> SegmentReport:
    """As `segment_paths` without films."""
    shards = [source for source in sources if is_shard(source) and not _is_dir(source)]
    if shards:
        _check_shards(shards, sources, out)
        return segment_shards(segmenter, shards, out, request, on_item, engine=engine, workers=workers)
    piped = str(sources[0]) == STREAM
    several = not piped and are_several(sources)
    if str(out) == STREAM:
        _check_sent(sources, several, request)
    elif several:
        return segment_many(segmenter, sources, out, request, on_item, engine=engine, workers=workers)
    if request.review:
        raise RedosegError(
            f"a review sheet (--review) shows the pictures of a folder, but {printable(sources[0])} is one picture; "
            "remove --review"
        )
    content = streams.received() if piped else None
    image = Path(streams.NAME) if piped else sources[0]
    if isinstance(image, Address):
        content = image.read_bytes(MAX_BYTES)
    job = Job(image, image.name, image.stem, content)
    return _send(segmenter, job, request) if str(out) == STREAM else _segment_one(segmenter, job, out, request, on_item)


def _check_place(out: Place, kinds: Sequence[Kind]) -> None:
    """Raises DataError where results of these kinds cannot be written to an address."""
    if not isinstance(out, Address):
        return
    check_target(out)
    if "yolo" in kinds:
        raise DataError(
            f"--as yolo cannot be written to {printable(out)}, whose files do not say what they were made of; "
            "choose a folder on this machine, or --as coco"
        )


def _check_shards(shards: Sequence[Place], sources: Sequence[Place], out: Place) -> None:
    """Raises DataError where shards and other sources are mixed, or `out` is the name of a file."""
    other = next((source for source in sources if source not in shards), None)
    if other is not None:
        raise DataError(
            f"{printable(shards[0])} is a shard and {printable(other)} is not; segment shards in a call of their own"
        )
    _check_out(out, [])


def _format_of(out: Place, kinds: Sequence[Kind]) -> ImageFormat:
    """The format that the name of a result asks for."""
    may_lose = set(kinds) <= {"cutout", "overlay"} and not _is_dir(out)
    return SUFFIXES.get(out.suffix.lower(), "png") if may_lose else "png"


def _is_dir(place: Place) -> bool:
    """Whether there is a folder of that name on this machine."""
    return isinstance(place, Path) and place.is_dir()


def _inputs_of(images: Sequence[Place], request: Request) -> set[str]:
    """Real paths of what is read, which is never replaced."""
    ground = [request.ground.path] if request.ground is not None and request.ground.path is not None else []
    return {str(path) if isinstance(path, Address) else os.path.realpath(path) for path in (*images, *ground)}


def _check_sent(sources: Sequence[Place], several: bool, request: Request) -> None:
    """Raises DataError where the result cannot go to standard output."""
    if several:
        what = "a folder" if len(sources) == 1 else f"the first of {len(sources):,} pictures"
        raise DataError(
            f"-o - takes the result of one picture, but {printable(sources[0])} is {what}; choose one picture, or a "
            "folder for the results"
        )
    if request.parts:
        raise DataError("-o - takes one result, but --parts makes several; choose a folder, or remove --parts")
    if len(request.kinds) > 1:
        raise DataError(f"-o - takes one result, but --as asks for {', '.join(request.kinds)}; choose one of them")
    if request.skip_existing:
        raise DataError("-o - writes to standard output, where no result is kept; remove --skip-existing")
    streams.check_sendable()


def _send(segmenter: Segmenter, job: Job, request: Request) -> SegmentReport:
    """The result of one picture, to standard output."""
    work = Work(segmenter, request, Places(Path(), request), set(), root=_folder_name(job.image))
    made = work.make(work.read(job), job, work.plan(job))
    for kind, entry in made.entries.items():
        form = request.format_of(kind)
        assert isinstance(form, OneFile)
        streams.send([form.content([entry], work.label)])
    for _, pieces, key in made.files:
        streams.send(marked(pieces, key))
    return _report_one(job, made)


def _folder_name(image: Place) -> str:
    """The name of the folder that a picture is in."""
    return image.parent.name if isinstance(image, Address) else image.absolute().parent.name


def _report_one(job: Job, made: Made, written: Sequence[Place] = ()) -> SegmentReport:
    notes = notes_of([(printable(job.image), made.note)] if made.note else [])
    return SegmentReport(
        0 if made.differs else 1,
        (),
        tuple(written),
        notes,
        doubtful=int(is_doubtful(made.confidence)),
        differing=(job.image,) if made.differs else (),
    )


def _shared(places: Places, request: Request, label: str, inputs: set[str]) -> SharedFiles:
    formats: dict[Kind, tuple[Place, OneFile]] = {}
    beside: dict[Place, bytes] = {}
    for kind in request.kinds:
        form, file, more = request.format_of(kind), places.shared(kind), places.beside(kind, label)
        if isinstance(form, OneFile) and file is not None:
            formats[kind] = file, form
        if more is not None:
            beside[more[0]] = more[1]
    return SharedFiles(places.out, formats, beside, review=request.review, label=label, inputs=inputs)


def _segment_one(segmenter: Segmenter, job: Job, out: Place, request: Request, on_item: OnItem | None) -> SegmentReport:
    places = _places_of_one(out, request)
    inputs = _inputs_of([job.image] if job.content is None or isinstance(job.image, Address) else [], request)
    shared = _shared(places, request, request.label or segmenter.name, inputs)
    work = Work(
        segmenter=segmenter, request=request, places=places, inputs=inputs, shared=shared, root=_folder_name(job.image)
    )
    if isinstance(places.out, Path):
        check_writable(places.out)
    with contextlib.ExitStack() as stack:
        if shared.formats or shared.beside:  # a folder's results may be on their way into a file of that name
            stack.enter_context(shared.store.alone())
            shared.begin(1, request.overwrite, request.skip_existing)
        plan = work.plan(job)
        if not plan.kinds:
            kept = (job.image,) if plan.differs else ()
            return SegmentReport(0, (), skipped=0 if plan.differs else 1, differing=kept)
        refused = work.refused(job, plan)
        if refused:
            raise RedosegError(refused)
        made = work.make(work.read(job), job, plan)
        written = work.write(made)
        shared.add(made.entries, None)
        written += shared.write()
    if on_item is not None:
        on_item(job.image, 1, 1, None)
    return _report_one(job, made, written)


def _places_of_one(out: Place, request: Request) -> Places:
    """Where one picture's results go: into the folder `out`, or the file `out`."""
    if _is_dir(out) or not names_a_file(out.name):
        return Places(out, request)
    if len(request.kinds) > 1:
        raise RedosegError(
            f"{printable(out)} is the name of one file, but --as asks for {', '.join(request.kinds)}; choose a folder"
        )
    right = request.suffix(request.kinds[0])
    if out.suffix.lower() != right and SUFFIXES.get(out.suffix.lower(), "") != right[1:]:
        raise RedosegError(
            f"{printable(out)}: the result is a {right} file; choose a name that ends in {right}, or a folder"
        )
    return Places(out.parent, request, out)


def segment_many(
    segmenter: Segmenter,
    sources: Sequence[Place],
    out: Place,
    request: Request,
    on_item: OnItem | None = None,
    *,
    most: int = MAX_PIXELS,
    most_bytes: int | None = None,
    room: Room | None = None,
    engine: Engine = "threads",
    workers: int = 0,
) -> SegmentReport:
    """As `segment_paths` of several pictures and folders, which exist.

    `most` is how many pixels a picture may have, `most_bytes` what decoding it may take. `room` is where pixels in
    memory are counted, so that other work at the same time can share it. `engine` and `workers` are as for
    `segment_paths`. Raises RedosegError.
    """
    _check_out(out, sources)
    found = find_images(sources, out)
    inputs = _inputs_of(found.images, request)
    places = Places(out, request)
    shared = _shared(places, request, request.label or segmenter.name, inputs)
    with contextlib.ExitStack() as stack:
        stack.enter_context(shared.store.alone())
        work = Work(segmenter=segmenter, request=request, places=places, inputs=inputs, shared=shared, root=found.root)
        shared.begin(len(found.images), request.overwrite, request.skip_existing)
        # Held here once: threads that enter and leave it in turns would restore each other's filters.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        steps = Steps(work, most, room or Room(MAX_PIXELS), most_bytes)
        jobs = [Job(*job) for job in zip(found.images, found.names, found.stems, strict=True)]
        if engine == "ray":
            from redoseg.inference.by_ray import by_ray

            run = by_ray(steps, jobs, workers)
        else:
            run = by_threads(steps, jobs, segmenter.threads)
        tally = Tally([*found.problems], found.own)
        try:
            return _counted(run, len(jobs), tally, shared, on_item)
        finally:
            steps.notes.close()


def _check_out(out: Place, sources: Sequence[Place]) -> None:
    """Raises RedosegError where the results of several pictures cannot go to `out`."""
    if names_a_file(out.name) if isinstance(out, Address) or not out.exists() else not out.is_dir():
        raise RedosegError(
            f"{printable(out)} is the name of a file, but the results of a folder need a folder; choose one"
        )
    here = out.resolve() if isinstance(out, Path) else out
    if any(
        (source.resolve() if isinstance(source, Path) else source) == here for source in sources if _is_folder(source)
    ):
        raise RedosegError(f"{printable(out)} is the folder of the pictures; choose another folder for the results")


def _is_folder(source: Place) -> bool:
    return isinstance(source, Address) or source.is_dir()


def _counted(
    run: Generator[Done, None, None], total: int, tally: Tally, shared: SharedFiles, on_item: OnItem | None
) -> SegmentReport:
    """Do the work to its end; what pictures share is written also when it is stopped by hand."""
    full = False
    try:
        with contextlib.closing(run) as results:
            for seen, one in enumerate(results, 1):
                tally.take(one)
                if isinstance(one.made, Made):
                    tally.written += [path for path, _, _ in one.made.files]
                    shared.add(one.made.entries, one.made.reviewed)
                if on_item is not None:
                    on_item(one.job.image, seen, total, one.made if isinstance(one.made, str) else None)
    except FullError as error:
        full = True
        kept = f"{tally.done + tally.skipped:,} of {total:,} pictures are segmented"
        raise FullError(f"{error}; {kept}, and --skip-existing continues") from None
    finally:
        with contextlib.suppress(FullError) if full else contextlib.nullcontext():
            tally.written += shared.write()
    return tally.report()
