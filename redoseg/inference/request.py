"""What a call of `segment` asks for, and whether it can be done."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from redoseg.config.kinds import DRAWN, KINDS, LABELS, Kind
from redoseg.errors import RedosegError
from redoseg.images.clean import Cleaning
from redoseg.inference.labelling import FileEach, OneFile, format_of
from redoseg.inference.object_mask import CLEANING, HALF, check_threshold
from redoseg.inference.results import FEATHER, check_feather


@dataclass(frozen=True)
class Request:
    """The kinds of results, and how they are made. Raises RedosegError for what cannot be combined."""

    kinds: tuple[Kind, ...] = ("mask",)
    threshold: float = HALF
    cleaning: Cleaning | None = CLEANING
    crop: bool = False
    keep_hidden: bool = False
    feather: float = FEATHER
    polygons: bool = False
    """Masks in coco.json are polygons rather than run-length codes."""
    review: bool = False
    label: str = ""
    """What the object is called; the model's name if empty."""
    overwrite: bool = False
    skip_existing: bool = False

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise RedosegError(f"kind {kind!r} is not known; choose one of {', '.join(KINDS)}")
        check_threshold(self.threshold)
        check_feather(self.feather)
        without = next((kind for kind in self.kinds if kind not in DRAWN), None)
        if self.crop and without is not None:
            raise RedosegError(
                f"crop cannot be combined with kind {without}, whose masks and boxes are of whole pictures; remove one "
                "of them"
            )
        if self.label and not set(self.kinds) & set(LABELS):
            raise RedosegError(
                f"a label cannot be combined with kind {self.kinds[0]}; remove the label, or choose kind coco"
            )
        if self.polygons and "coco" not in self.kinds:
            raise RedosegError(
                f"polygons are a form of coco.json, but the kind is {', '.join(self.kinds)}; choose coco, or remove "
                "--polygons"
            )

    def format_of(self, kind: Kind) -> OneFile | FileEach | None:
        """The format of a kind of labels; None for pictures."""
        return format_of(kind, self.polygons)

    def suffix(self, kind: Kind) -> str:
        """That of the files of a kind."""
        form = self.format_of(kind)
        if isinstance(form, OneFile):
            return Path(form.file).suffix
        return form.suffix if form is not None else ".png"

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
        made_of = hashlib.blake2b(repr(settings).encode(), digest_size=16)
        made_of.update(digest)
        return made_of.hexdigest()


def digest_of(image: Path | bytes) -> bytes | None:
    """A hash of a picture's file, or of what it contains; None if it cannot be read."""
    if isinstance(image, bytes):
        return hashlib.blake2b(image).digest()
    try:
        if not image.is_file():  # a FIFO is never waited for
            return None
        with open(image, "rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return None
