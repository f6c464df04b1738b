"""How good masks and counts of many objects are: IoU, and the parts in measures.csv beside those of the true masks.

    python tools/measure_counts.py runs/trays held-out/ [--edges plain] [--threshold 0.5]
    python tools/measure_counts.py --ground trays/images/ held-out/     # the ground alone, with no network

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
from numpy.typing import NDArray

from redoseg.images.clean import count_parts
from redoseg.images.fixed_ground import FixedGround
from redoseg.images.masks import read_mask
from redoseg.images.read import read_photo
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
    parser.add_argument("model", help="or, with --ground, the pictures that it would learn from")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ground", action="store_true", help="what differs from the ground, with no network")
    parser.add_argument("--edges", choices=("plain", "guided", "grabcut"), default="plain")
    parser.add_argument("--threshold", type=float, default=0.5)
    asked = parser.parse_args()
    if asked.ground:
        found = counted_on_ground(Path(asked.model), asked.folder)
    else:
        found = counted(Segmenter(asked.model, 1, asked.edges), asked.folder, asked.threshold)
    print(json.dumps({name: round(value, 4) for name, value in found._asdict().items()}))


def counted(segmenter: Segmenter, folder: Path, threshold: float = 0.5) -> Counted:
    """Segment the pictures of a folder and compare with its masks."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        segment_paths(segmenter, folder / "images", out, kind=("mask", "measures"), threshold=threshold)
        with open(out / "measures" / "measures.csv", encoding="utf-8", newline="") as file:
            parts = {row["picture"]: int(row["parts"]) for row in csv.DictReader(file)}
        found = {name: (_mask(out / "mask" / name), count) for name, count in parts.items()}
    return _compared(folder, found)


def counted_on_ground(learnt_from: Path, folder: Path) -> Counted:
    """The same of what differs from the ground of other pictures of that table."""
    ground = FixedGround.of(_pixels(learnt_from))
    names = [path.name for path in sorted((folder / "images").iterdir())]
    masks = ground.objects(_pixels(folder / "images"))
    return _compared(folder, {n: (mask, count_parts(mask)[0]) for n, mask in zip(names, masks, strict=True)})


def _compared(folder: Path, found: dict[str, tuple[NDArray[np.bool_], int]]) -> Counted:
    """Masks and counts of pictures, beside the masks of a folder."""
    ious, off, seen, true = [], [], 0, 0
    for path in sorted((folder / "masks").iterdir()):
        mask, (own, count) = _mask(path), found[path.name]
        there = count_parts(mask)[0]
        ious.append((mask & own).sum() / max(1, (mask | own).sum()))
        off.append(abs(count - there) / there)
        seen, true = seen + count, true + there
    return Counted(len(ious), float(np.mean(ious)), float(np.mean(off)), seen / true)


def _mask(path: Path) -> NDArray[np.bool_]:
    return read_mask(path) > 127


def _pixels(folder: Path) -> NDArray[np.uint8]:
    return np.stack([np.asarray(read_photo(path).rgb) for path in sorted(folder.iterdir())])


if __name__ == "__main__":
    main()
