"""The format of labelme: a JSON file for each photograph, which names it by its path from there.

Each connected part of an object is a polygon; those of one object have one group. A hole is joined to its outline by a
bridge without width. labelme counts pixels by their centres, and fills outlines with what is on them.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from redoseg.images.objects import Described
from redoseg.images.polygons import Ring, keyholed

_VERSION = "5.4.1"  # of labelme, whose format this is; other major versions warn


def content(seen: Described) -> bytes:
    """The JSON file of a photograph. A key comes first, where a later run looks for it."""
    width, height = seen.size
    shapes = []
    for number, one in enumerate(seen.objects, 1):
        parts = one.polygons(inner=True)
        shapes += [_shape(seen, keyholed(part), number if len(parts) > 1 else None) for part in parts]
    whole: dict[str, Any] = {"redoseg_key": seen.key} if seen.key else {}
    whole |= {
        "version": _VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": seen.photograph,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    return json.dumps(whole, ensure_ascii=False).encode()


def _shape(seen: Described, ring: Ring, group: int | None) -> dict[str, Any]:
    return {
        "label": seen.label,
        "points": _inner(ring).tolist(),
        "group_id": group,
        "description": "",
        "shape_type": "polygon",
        "flags": {},
        "score": round(seen.confidence, 4),
    }


def _inner(ring: Ring) -> Ring:
    return np.asarray(ring - 0.5)
