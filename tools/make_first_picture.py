"""Draw the README's first picture: photographs, outlines and cut-outs by several models.

    python tools/make_first_picture.py OUT.jpg MODEL=SET[:SPLIT] ...

Two pictures of each prepared set, a third and two thirds through it: chosen by position, not by how they came out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from redoseg import Segmenter
from redoseg.data import open_data
from redoseg.images.draw import before_after

SIDE = 128


def main(out: Path, models: list[str]) -> None:
    """Draw the sheet."""
    pairs = []
    for wanted in models:
        model, _, place = wanted.partition("=")
        place, _, split = place.partition(":")
        images, segmenter = open_data(place, SIDE, regions=2, split=split or None), Segmenter(model)
        for part in (1, 2):
            image = Image.fromarray(images.pixels[len(images) * part // 3])
            pairs.append((image, segmenter(image)))
    before_after(pairs, SIDE, 2).save(out, quality=85, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT.jpg", type=Path)
    parser.add_argument("models", nargs="+", metavar="MODEL=SET[:SPLIT]")
    arguments = parser.parse_args()
    main(arguments.out, arguments.models)
