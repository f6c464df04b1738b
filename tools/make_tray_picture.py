"""Draw trays, the outlines of what a model finds on them, and each part in a colour of its own.

    python tools/make_tray_picture.py OUT.jpg MODEL FOLDER

The folder has images/ and masks/, as `tools/write_trays.py` makes it; five trays at equal distances. For each, the
number of parts and of the true ones is printed.
"""

from __future__ import annotations

import argparse
import colorsys
from pathlib import Path

import numpy as np
from PIL import Image

from redoseg.images.clean import count_parts
from redoseg.images.draw import grid, outlined
from redoseg.images.masks import read_mask
from redoseg.images.objects import objects_of
from redoseg.images.read import read_image
from redoseg.inference.given import as_photo
from redoseg.inference.object_mask import cleaned, object_of
from redoseg.inference.segmenter import Segmenter

COUNT, SIDE = 5, 150


def main(out: Path, model: str, folder: Path) -> None:
    """Draw the sheet."""
    segmenter = Segmenter(model, 1, "plain")
    paths = sorted((folder / "images").iterdir())
    rows: list[list[Image.Image]] = [[], [], []]
    for i in range(COUNT):
        path = paths[(2 * i + 1) * len(paths) // (2 * COUNT)]
        image, photo = read_image(path), as_photo(path)
        mask = object_of(photo, cleaned(photo, segmenter.soft_mask(photo)[0]))
        parts = objects_of(mask, apart=True)
        print(f"{path.name}: {len(parts)} parts, {count_parts(read_mask(folder / 'masks' / path.name) > 127)[0]} true")
        coloured = np.full((*mask.shape, 3), 245, np.uint8)
        for number, part in enumerate(parts):
            left, top, width, height = part.box
            colour = colorsys.hsv_to_rgb(number * 0.618 % 1, 0.75, 0.85)  # neighbours in the list differ most
            coloured[top : top + height, left : left + width][part.mask] = np.rint(np.multiply(colour, 255))
        rows[0].append(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        rows[1].append(outlined(image, mask, SIDE))
        rows[2].append(Image.fromarray(coloured).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    grid(rows).save(out, quality=88, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT.jpg", type=Path)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    arguments = parser.parse_args()
    main(arguments.out, arguments.model, arguments.folder)
