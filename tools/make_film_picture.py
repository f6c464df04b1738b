"""Draw frames of a film: unchanged, with the outline of their masks alone and steadied, and their cut-outs.

    python tools/make_film_picture.py OUT.jpg MODEL SET SPLIT

The film is the one that measure_films.py makes of the middle picture of the split; six frames at equal distances.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import av
import numpy as np
from make_redraw_picture import run
from measure_films import FRAMES, write_film
from PIL import Image

from redoseg.data import labelled_images
from redoseg.images.draw import checkerboard, grid, outlined
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter

COUNT, SIDE = 6, 128


def main(out: Path, model: str, place: str, split: str) -> None:
    """Draw the sheet."""
    images, segmenter = labelled_images(place, split=split), Segmenter(model, 1)
    assert images.masks is not None
    middle = len(images) // 2
    shown = np.linspace(1, FRAMES, COUNT).round().astype(int)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_film(folder / "film.mp4", images.pixels[middle], images.masks[middle], middle)
        segment_paths(segmenter, folder / "film.mp4", folder / "alone", film="frames", steady=0)
        segment_paths(segmenter, folder / "film.mp4", folder / "steady", kind=("mask", "cutout"), film="frames")
        with av.open(str(folder / "film.mp4")) as film:
            frames = [Image.fromarray(frame.to_ndarray(format="rgb24")) for frame in film.decode(video=0)]
        rows: list[list[Image.Image]] = [[], [], [], []]
        for number in shown:
            cut = _read(folder / "steady" / "cutout" / "film" / f"{number:06}.png")
            frame = frames[number - 1]
            alone = _read(folder / "alone" / "film" / f"{number:06}.png")
            steady = _read(folder / "steady" / "mask" / "film" / f"{number:06}.png")
            rows[0].append(frame.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
            rows[1].append(outlined(frame, np.asarray(alone) > 127, SIDE))
            rows[2].append(outlined(frame, np.asarray(steady) > 127, SIDE))
            small = cut.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            rows[3].append(Image.alpha_composite(checkerboard(small.size), small).convert("RGB"))
    grid(rows).save(out, quality=85, optimize=True)


def _read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
    return image


if __name__ == "__main__":
    run(main, __doc__)
