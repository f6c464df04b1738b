"""The segmentation labels of Ultralytics YOLO: a text file for each photograph, a line for each object.

A line is the number of the class and the corners of one polygon as shares of width and height
(docs.ultralytics.com/datasets/segment). One polygon has to do for an object of several parts, and for its holes: they
are joined by bridges without width, as Ultralytics' own converter does it. A photograph without an object has an empty
file.
"""

from __future__ import annotations

import json

from redoseg.images.objects import Described
from redoseg.images.polygons import one_ring


def content(seen: Described) -> bytes:
    """The text file of a photograph."""
    lines = []
    for one in seen.objects:
        corners = (one_ring(one.polygons(inner=True)) / seen.size).clip(0, 1).ravel()
        lines.append("0 " + " ".join(f"{value:.6f}".rstrip("0").rstrip(".") for value in corners) + "\n")
    return "".join(lines).encode()


def data_yaml(label: str) -> bytes:
    """The file that names the set and its one class. JSON's strings are YAML's too."""
    return (
        "# Ultralytics looks for the photographs in images/ beside labels/, with the same sub-folders\n"
        f"train: images\nval: images\nnames:\n  0: {json.dumps(label)}\n"
    ).encode()
