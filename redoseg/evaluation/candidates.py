"""The rows of a comparison: models, methods that need no training, and masks that somebody else made."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from redoseg.data import PAPER_SIZE, READERS, ImageSet, Item
from redoseg.data.decoding import other_proportions, square_mask
from redoseg.data.mask_folder import match_masks
from redoseg.data.mask_values import AUTO, settle
from redoseg.data.research_sets import recognise
from redoseg.errors import DataError, ModelError
from redoseg.evaluation import baselines
from redoseg.files import at_home, printable
from redoseg.images.read import OBJECT, upright_size
from redoseg.inference.model_file import find_model
from redoseg.inference.object_mask import CLEANING
from redoseg.inference.segmenter import Edges, Segmenter, cleaning_for
from redoseg.system import opencv

WhichEdges = Literal["both", "plain", "guided", "grabcut", "all"]

# Raise it whenever a model's masks change: those on disk are then computed again.
_VERSION = 1

ImageArray = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Candidate:
    """A row of the table: a way from an image (H, W, 3) to the object (H, W), or masks that exist already."""

    name: str
    of: str
    """Its kind and what is behind it: rows of one model are not tested against each other."""
    key: str
    """All that its masks depend on, apart from the image."""
    mask: Callable[..., Mask]
    """From the image; for the kind "given" from the number of the image in the set."""
    settings: dict[str, Any]
    megabytes: float | None = None
    """Size of the model's file."""
    side: int = PAPER_SIZE
    """Side of the image that the network sees [pixels]."""

    @property
    def kind(self) -> str:
        """model, method or given."""
        return self.of.partition(" ")[0]


def candidates(methods: Sequence[str], models: Sequence[str], edges: WhichEdges = "both") -> list[Candidate]:
    """A row for each method and each model, of a model two if `edges` is "both", three if "all".

    Raises RedosegError: an unknown method or setting, no such model, one of more than two regions.
    """
    if edges not in get_args(WhichEdges):
        raise ModelError(f"edges is {edges!r}, but must be one of {', '.join(get_args(WhichEdges))}.")
    rows: list[Candidate] = []
    for wanted in dict.fromkeys(methods):
        method = baselines.method(wanted)
        key = f"{method.key} OpenCV {opencv().__version__}"
        rows.append(Candidate(wanted, f"method {wanted}", key, method.mask, method.settings))
    ways: Sequence[Edges] = {"both": ("plain", "guided"), "all": get_args(Edges)}.get(edges, (edges,))
    for model in dict.fromkeys(models):
        _, content = found = find_model(model)
        segmenter = Segmenter(found, threads=1)
        if segmenter.regions != 2:
            raise DataError(
                f"{model} has {segmenter.regions} regions, but compare needs two. Score it with `redoseg evaluate`."
            )
        for way in ways:
            key = f"model {hashlib.sha256(content).hexdigest()} {way} {_VERSION} {onnxruntime.__version__}"
            if cleaning_for(way, CLEANING) is not None:
                key += f" {CLEANING}"
            if way == "grabcut":
                key += f" OpenCV {opencv().__version__}"
            name = model if way == "plain" else f"{model}, {way} edges"
            about = {"edges": way}, len(content) / 1e6, segmenter.size
            rows.append(Candidate(name, f"model {model}", key, functools.partial(segmenter, edges=way), *about))
    return rows


def given_rows(
    masks: Mapping[str, str | Path], images: ImageSet, mask_values: str = AUTO, beside: Sequence[Candidate] = ()
) -> tuple[list[Candidate], list[str]]:
    """A row for each folder of masks, by the name of the row, and what to know of them.

    A mask has its picture's name and proportions; its size may differ. Which of its values are the object is decided
    for each folder; `mask_values` counts where that cannot be decided. Raises DataError: a folder that is missing,
    pictures with no mask or one of other proportions, or the name of a row that these are `beside`.
    """
    rows: list[Candidate] = []
    notes = []
    sizes = _photograph_sizes(images) if masks else []
    for name, given in masks.items():
        if any(row.name == name for row in beside):
            raise DataError(f"--masks has the name {name}, but a model or method has it. Choose another name.")
        folder = at_home(given)
        try:
            matched = match_masks(folder, images.names)
        except DataError as error:
            raise DataError(f"--masks {name}: {error}") from None
        files = [path for path in matched.files if path is not None]
        odd = [p for p, s in zip(matched.files, sizes, strict=True) if p is not None and s is not None and _odd(p, s)]
        _refuse_unfit(name, folder, images.names, matched.files, odd)
        items, about = settle([Item(path.name, path, path) for path in files])
        if not all(item.mask for item in items):
            if mask_values == AUTO:
                raise DataError(f"--masks {name}: {about[0]}")
            items, about = settle([Item(path.name, path, path) for path in files], mask_values)
        notes += [f"masks {name}: {note}" for note in about]
        if matched.others:
            notes.append(f"masks {name}: files that belong to no picture of the table: {matched.others:,}")
        rows.append(Candidate(name, f"given {name}", "", functools.partial(_given, items, images.size), {}))
    return rows, notes


def _given(items: Sequence[Item], size: int, number: int) -> Mask:
    """The mask (size, size) of the image of this number."""
    return square_mask(items[number].labels(), size) == OBJECT


def _photograph_sizes(images: ImageSet) -> list[tuple[int, int] | None]:
    """Width and height of each photograph before it was cut to a square; None where that is not known."""
    if not images.source:
        return [(images.size, images.size)] * len(images)
    try:
        items = READERS[recognise(images.source)](images.source).items
    except DataError:  # a prepared set outlives its source
        return [None] * len(images)
    files = {item.name: item.image for item in items}
    return [_size(files[name]) if name in files else None for name in images.names]


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return upright_size(path)
    except DataError:  # it is listed when it is read
        return None


def _odd(mask: Path, photograph: tuple[int, int]) -> bool:
    size = _size(mask)
    return size is not None and other_proportions(size, photograph)


def _refuse_unfit(
    name: str, folder: Path, names: Sequence[str], files: Sequence[Path | None], odd: Sequence[Path]
) -> None:
    """Raises DataError, one line for all, where a picture has no mask or one of other proportions."""
    missing = [each for each, path in zip(names, files, strict=True) if path is None]
    wrong = []
    if missing:
        wrong.append(f"no mask for {len(missing):,} of {len(names):,} pictures ({printable(missing[0])} is the first)")
    if odd:
        width, height = _size(odd[0]) or (0, 0)
        shown = f"{printable(odd[0].name)} of {width}x{height}"
        wrong.append(f"{len(odd):,} masks of other proportions than their pictures ({shown} is the first)")
    if wrong:
        raise DataError(
            f"--masks {name}: {printable(folder)} has {' and '.join(wrong)}. Each picture needs one mask of its name "
            "and proportions, a black one if nothing was found."
        )
