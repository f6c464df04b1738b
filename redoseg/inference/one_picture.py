"""One photograph to its results: which of them are missing, what they contain, where they go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from redoseg.config.kinds import DRAWN, Kind
from redoseg.errors import DataError
from redoseg.files import key_of, make_folder, printable, why_not_write, write_atomic
from redoseg.images.draw import encoded, tile_of
from redoseg.images.labels.entry import Entry
from redoseg.images.objects import Described, bounding_box, objects_of
from redoseg.images.photo import Part, Photo, SoftMask
from redoseg.inference.labelling import FileEach, Journal, OneFile
from redoseg.inference.object_mask import cleaned, object_of
from redoseg.inference.request import Request, digest_of
from redoseg.inference.results import png_of
from redoseg.inference.segmenter import Segmenter
from redoseg.inference.shared_files import TILE, Reviewed, SharedFiles

_MARGIN = 0.02  # around a crop, as a share of its longer side


class Job(NamedTuple):
    """A photograph to segment."""

    image: Path
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


@dataclass(frozen=True)
class Made:
    """What one photograph gave."""

    confidence: float
    note: str
    differs: bool = False
    files: list[tuple[Path, Iterable[bytes], str]] = field(default_factory=list)
    """Path, content and key of each, to be written in this order."""
    entries: dict[Kind, Entry] = field(default_factory=dict)
    reviewed: Reviewed | None = None


@dataclass(frozen=True)
class Places:
    """Where the results of a call go: each of several kinds into a folder of its name."""

    out: Path
    request: Request
    only: Path | None = None
    """The one file, where its name is given."""

    def folder(self, kind: Kind) -> Path:
        """That of the results of a kind."""
        return self.out / kind if len(self.request.kinds) > 1 else self.out

    def shared(self, kind: Kind) -> Path | None:
        """The file that all photographs share; None for a kind that has none."""
        form = self.request.format_of(kind)
        return (self.only or self.folder(kind) / form.file) if isinstance(form, OneFile) else None

    def beside(self, kind: Kind, label: str) -> tuple[Path, bytes] | None:
        """A small file that the tool needs too."""
        form = self.request.format_of(kind)
        if form is None or form.content_beside is None or self.only is not None:
            return None
        return self.folder(kind) / form.beside, form.content_beside(label)

    def own(self, kind: Kind, stem: str) -> Path:
        """The file of one photograph."""
        form = self.request.format_of(kind)
        below = form.folder if isinstance(form, FileEach) else ""
        return self.only or self.folder(kind) / below / f"{stem}{self.request.suffix(kind)}"


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
    journal: Journal = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "journal", Journal(self.places.out))

    @property
    def label(self) -> str:
        """What the object is called."""
        return self.request.label or self.segmenter.name

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
        target = self.places.own(kind, job.stem)
        return self.journal.key_of(target) if form is not None and not form.keeps_key else key_of(target)

    def refused(self, job: Job, plan: Plan) -> str | None:
        """Why the results of a photograph may not be written, if they may not."""
        for kind in plan.kinds:
            form = self.request.format_of(kind)
            if isinstance(form, OneFile):
                continue
            name = Path(job.name)
            if isinstance(form, FileEach) and form.by_stem and name.suffix and Path(job.stem).name == name.name:
                return f"another picture differs from it in its suffix alone, which {kind} does not allow; rename it"
            target = self.places.own(kind, job.stem)
            problem = why_not_write(target, self.inputs, self.request.overwrite)
            if problem:
                return f"{printable(target)} {problem}"
        return None

    def make(self, photo: Photo, job: Job, plan: Plan) -> Made:
        """The results of a photograph. Raises DataError."""
        request, threshold = self.request, self.request.threshold
        soft, confidence = self.segmenter.soft_mask(photo)
        made = Made(confidence, photo.note, plan.differs)
        if plan.kinds == ["soft"] and not (plan.review or request.crop):
            made.files.append(self._drawn("soft", photo, soft, job, plan))
            return made
        object_soft = cleaned(photo, soft, threshold, request.cleaning)
        box = None
        labels = [kind for kind in plan.kinds if kind not in DRAWN]
        if plan.review or request.crop or labels:
            mask = object_of(photo, object_soft, threshold)
            box = _crop_of(mask, job.image) if request.crop else None
            reviewed = _reviewed(photo, mask, confidence, job, plan) if plan.review else None
            made = Made(confidence, photo.note, plan.differs, reviewed=reviewed)
            self._describe(made, labels, mask, job, plan)
        for kind in plan.kinds:
            if kind in DRAWN:
                made.files.append(self._drawn(kind, photo, soft if kind == "soft" else object_soft, job, plan, box))
        return made

    def _drawn(
        self, kind: Kind, photo: Photo, soft: SoftMask, job: Job, plan: Plan, box: Part | None = None
    ) -> tuple[Path, Iterable[bytes], str]:
        request = self.request
        png = png_of(
            photo,
            soft,
            kind,
            request.threshold,
            keep_hidden=request.keep_hidden,
            feather=request.feather,
            box=box,
        )
        return self.places.own(kind, job.stem), png, plan.keys[kind]

    def _describe(self, made: Made, labels: Sequence[Kind], mask: NDArray[np.bool_], job: Job, plan: Plan) -> None:
        """Add what labelling tools read."""
        objects = tuple(objects_of(mask)) if labels else ()
        for kind in labels:
            form, target = self.request.format_of(kind), self.places.own(kind, job.stem)
            seen = Described(
                name=job.name,
                size=(mask.shape[1], mask.shape[0]),
                objects=objects,
                label=self.label,
                model=self.segmenter.name,
                confidence=made.confidence,
                key=plan.keys[kind],
                root=self.root,
                photograph=_path_from(target.parent, job.image),
            )
            if isinstance(form, OneFile):
                made.entries[kind] = form.entry(seen)
            elif form is not None:
                made.files.append((target, [form.content(seen)], plan.keys[kind]))

    def write(self, made: Made) -> list[Path]:
        """Write the files of one photograph alone; returns their paths. Raises DataError."""
        for target, pieces, key in made.files:
            make_folder(target.parent)
            if target.suffix == ".txt" and key:
                content = b"".join(pieces)
                self.journal.note(target, key, content)
                pieces = [content]
            write_atomic(target, pieces, key)
        return [target for target, _, _ in made.files]


def _reviewed(photo: Photo, mask: NDArray[np.bool_], confidence: float, job: Job, plan: Plan) -> Reviewed:
    tile = encoded(tile_of(photo, mask, TILE), "JPEG", quality=80)
    return Reviewed(confidence, float(mask.mean()), printable(job.name), tile, next(iter(plan.keys.values())))


def _path_from(folder: Path, image: Path) -> str:
    """The path of a photograph from a folder; the whole path where there is none, as between drives."""
    try:
        return Path(os.path.relpath(image, folder)).as_posix()
    except ValueError:
        return image.absolute().as_posix()


def _crop_of(mask: NDArray[np.bool_], path: Path) -> Part:
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
