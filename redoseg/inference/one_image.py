"""One photograph to its results: which of them are missing, what they contain, where they go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from redoseg.config.kinds import DRAWN, Kind
from redoseg.errors import DataError
from redoseg.files import printable
from redoseg.images.draw import encoded, tile_of
from redoseg.images.labels.entry import Entry
from redoseg.images.objects import Described, Found, objects_of
from redoseg.images.photo import Part, Photo, SoftMask
from redoseg.images.read import MAX_PIXELS, big_tiff, read_photo
from redoseg.inference.labelling import FileEach, Journal, OneFile
from redoseg.inference.object_mask import cleaned, object_of
from redoseg.inference.request import Request, digest_of
from redoseg.inference.results import file_of, png_of
from redoseg.inference.segmenter import Segmenter
from redoseg.inference.shared_files import TILE, Reviewed, SharedFiles
from redoseg.inference.stores import Store, store_of
from redoseg.storage import Address, Place

_MOST_PARTS = 999


class Job(NamedTuple):
    """A photograph to segment."""

    image: Place
    name: str
    """Below the folder that all photographs have in common, with slashes."""
    stem: str
    """Its results' names without their suffix, below the folder of the results."""
    content: bytes | None = None
    """What its file contains, where it does not come from `image`."""


class Plan(NamedTuple):
    """What is to be made of a photograph."""

    kinds: list[Kind]
    review: bool
    differs: bool
    """Whether a result stays that is of other settings, or of a picture that has changed since."""
    keys: dict[Kind, str]


class Frame(NamedTuple):
    """Which part of a photograph a picture shows."""

    box: Part | None = None
    """All of it if None."""
    square_about: Part | None = None
    """The object's box, for a square picture."""


def frame_of(request: Request, one: Found | None, size: tuple[int, int]) -> Frame:
    """What a request asks for about an object, in a photograph of this size (width, height); all of it without one."""
    if one is None:
        return Frame()
    return Frame(_part_of(one, size, request.look.margin) if request.crop else None, _part_of(one, size, 0))


@dataclass(frozen=True)
class Made:
    """What one photograph gave."""

    confidence: float
    note: str
    differs: bool = False
    files: list[tuple[Place, Iterable[bytes], str]] = field(default_factory=list)
    """Path, content and key of each, to be written in this order."""
    entries: dict[Kind, Entry] = field(default_factory=dict)
    reviewed: Reviewed | None = None


@dataclass(frozen=True)
class Places:
    """Where the results of a call go: each of several kinds into a folder of its name."""

    out: Place
    request: Request
    only: Place | None = None
    """The one file, where its name is given."""

    def folder(self, kind: Kind) -> Place:
        """That of the results of a kind."""
        return self.out / kind if len(self.request.kinds) > 1 else self.out

    def shared(self, kind: Kind) -> Place | None:
        """The file that all photographs share; None for a kind that has none."""
        form = self.request.format_of(kind)
        return (self.only or self.folder(kind) / form.file) if isinstance(form, OneFile) else None

    def beside(self, kind: Kind, label: str) -> tuple[Place, bytes] | None:
        """A small file that the tool needs too."""
        form = self.request.format_of(kind)
        if form is None or form.content_beside is None or self.only is not None:
            return None
        return self.folder(kind) / form.beside, form.content_beside(label)

    def own(self, kind: Kind, stem: str, number: int = 0) -> Place:
        """The file of one photograph, or of a part of it by its number from 1."""
        form = self.request.format_of(kind)
        below = form.folder if isinstance(form, FileEach) else ""
        numbered = f"-{number}" if number else ""
        if self.only is not None:
            return self.only.with_stem(self.only.stem + numbered)
        return self.folder(kind) / below / f"{stem}{numbered}{self.request.suffix(kind)}"

    def first(self, kind: Kind, stem: str) -> Place:
        """The file by which it is known whether all of a photograph are there: the last one that is written."""
        return self.own(kind, stem, 1 if self.request.parts and kind in DRAWN else 0)


@dataclass(frozen=True)
class Work:
    """What all photographs of a call have in common."""

    segmenter: Segmenter
    request: Request
    places: Places
    inputs: set[str]
    """Real paths of the photographs, which are never replaced."""
    shared: SharedFiles | None = None
    root: str = ""
    """The name of the folder that all photographs have in common."""
    given: Store | None = None
    """Where the results are, if that is neither a folder nor an address."""
    journal: Journal | None = field(init=False)
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        out = self.places.out
        object.__setattr__(self, "journal", Journal(out) if isinstance(out, Path) else None)
        object.__setattr__(
            self, "store", self.given or (self.shared.store if self.shared is not None else store_of(out))
        )

    @property
    def label(self) -> str:
        """What the object is called."""
        return self.request.label or self.segmenter.name

    def read(
        self, job: Job, most: int = MAX_PIXELS, take: Callable[[int], None] | None = None, most_bytes: int | None = None
    ) -> Photo:
        """The photograph of a job, as by `read_photo`; a TIFF file that is too large for that stays on disk.

        The latter only where the model sees it in tiles. Raises DataError.
        """
        if job.content is None and isinstance(job.image, Path) and getattr(self.segmenter, "tiles", 0) > 0:
            large = big_tiff(job.image, most)
            if large is not None:
                if take is not None:
                    take(most)  # its mask alone has as many bytes
                return large
        return read_photo(job.image, most=most, content=job.content, take=take, most_bytes=most_bytes)

    def plan(self, job: Job) -> Plan:
        """What is to be made: with --skip-existing what is missing, else all."""
        request = self.request
        digest = digest_of(job.image if job.content is None else job.content)
        keys = {kind: request.key(self.segmenter, kind, digest) for kind in request.kinds}
        if not request.skip_existing:
            return Plan(list(request.kinds), request.review, False, keys)
        found = {kind: self._found(kind, job) for kind in request.kinds}
        stale = {kind for kind, key in found.items() if key is not None and not (key and key == keys[kind])}
        missing = [k for k in request.kinds if found[k] is None or (k in stale and request.overwrite)]
        differs = bool(stale) and not request.overwrite
        row = self.shared.reviewed.get(printable(job.name)) if self.shared is not None else None
        lacks = request.review and not differs and (row is None or row.key != keys[request.kinds[0]])
        return Plan(missing, lacks or (request.review and bool(missing)), differs, keys)

    def _found(self, kind: Kind, job: Job) -> str | None:
        """The key of a result that is there; "" where it has none, None where it is missing."""
        form = self.request.format_of(kind)
        if isinstance(form, OneFile):
            entry = self.shared.entries[kind].get(job.name) if self.shared is not None else None
            return None if entry is None else entry.key
        target = self.places.first(kind, job.stem)
        if form is not None and not form.keeps_key and self.journal is not None and isinstance(target, Path):
            return self.journal.key_of(target)
        return self.store.key_of(target)

    def refused(self, job: Job, plan: Plan) -> str | None:
        """Why the results of a photograph may not be written, if they may not."""
        for kind in plan.kinds:
            form = self.request.format_of(kind)
            if isinstance(form, OneFile):
                continue
            name = Path(job.name)
            if isinstance(form, FileEach) and form.by_stem and name.suffix and Path(job.stem).name == name.name:
                return f"another picture differs from it in its suffix alone, which {kind} does not allow; rename it"
            target = self.places.first(kind, job.stem)
            problem = self.store.why_not_write(target, self.inputs, self.request.overwrite)
            if problem:
                return f"{printable(target)} {problem}"
        return None

    def make(self, photo: Photo, job: Job, plan: Plan) -> Made:
        """The results of a photograph. Raises DataError."""
        request, threshold = self.request, self.request.threshold
        soft, confidence = self.segmenter.soft_mask(photo)
        made = Made(confidence, photo.note, plan.differs)
        boxed = request.crop or bool(request.square)
        if plan.kinds == ["soft"] and not (plan.review or boxed):
            made.files.append((self.places.own("soft", job.stem), png_of(photo, soft, "soft"), plan.keys["soft"]))
            return made
        object_soft = cleaned(photo, soft, threshold, request.cleaning)
        labels = [kind for kind in plan.kinds if kind not in DRAWN]
        drawn = [kind for kind in plan.kinds if kind in DRAWN]
        objects: list[Found | None] = [None]  # all of the photograph
        if plan.review or boxed or labels or request.parts:
            mask = object_of(photo, object_soft, threshold)
            reviewed = self._reviewed(photo, mask, confidence, job, plan) if plan.review else None
            made = Made(confidence, photo.note, plan.differs, reviewed=reviewed)
            found = objects_of(mask, request.parts) if labels or boxed or request.parts else []
            self._describe(made, labels, found, photo=photo, job=job, plan=plan)
            if drawn and (boxed or request.parts):
                objects = list(_some(found, job.image))
        # the first part last: where it is there, all are
        for number, one in reversed(list(enumerate(objects, 1 if request.parts else 0))):
            of_one = _only(photo, object_soft, one, threshold) if request.parts and one is not None else object_soft
            for kind in drawn:
                content = self._drawn(kind, photo, soft if kind == "soft" else of_one, one)
                made.files.append((self.places.own(kind, job.stem, number), content, plan.keys[kind]))
        return made

    def _drawn(self, kind: Kind, photo: Photo, soft: SoftMask, one: Found | None) -> Iterable[bytes]:
        """The file of one kind, of all of a photograph or of one object in it."""
        framed = frame_of(self.request, one, photo.size)
        return file_of(
            photo, soft, kind, self.request.look_of(kind), keep_hidden=self.request.keep_hidden, **framed._asdict()
        )

    def _describe(
        self,
        made: Made,
        labels: Sequence[Kind],
        objects: Sequence[Found],
        *,
        photo: Photo,
        job: Job,
        plan: Plan,
    ) -> None:
        """Add what labelling tools and tables read."""
        for kind in labels:
            form, target = self.request.format_of(kind), self.places.own(kind, job.stem)
            seen = Described(
                name=job.name,
                size=photo.size,
                objects=tuple(objects),
                label=self.label,
                model=self.segmenter.name,
                confidence=made.confidence,
                key=plan.keys[kind],
                root=self.root,
                photograph=_path_from(target.parent, job.image),
                photo=photo,
                mm_per_pixel=self.request.mm_per_pixel,
            )
            if isinstance(form, OneFile):
                made.entries[kind] = form.entry(seen)
            elif form is not None:
                made.files.append((target, [form.content(seen)], plan.keys[kind]))

    def write(self, made: Made) -> list[Place]:
        """Write the files of one photograph alone; returns their paths. Raises DataError."""
        for target, pieces, key in made.files:
            if self.request.parts and not self.request.overwrite and self.store.exists(target):
                raise DataError(f"{printable(target)} {self.store.why_not_write(target, self.inputs, False)}")
            if self.journal is not None and isinstance(target, Path) and target.suffix == ".txt" and key:
                content = b"".join(pieces)
                self.journal.note(target, key, content)
                pieces = [content]
            self.store.write(target, pieces, key)
        return [target for target, _, _ in made.files]

    def _reviewed(self, photo: Photo, mask: NDArray[np.bool_], confidence: float, job: Job, plan: Plan) -> Reviewed:
        out, drawn = self.places.out, ""
        if "mask" in self.request.kinds and not self.request.parts:  # a part is not a mask of its picture
            drawn = _path_from(out, self.places.own("mask", job.stem))
        return Reviewed(
            confidence=confidence,
            share=float(mask.mean()),
            name=printable(job.name),
            tile=encoded(tile_of(photo, mask, TILE), "JPEG", quality=80),
            key=next(iter(plan.keys.values())),
            file=_path_from(out, job.image),
            mask=drawn,
        )


def _path_from(folder: Place, image: Place) -> str:
    """The path of a photograph from a folder; the whole one where there is none, as between drives, and an address."""
    if isinstance(image, Address):
        return image.text
    if isinstance(folder, Address):
        return image.absolute().as_posix()
    try:
        return Path(os.path.relpath(image, folder)).as_posix()
    except ValueError:
        return image.absolute().as_posix()


def _some(found: Sequence[Found], path: Place) -> Sequence[Found]:
    """The objects of a picture. Raises DataError where there is none, or more than anybody wants as files."""
    if not found:
        raise DataError(
            f"{printable(path)}: no object was found to crop to; segment this picture without --crop, --square and "
            "--parts"
        )
    if len(found) > _MOST_PARTS:
        raise DataError(
            f"{printable(path)}: its mask has {len(found):,} parts, but at most {_MOST_PARTS} are written; remove "
            "--no-clean, or choose a larger --smallest-part"
        )
    return found


def _part_of(one: Found, size: tuple[int, int], margin: float) -> Part:
    """Left, top, right and bottom of an object's box in a picture of this size, with a margin."""
    left, top, width, height = one.box
    more = round(margin * max(width, height))
    return (
        max(left - more, 0),
        max(top - more, 0),
        min(left + width + more, size[0]),
        min(top + height + more, size[1]),
    )


def _only(photo: Photo, soft: SoftMask, one: Found, threshold: float) -> SoftMask:
    """The soft mask with 0 where another object is."""
    x, y, width, height = one.box

    def make(part: Part) -> NDArray[np.float32]:
        left, top, right, bottom = part
        values = soft.part(part)
        inside = photo.within(values, part) > threshold
        own = np.zeros(values.shape, bool)
        first_x, first_y, last_x, last_y = max(left, x), max(top, y), min(right, x + width), min(bottom, y + height)
        if first_x < last_x and first_y < last_y:
            here = one.mask[first_y - y : last_y - y, first_x - x : last_x - x]
            own[first_y - top : last_y - top, first_x - left : last_x - left] = here
        return np.where(inside & ~own, np.float32(0), values)

    return SoftMask(soft.size, make)
