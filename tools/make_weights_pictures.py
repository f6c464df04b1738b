"""Draw what a model makes of a labelled set: its best, middle and worst pictures; of one without labels, some of all.

    python tools/make_weights_pictures.py MODEL SET OUT.jpg [SPLIT]

SET is a prepared set. With labels, the four pictures of the highest IoU, the four about the median and the four of the
lowest, a row each; without, 24 evenly spread over the set. Outlines are those of guided edges, which `segment` writes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from redoseg import Segmenter
from redoseg.data import open_data
from redoseg.images.draw import captioned, grid, outlined

SIDE, COLUMNS, SPREAD = 128, 8, 24


def main(model: str, place: str, out: Path, split: str | None) -> None:
    """Draw the sheet."""
    images = open_data(place, SIDE, regions=2, split=split)
    segmenter = Segmenter(model)
    labels = images.labels(np.arange(len(images)))
    known = (labels >= 0).any()
    chosen = np.arange(len(images)) if known else np.linspace(0, len(images) - 1, SPREAD).round().astype(int)
    masks = np.concatenate(
        [segmenter.batch(images.pixels[part])[:, segmenter.object_region] > 0.5 for part in np.array_split(chosen, 8)]
    )
    captions = [""] * len(chosen)
    order = np.arange(len(chosen))
    if known:
        valid, truth = labels >= 0, labels > 0
        either = ((masks | truth) & valid).sum((1, 2))
        iou = np.where(either > 0, (masks & truth & valid).sum((1, 2)) / np.maximum(either, 1), 1)
        ranked = np.argsort(-iou, kind="stable")
        middle = len(ranked) // 2
        order = np.concatenate([ranked[:4], ranked[middle - 2 : middle + 2], ranked[-4:]])
        captions = [f"IoU {100 * value:.0f}" for value in iou]
    tiles = []
    for i in order:
        image = Image.fromarray(images.pixels[chosen[i]])
        pair = [image, outlined(image, masks[i], SIDE)] if known else [outlined(image, masks[i], SIDE)]
        sheet = grid([pair], gap=2)
        tiles.append(captioned(sheet, captions[i]) if known else sheet)
    columns = COLUMNS // 2 if known else COLUMNS
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    grid(rows, gap=6).save(out, quality=85, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("set", metavar="SET")
    parser.add_argument("out", metavar="OUT.jpg", type=Path)
    parser.add_argument("split", metavar="SPLIT", nargs="?")
    arguments = parser.parse_args()
    main(arguments.model, arguments.set, arguments.out, arguments.split)
