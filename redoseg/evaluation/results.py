"""What `evaluate` and `compare` return, and print with --json. Figures are from 0 to 1, intervals cover 95 %."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

from redoseg.data import is_prepared

FIGURES = ("accuracy", "iou", "iou_oracle_flip", "boundary_f")
"""The figures of `compare`."""
MEASURES = ("accuracy", "iou", "boundary_f")
"""The figures at the size of each image."""
MISSED = 0.2
"""A mask with a smaller `iou` has not found the object."""
CLEANNESS = ("parts_beyond_one", "holes", "haze")
"""How clean masks are there."""

Interval = tuple[float, float]


class AboutSet(TypedDict):
    """What was found in a labelled set beside the images that are scored."""

    skipped: NotRequired[list[tuple[str, str]]]
    """Files of a folder that cannot be used, each with its reason."""
    notes: NotRequired[list[str]]
    """What was decided about its masks, and what else is missing."""


def about_set(data: str, bad: Sequence[tuple[str, str]], notes: Sequence[str]) -> AboutSet:
    """That part of a result. The files that a prepared set lacks were listed when it was made, so they are a note."""
    found: AboutSet = {}
    said = list(notes)
    if bad and is_prepared(data):
        said.append(f"files skipped when {data} was prepared: {len(bad):,}")
    elif bad:
        found["skipped"] = list(bad)
    if said:
        found["notes"] = said
    return found


class Figures(TypedDict):
    """Means over images."""

    pictures: int
    accuracy: float
    iou: float
    accuracy_oracle_flip: float
    iou_oracle_flip: float


class Evaluation(AboutSet):
    """A model's figures on a labelled set, at one size. Models of more than two regions have the `matched` ones."""

    model: str
    data: str
    split: str
    size: int
    """Side of the scored images [pixels]."""
    edges: str
    pictures: int
    accuracy: NotRequired[float]
    iou: NotRequired[float]
    accuracy_oracle_flip: NotRequired[float]
    iou_oracle_flip: NotRequired[float]
    iou_interval: NotRequired[Interval]
    object_region_right: NotRequired[bool]
    """Whether the other region scores no better."""
    accuracy_matched: NotRequired[float]
    iou_matched: NotRequired[float]
    beside: dict[str, Figures]
    """Methods without training, by name."""
    note: NotRequired[str]
    """Why methods are missing."""


class EdgeFigures(TypedDict):
    """Means over images for one kind of edges."""

    accuracy: float
    accuracy_interval: Interval
    iou: float
    iou_interval: Interval
    boundary_f: float
    boundary_f_interval: Interval
    parts_beyond_one: float
    holes: float
    haze: float
    """Pixels of a cut-out that are 5 to 95 % opaque, for each pixel of the mask's edge."""


class Confidence(TypedDict):
    """How well a model's confidence separates good masks from bad ones."""

    least_sure_fifth_iou: float
    rest_iou: NotRequired[float]
    rank_correlation: NotRequired[float]
    """Of confidence and IoU. Missing where either is the same for all images."""


class Sides(TypedDict):
    """Range of the shorter sides [pixels]."""

    least: int
    most: int


class OwnSizeEvaluation(AboutSet):
    """A model's figures on labelled images of any size, with each kind of edges."""

    model: str
    data: str
    split: str
    pictures: int
    shorter_side: Sides
    plain: EdgeFigures
    guided: EdgeFigures
    grabcut: EdgeFigures
    gain: dict[str, dict[str, Interval]]
    """Guided and grabcut: for each measure, the interval of the difference to plain edges."""
    confidence: Confidence


class Row(TypedDict):
    """One model, method or folder of given masks in a comparison."""

    method: str
    kind: str
    """model, method, or given: masks that somebody else made."""
    settings: dict[str, Any]
    accuracy: float
    accuracy_interval: Interval
    iou: float
    iou_interval: Interval
    iou_median: float
    missed: float
    """Share of the images with an `iou` under `MISSED`."""
    iou_oracle_flip: float
    iou_oracle_flip_interval: Interval
    boundary_f: float
    boundary_f_interval: Interval
    against: str | None
    """The best row that is not of the same model."""
    difference: float | None
    """Mean `iou` minus that of `against`."""
    difference_interval: Interval | None
    p: float | None
    computed: int
    """Masks that were not on disk."""
    seconds: float | None
    """Mean for one image; None if all masks were on disk, or given."""
    megabytes: float | None
    failed: int


class Tuned(TypedDict):
    """How settings were chosen."""

    on: str
    """The split, for built-in images the seed."""
    pictures: int
    iou: dict[str, float]
    """Mean `iou` of each method with its settings."""


class Failure(TypedDict):
    """A mask that is missing, and counts as empty."""

    method: str
    picture: str
    why: str


class Shown(TypedDict):
    """An image in the grid."""

    number: int
    picture: str
    which: str
    """best, median or worst."""
    difference: float


class Comparison(AboutSet):
    """Models, methods and given masks on one labelled set."""

    data: str
    split: str
    size: int
    pictures: int
    tuned: Tuned | None
    rows: list[Row]
    """The best `iou` first."""
    failed: list[Failure]
    rule: str
    """How the images of the grid were chosen."""
    shown: list[Shown]
