"""COCO's format: masks as run-length codes or polygons, in the one JSON file that COCO's tools read.

It is that of the COCO API (cocodataset.org/#format-data). A run-length code goes column by column: the lengths of runs
of 0 and 1 in turn, beginning with 0; in its string form each length is written in characters of six bits, from the
third on as the difference to the length two before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from redoseg.images.labels.entry import Entry
from redoseg.images.objects import Described, Found
from redoseg.images.photo import PART
from redoseg.images.polygons import keyholed

_MAKER = "masks by redoseg"
_DESCRIPTION = f"{_MAKER}; score is the network's confidence"


def entry(seen: Described) -> Entry:
    """A photograph and its objects, with masks as run-length codes."""
    width, height = seen.size
    coded = [{"size": [height, width], "counts": run_length_code(one, seen.size)} for one in seen.objects]
    return _entry(seen, coded)


def entry_of_polygons(seen: Described) -> Entry:
    """The same with masks as polygons, one for each connected part; a hole is joined to its outline by a bridge."""
    outlines = [[keyholed(part).ravel().tolist() for part in one.polygons()] for one in seen.objects]
    return _entry(seen, outlines)


def _entry(seen: Described, masks: Sequence[Any]) -> Entry:
    width, height = seen.size
    image: dict[str, Any] = {"file_name": seen.name, "width": width, "height": height}
    image |= {"redoseg_key": seen.key} if seen.key else {}
    score = round(seen.confidence, 4)
    annotations = [_annotation(one, mask, score) for one, mask in zip(seen.objects, masks, strict=True)]
    return Entry(seen.name, seen.key, (image, annotations))


def _annotation(one: Found, mask: Any, score: float) -> dict[str, Any]:
    return {
        "category_id": 1,
        "segmentation": mask,
        "area": one.area,
        "bbox": list(one.box),
        "iscrowd": 0,
        "score": score,
    }


def content(entries: Sequence[Entry], label: str) -> bytes:
    """The file: every photograph, and an annotation of each object in it, which is called `label`."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, one in enumerate(entries, 1):
        image, of_image = one.data
        images.append({"id": number} | image)
        annotations += [
            {"id": len(annotations) + more, "image_id": number} | annotation
            for more, annotation in enumerate(of_image, 1)
        ]
    whole = {
        "info": {"description": _DESCRIPTION},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": label, "supercategory": ""}],
    }
    return json.dumps(whole).encode()


def entries_of(data: bytes) -> list[Entry]:
    """What a file has that `content` made. Raises ValueError for anything else."""
    try:
        whole = json.loads(data)
        if not str(whole["info"]["description"]).startswith(_MAKER):  # the rest of it was once another
            raise ValueError("redoseg did not write it")
        of_image: dict[Any, list[dict[str, Any]]] = {}
        for annotation in whole["annotations"]:
            bare = {name: value for name, value in annotation.items() if name not in ("id", "image_id")}
            of_image.setdefault(annotation["image_id"], []).append(bare)
        found = []
        for image in whole["images"]:
            bare = {name: value for name, value in image.items() if name != "id"}
            name, key = str(image["file_name"]), str(image.get("redoseg_key", ""))
            found.append(Entry(name, key, (bare, of_image.get(image["id"], []))))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is damaged ({error!r})") from None
    return found


def run_length_code(one: Found, size: tuple[int, int]) -> str:
    """The mask of an object in a photograph of this size (width, height) as COCO's string."""
    width, height = size
    changes, last = [np.zeros(1, np.int64)], np.bool_(False)  # lengths of runs, of 0 first
    columns = max(1, PART // height)  # at a time, since the whole mask may be large
    for first in range(0, width, columns):
        values = one.columns(first, min(first + columns, width), height).ravel(order="F")
        before = np.concatenate([[last], values[:-1]])
        changes.append(np.flatnonzero(values != before) + first * height)
        last = values[-1]
    return _string(np.diff(np.concatenate([*changes, [width * height]])).tolist())


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
