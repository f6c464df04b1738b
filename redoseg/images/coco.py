"""Masks as COCO's run-length codes, and the one JSON file that COCO's tools and labelling programs read.

The format is that of the COCO API (cocodataset.org/#format-data): column by column, the lengths of runs of 0 and 1 in
turn, beginning with 0; in its string form each length is written in characters of six bits, from the third on as the
difference to the length two before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redoseg.images.photo import PART

Box = tuple[int, int, int, int]
"""Left, top, width and height [pixels]."""


@dataclass(frozen=True)
class Annotated:
    """A picture and the object in it."""

    file_name: str
    size: tuple[int, int]
    """Width and height [pixels]."""
    counts: str
    """The mask's run-length code."""
    area: int
    """Of the mask [pixels]."""
    box: Box | None
    """Around the mask; None where it is empty."""
    confidence: float


def annotated(file_name: str, mask: NDArray[np.bool_], confidence: float) -> Annotated:
    """What COCO wants to know of a mask (H, W)."""
    height, width = mask.shape
    return Annotated(
        file_name, (width, height), _string(_runs(mask)), int(mask.sum()), bounding_box(mask), round(confidence, 4)
    )


def bounding_box(mask: NDArray[np.bool_]) -> Box | None:
    """The least box around a mask (H, W); None where it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


def document(pictures: Sequence[Annotated], category: str) -> dict[str, Any]:
    """The JSON-able whole: every picture, and an annotation of each that has an object."""
    images, annotations = [], []
    for number, picture in enumerate(pictures, 1):
        width, height = picture.size
        images.append({"id": number, "file_name": picture.file_name, "width": width, "height": height})
        if picture.box is not None:
            annotations.append(
                {
                    "id": number,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": {"size": [height, width], "counts": picture.counts},
                    "area": picture.area,
                    "bbox": list(picture.box),
                    "iscrowd": 0,
                    "score": picture.confidence,
                }
            )
    return {
        "info": {"description": "masks by redoseg, learnt without labels; score is the network's confidence"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": category, "supercategory": ""}],
    }


def _runs(mask: NDArray[np.bool_]) -> list[int]:
    """Lengths of runs, of 0 first, down the columns of a mask (H, W)."""
    height, width = mask.shape
    changes, last = [np.zeros(1, np.int64)], mask[0, 0]
    columns = max(1, PART // height)  # at a time, since a copy of each is made
    for first in range(0, width, columns):
        values = mask[:, first : first + columns].ravel(order="F")
        before = np.concatenate([[last], values[:-1]])
        changes.append(np.flatnonzero(values != before) + first * height)
        last = values[-1]
    runs = np.diff(np.concatenate([*changes, [mask.size]])).tolist()
    return [0, *runs] if mask[0, 0] else runs


def _string(runs: list[int]) -> str:
    """Five bits of a number in a character, the lowest first; a sixth says that more follow."""
    characters = []
    for i, length in enumerate(runs):
        number = length - runs[i - 2] if i > 2 else length
        while True:
            bits = number & 0x1F
            number >>= 5
            more = number != (-1 if bits & 0x10 else 0)
            characters.append(chr(48 + (bits | 0x20 if more else bits)))
            if not more:
                break
    return "".join(characters)
