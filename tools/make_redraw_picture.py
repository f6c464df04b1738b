"""Draw photographs, their masks, and what a model makes of them: four new objects and two new grounds each.

    python tools/make_redraw_picture.py OUT.jpg MODEL SET SPLIT

SET is a prepared set, whose pictures at their own size are used: three, at equal distances through the split, chosen by
place.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from redoseg import RedrawModel, Segmenter
from redoseg.data import originals
from redoseg.images.draw import grid, outlined
from redoseg.images.photo import fit_square
from redoseg.images.read import read_image

COUNT, SIDE, OBJECTS, GROUNDS = 3, 150, 4, 2


def main(out: Path, name: str, place: str, split: str) -> None:
    """Draw the sheet."""
    items, segmenter, model = originals(place, split).items, Segmenter(name), RedrawModel(name, threads=1)
    rows = []
    for i in range(COUNT):
        image = read_image(items[(2 * i + 1) * len(items) // (2 * COUNT)].image)
        drawn = [*model.redraw(image, OBJECTS, "object"), *model.redraw(image, GROUNDS, "background")]
        masked = outlined(image, segmenter(image), SIDE)
        rows.append([fit_square(image, SIDE), masked, *(fit_square(each, SIDE) for each in drawn)])
    grid(rows).save(out, quality=85, optimize=True)


def run(draw: Callable[[Path, str, str, str], None], about: str | None) -> None:
    """Draw with the arguments OUT.jpg MODEL SET SPLIT of the command line."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT.jpg", type=Path)
    for name in ("MODEL", "SET", "SPLIT"):
        parser.add_argument(name.lower(), metavar=name)
    arguments = parser.parse_args()
    draw(arguments.out, arguments.model, arguments.set, arguments.split)


if __name__ == "__main__":
    run(main, __doc__)
