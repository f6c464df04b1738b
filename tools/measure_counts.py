"""How good masks and counts of many objects are: IoU, and the parts in measures.csv beside those of the true masks.

    python tools/measure_counts.py runs/trays held-out/ [--edges plain] [--threshold 0.5]

The folder has images/ and masks/ with files of the same names, as `tools/write_trays.py` makes it.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from redoseg.images.clean import count_parts
from redoseg.images.masks import read_mask
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter


class Counted(NamedTuple):
    """Means over pictures."""

    pictures: int
    iou: float
    off: float
    """How far a count is off, as a share of the true one."""
    total: float
    """All parts that were found, as a share of all true ones."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--edges", choices=("plain", "guided", "grabcut"), default="plain")
    parser.add_argument("--threshold", type=float, default=0.5)
    asked = parser.parse_args()
    found = counted(Segmenter(asked.model, 1, asked.edges), asked.folder, asked.threshold)
    print(json.dumps({name: round(value, 4) for name, value in found._asdict().items()}))


def counted(segmenter: Segmenter, folder: Path, threshold: float = 0.5) -> Counted:
    """Segment the pictures of a folder and compare with its masks."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        segment_paths(segmenter, folder / "images", out, kind=("mask", "measures"), threshold=threshold)
        with open(out / "measures" / "measures.csv", encoding="utf-8", newline="") as file:
            parts = {row["picture"]: int(row["parts"]) for row in csv.DictReader(file)}
        ious, off, seen, true = [], [], 0, 0
        for path in sorted((folder / "masks").iterdir()):
            mask, own = read_mask(path) > 127, read_mask(out / "mask" / path.name) > 127
            there = count_parts(mask)[0]
            ious.append((mask & own).sum() / max(1, (mask | own).sum()))
            off.append(abs(parts[path.name] - there) / there)
            seen, true = seen + parts[path.name], true + there
    return Counted(len(ious), float(np.mean(ious)), float(np.mean(off)), seen / true)


if __name__ == "__main__":
    main()
