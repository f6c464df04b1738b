"""The kinds of results that `segment` writes: one list for the command line, the library and the page."""

from __future__ import annotations

from typing import Literal, get_args

DrawnKind = Literal["mask", "soft", "cutout", "overlay"]
LabelKind = Literal["coco", "yolo", "labelme", "labelstudio"]
Kind = Literal["mask", "soft", "cutout", "overlay", "coco", "yolo", "labelme", "labelstudio", "measures"]

DRAWN: tuple[DrawnKind, ...] = get_args(DrawnKind)
"""Pictures, one for each photograph."""
LABELS: tuple[LabelKind, ...] = get_args(LabelKind)
"""Texts for labelling tools, one for each photograph or for all; `inference/labelling.py` has their formats."""
MEASURES: Kind = "measures"
"""A table."""
KINDS: tuple[Kind, ...] = get_args(Kind)
