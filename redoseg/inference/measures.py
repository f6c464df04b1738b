"""What was found in numbers: a table of areas, boxes, axes, perimeters and colours, by scikit-image's `regionprops`.

Needs scikit-image, the part `measure` of redoseg.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from redoseg.errors import MissingError
from redoseg.images.labels.entry import Entry
from redoseg.images.objects import Described, Found, objects_of
from redoseg.images.photo import LARGE, parts

COLUMNS = (
    *(
        "picture",
        "parts",
        "object",
        "area_px",
        "share",
        "left",
        "top",
        "width",
        "height",
        "longest_axis_px",
        "shortest_axis_px",
    ),
    *("perimeter_px", "red", "green", "blue", "confidence", "area_mm2", "longest_axis_mm", "shortest_axis_mm"),
    *("perimeter_mm", "key"),
)


def regionprops() -> Callable[..., Any]:
    """scikit-image's function. Raises MissingError."""
    try:
        from skimage.measure import regionprops
    except ImportError:
        raise MissingError.of("measures need scikit-image, which", "measure") from None
    found: Callable[..., Any] = regionprops
    return found


def entry(seen: Described) -> Entry:
    """The rows of a photograph: one for each object, or one with an area of 0; each with the number of parts."""
    parts = str(sum(len(objects_of(one.mask, apart=True)) for one in seen.objects))
    rows = [_row(seen, one, number) | {"parts": parts} for number, one in enumerate(seen.objects, 1)]
    if not rows:
        nothing = dict.fromkeys(COLUMNS, "") | {
            "picture": seen.name,
            "parts": "0",
            "object": "0",
            "area_px": "0",
            "share": "0",
        }
        rows = [nothing | {"confidence": f"{seen.confidence:.4f}", "key": seen.key}]
    return Entry(seen.name, seen.key, rows)


def _row(seen: Described, one: Found, number: int) -> dict[str, str]:
    step = max(1, math.isqrt(one.mask.size // LARGE))  # of a large mask every so many rows and columns do
    (shape,) = regionprops()(np.ascontiguousarray(one.mask[::step, ::step]).astype(np.uint8))
    longest, shortest = step * float(shape.axis_major_length), step * float(shape.axis_minor_length)
    perimeter = step * float(shape.perimeter)
    values: dict[str, Any] = {"picture": seen.name, "object": number, "area_px": one.area}
    values["share"] = f"{one.area / (seen.size[0] * seen.size[1]):.6f}"
    values |= dict(zip(("left", "top", "width", "height"), one.box, strict=True))
    values |= {"longest_axis_px": f"{longest:.2f}", "shortest_axis_px": f"{shortest:.2f}"}
    values["perimeter_px"] = f"{perimeter:.2f}"
    values |= {name: f"{mean:.1f}" for name, mean in zip(("red", "green", "blue"), _colour(seen, one), strict=True)}
    values["confidence"] = f"{seen.confidence:.4f}"
    if seen.mm_per_pixel is not None:
        mm = seen.mm_per_pixel
        values |= {"area_mm2": f"{one.area * mm * mm:.4f}", "longest_axis_mm": f"{longest * mm:.4f}"}
        values |= {"shortest_axis_mm": f"{shortest * mm:.4f}", "perimeter_mm": f"{perimeter * mm:.4f}"}
    values["key"] = seen.key
    return {name: str(values.get(name, "")) for name in COLUMNS}


def _colour(seen: Described, one: Found) -> list[float]:
    """The mean sRGB of an object, 0 to 255."""
    assert seen.photo is not None
    left, top, width, height = one.box
    total = np.zeros(3)
    for first, above, last, below in parts((width, height)):
        pixels = np.asarray(seen.photo.rgb_of((left + first, top + above, left + last, top + below)))
        total += pixels[one.mask[above:below, first:last]].sum(0, dtype=np.float64)
    return [float(value) for value in total / max(1, one.area)]


def content(entries: Sequence[Entry], label: str) -> bytes:
    """The table."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for one in entries:
        table.writerows(one.data)
    return text.getvalue().encode()


def entries_of(data: bytes) -> list[Entry]:
    """What a table has that `content` made. Raises ValueError for anything else."""
    try:
        table = csv.DictReader(io.StringIO(data.decode()))
        if tuple(table.fieldnames or ()) != COLUMNS:
            raise ValueError("redoseg did not write it")
        rows: dict[str, list[dict[str, str]]] = {}
        for row in table:
            rows.setdefault(row["picture"], []).append({name: row[name] or "" for name in COLUMNS})
    except csv.Error as error:
        raise ValueError(f"it is damaged ({error})") from None
    return [Entry(name, of_one[0]["key"], of_one) for name, of_one in rows.items()]
