"""What a call of `segment` asks for, and whether it can be done."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from redoseg.config.kinds import DRAWN, KINDS, LABELS, MEASURES, Kind
from redoseg.errors import RedosegError
from redoseg.images.backdrop import Ground
from redoseg.images.clean import Cleaning
from redoseg.images.matting import closed_form
from redoseg.images.packing import QUALITY, ImageFormat
from redoseg.inference.film_writing import FilmFormat
from redoseg.inference.labelling import FileEach, OneFile, format_of
from redoseg.inference.measures import regionprops
from redoseg.inference.object_mask import CLEANING, HALF, check_threshold
from redoseg.inference.results import FEATHER, MARGIN, Look, check_feather
from redoseg.inference.steady import STEADY, check_steady
from redoseg.storage import Address, Place

MOST_SQUARE = 4096  # pixels

Engine = Literal["threads", "ray"]
"""What runs the work on many pictures: threads of this process, or Ray on a cluster."""


@dataclass(frozen=True)
class Request:
    """The kinds of results, and how they are made. Raises RedosegError for what cannot be combined."""

    kinds: tuple[Kind, ...] = ("mask",)
    threshold: float = HALF
    cleaning: Cleaning | None = CLEANING
    crop: bool = False
    keep_hidden: bool = False
    feather: float = FEATHER
    parts: bool = False
    """Each connected part is an object of its own."""
    ground: Ground | None = None
    margin: float | None = None
    """Around the object of a crop or square, as a share of its longer side; MARGIN if None."""
    square: int = 0
    """Side of a square cut-out [pixels]; 0 for none."""
    form: ImageFormat = "png"
    quality: int | None = None
    """Of JPEG and WebP, 1 to 100; QUALITY if None."""
    matting: bool = False
    """Whether a cut-out's opacity at its edge is found by matting."""
    polygons: bool = False
    """Masks in coco.json are polygons rather than run-length codes."""
    mm_per_pixel: float | None = None
    """How much of the object a pixel shows, for the table of measures [mm]."""
    review: bool = False
    label: str = ""
    """What the object is called; the model's name if empty."""
    overwrite: bool = False
    skip_existing: bool = False
    film: FilmFormat = "auto"
    """Of the films that are made of films."""
    steady: int = STEADY
    """Over how many frames before and after a film's masks are averaged."""

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise RedosegError(f"kind {kind!r} is not known; choose one of {', '.join(KINDS)}")
        for name in ("feather", "margin", "square", "quality", "mm_per_pixel", "steady"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float | np.number)):
                raise RedosegError(f"{name} is {value!r}, but must be a number; choose one")
        if self.form not in (forms := get_args(ImageFormat)):
            raise RedosegError(f"the format {self.form!r} is not known; choose one of {', '.join(forms)}")
        check_threshold(self.threshold)
        check_feather(self.feather)
        check_steady(self.steady)
        if self.crop and not set(self.kinds) & set(DRAWN):
            raise RedosegError(
                f"crop cannot be combined with kind {self.kinds[0]}, whose masks and boxes are of whole pictures; "
                "remove one of them"
            )
        if self.mm_per_pixel is not None and MEASURES not in self.kinds:
            raise RedosegError(
                f"--mm-per-pixel is for measures, but the kind is {', '.join(self.kinds)}; add --as measures, or "
                "remove it"
            )
        if self.mm_per_pixel is not None and not 0 < self.mm_per_pixel < 1e6:
            raise RedosegError(f"--mm-per-pixel is {self.mm_per_pixel:g}, but must be more than 0; choose another")
        if MEASURES in self.kinds:
            regionprops()
        self._check_look()
        if self.label and not set(self.kinds) & set(LABELS):
            raise RedosegError(
                f"--label is for {', '.join(LABELS)}, but the kind is {', '.join(self.kinds)}; add --as coco, or "
                "remove it"
            )
        if self.polygons and "coco" not in self.kinds:
            raise RedosegError(
                f"polygons are a form of coco.json, but the kind is {', '.join(self.kinds)}; choose coco, or remove "
                "--polygons"
            )

    def _check_look(self) -> None:
        """Raises RedosegError for options of pictures that the kinds do not have."""
        kinds = ", ".join(self.kinds)
        for given, option in (
            (self.ground is not None, "--ground"),
            (self.square, "--square"),
            (self.matting, "--matting"),
        ):
            if given and "cutout" not in self.kinds:
                raise RedosegError(f"{option} is for cut-outs, but the kind is {kinds}; add --as cutout, or remove it")
        if self.matting:
            closed_form()
            if self.feather:
                raise RedosegError(
                    "--feather cannot be combined with --matting, which finds the edge; remove one of them"
                )
        if self.ground is not None and self.keep_hidden:
            raise RedosegError("--keep-hidden is for what is transparent, which --ground covers; remove one of them")
        if self.square and not 16 <= self.square <= MOST_SQUARE:
            raise RedosegError(
                f"--square is {self.square}, but must be from 16 to {MOST_SQUARE} pixels; choose another"
            )
        if self.margin is not None and not 0 <= self.margin <= 1:
            raise RedosegError(f"--margin is {self.margin:g}, but must be from 0 to 1; choose another")
        if self.margin is not None and not (self.crop or self.square):
            raise RedosegError("--margin is for crops and squares; add --crop or --square, or remove it")
        if self.parts and "soft" in self.kinds:
            raise RedosegError(
                "--parts cannot be combined with --as soft, whose values have no clear edge; remove one of them"
            )
        if self.form == "png":
            if self.quality is not None:
                raise RedosegError(
                    "--quality is for JPEG and WebP, but PNG loses nothing; add --format jpg or webp, or remove it"
                )
            return
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise RedosegError(f"--quality is {self.quality}, but must be from 1 to 100; choose another")
        exact = [kind for kind in self.kinds if kind in ("mask", "soft")]
        if exact or not set(self.kinds) & set(DRAWN):
            raise RedosegError(
                f"--format {self.form} is for cut-outs and overlays, but the kind is {exact[0] if exact else kinds}; "
                "remove one of them"
            )
        if self.form == "jpg" and "cutout" in self.kinds and self.ground is None:
            raise RedosegError("JPEG has no transparency, which cut-outs need; add --ground white, or --format webp")

    @property
    def look(self) -> Look:
        """How pictures are drawn and packed."""
        return Look(
            threshold=float(self.threshold),
            feather=float(self.feather),
            ground=self.ground,
            form=self.form,
            quality=QUALITY if self.quality is None else self.quality,
            square=self.square,
            margin=MARGIN if self.margin is None else float(self.margin),
            matting=self.matting,
        )

    def look_of(self, kind: Kind) -> Look:
        """The same for one kind: only cut-outs have a ground, squares and matting."""
        return self.look if kind == "cutout" else replace(self.look, ground=None, square=0, matting=False)

    def format_of(self, kind: Kind) -> OneFile | FileEach | None:
        """The format of a kind of labels; None for pictures."""
        return format_of(kind, self.polygons)

    def suffix(self, kind: Kind) -> str:
        """That of the files of a kind."""
        form = self.format_of(kind)
        if isinstance(form, OneFile):
            return Path(form.file).suffix
        return form.suffix if form is not None else f".{self.form}"

    def with_film(self, film: FilmFormat) -> Request:
        """The same with films of this format."""
        return replace(self, film=film)

    def film_key(self, segmenter: object, kind: Kind, film: FilmFormat, digest: bytes | None) -> str:
        """As `key`, of a film."""
        made_of = self.key(segmenter, kind, digest)
        return made_of and hashlib.blake2b(f"{made_of} {film} {self.steady}".encode(), digest_size=16).hexdigest()

    def key(self, segmenter: object, kind: Kind, digest: bytes | None) -> str:
        """What a result is made of: model, settings, and the picture by its `digest`; "" if that is None.

        It has 32 hexadecimal digits. A result that has this key need not be made again.
        """
        if digest is None:
            return ""
        only_soft = kind == "soft" and not self.crop
        settings = [
            getattr(segmenter, "identity", ""),  # stand-ins for a segmenter have none
            kind,
            self.crop and kind in DRAWN,
            self.keep_hidden and kind == "cutout",
            float(self.feather) if kind == "cutout" else None,
            None if only_soft else self.cleaning,
            None if only_soft else float(self.threshold),
        ]
        if kind == "coco":
            settings += [self.polygons] if self.polygons else []
        elif kind in LABELS:
            settings.append(self.label)
        settings += ["parts"] if self.parts else []
        settings += [self.mm_per_pixel] if kind == MEASURES else []
        if kind in DRAWN and not (look := self.look_of(kind)).plain:
            ground = look.ground.identity if look.ground is not None else None
            settings += [ground, look.square, look.form, look.quality if look.form != "png" else None]
            settings += ["matting"] if look.matting else []
        if kind in DRAWN and self.margin is not None:
            settings.append(float(self.margin))
        made_of = hashlib.blake2b(repr(settings).encode(), digest_size=16)
        made_of.update(digest)
        return made_of.hexdigest()


def digest_of(image: Place | bytes) -> bytes | None:
    """A hash of a picture's file, or of what it contains; None if it cannot be read."""
    if isinstance(image, bytes):
        return hashlib.blake2b(image).digest()
    if isinstance(image, Address):  # what it contains was not fetched
        return None
    try:
        if not image.is_file():  # a FIFO is never waited for
            return None
        with open(image, "rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return None
