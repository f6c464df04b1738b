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

_DESCRIPTION = "masks by redoseg, learnt without labels; score is the network's confidence"

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
    key: str = ""
    """What it was made of, by which a later run knows whether it is up to date."""


def annotated(file_name: str, mask: NDArray[np.bool_], confidence: float, key: str = "") -> Annotated:
    """What COCO wants to know of a mask (H, W)."""
    height, width = mask.shape
    return Annotated(
        file_name,
        (width, height),
        _string(_runs(mask)),
        int(mask.sum()),
        bounding_box(mask),
        round(confidence, 4),
        key,
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
        image = {"id": number, "file_name": picture.file_name, "width": width, "height": height}
        images.append(image | {"redoseg_key": picture.key} if picture.key else image)
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
        "info": {"description": _DESCRIPTION},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": category, "supercategory": ""}],
    }


def pictures_of(whole: Any) -> list[Annotated]:
    """The pictures of a document that `document` made. Raises ValueError for anything else."""
    try:
        if whole["info"]["description"] != _DESCRIPTION:
            raise ValueError("redoseg did not write it")
        found = {annotation["image_id"]: annotation for annotation in whole["annotations"]}
        pictures = []
        for image in whole["images"]:
            size, key = (int(image["width"]), int(image["height"])), str(image.get("redoseg_key", ""))
            one = found.get(image["id"])
            if one is None:
                pictures.append(Annotated(str(image["file_name"]), size, "", 0, None, 0.0, key))
                continue
            left, top, width, height = map(int, one["bbox"])
            counts, area, score = str(one["segmentation"]["counts"]), int(one["area"]), float(one["score"])
            pictures.append(
                Annotated(str(image["file_name"]), size, counts, area, (left, top, width, height), score, key)
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is damaged ({error!r})") from None
    return pictures


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
