"""Draw photographs, and cut-outs of them with each kind of edges.

    python tools/make_edges_picture.py OUT.jpg MODEL SET SPLIT ...

SET is a prepared set, whose pictures at their own size are used: four, at equal distances through the split.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from redoseg.data import originals
from redoseg.images.draw import cutout, grid
from redoseg.images.photo import fit_square
from redoseg.images.read import read_image
from redoseg.inference.segmenter import Edges, Segmenter

WAYS: tuple[Edges, ...] = ("plain", "guided", "grabcut")
COUNT, SIDE = 4, 128


def main(out: Path, wanted: list[str]) -> None:
    """Draw the sheet."""
    columns = []
    for model, place, split in zip(wanted[::3], wanted[1::3], wanted[2::3], strict=True):
        items, segmenter = originals(place, split).items, Segmenter(model)
        for i in range(COUNT):
            image = read_image(items[(2 * i + 1) * len(items) // (2 * COUNT)].image)
            tiles = [image]
            for way in WAYS:
                white = Image.new("RGBA", image.size, "white")
                white.alpha_composite(cutout(image, segmenter(image, edges=way)))
                tiles.append(white.convert("RGB"))
            columns.append([fit_square(tile, SIDE) for tile in tiles])
    grid(list(zip(*columns, strict=True))).save(out, quality=88)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT.jpg", type=Path)
    parser.add_argument("wanted", nargs="+", metavar="MODEL SET SPLIT", help="three words for each model")
    arguments = parser.parse_args()
    main(arguments.out, arguments.wanted)
