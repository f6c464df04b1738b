"""How much of the ground's colour is left at the edges of cut-outs: objects put on other grounds by known soft masks.

    python tools/measure_foreground.py fullsize/ flowers102/jpg/

OBJECTS is a folder with images/ and masks/, GROUNDS a folder of pictures. Each mask is made narrower, so that its soft
edge is inside the object, where the object's colour is known, and blurred by 1 to 8 px. The mask that is then taken off
is the true one, or beside it: shifted by two pixels, grown or shrunk by two, or blurred by four more. Printed is the
mean absolute difference to the object's colour [grey levels] over all pixels that are neither hidden nor solid, before
and after, and what it adds to the time of a cut-out.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image, ImageFilter

from redoseg.data import originals
from redoseg.data.shapes import generate
from redoseg.images.foreground import EdgeColours
from redoseg.images.photo import SoftMask, to_photo
from redoseg.images.read import OBJECT, list_images, read_image
from redoseg.inference.results import drawn
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter

BLURS = (1, 2, 4, 8)  # pixels
BESIDE = ("true", "shifted", "grown", "shrunk", "blurred")


def main(objects: str, grounds: str) -> None:
    behind = list_images(grounds).images
    rng = np.random.default_rng(0)
    errors: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for number, item in enumerate(originals(objects).items):
        image = read_image(item.image)
        mask = Image.fromarray(np.where(item.labels() == OBJECT, np.uint8(255), np.uint8(0)))
        ground = read_image(behind[rng.integers(len(behind))]).resize(image.size)
        blur = BLURS[number % len(BLURS)]
        inner = mask.filter(ImageFilter.MinFilter(2 * blur + 5))
        soft = inner.filter(ImageFilter.BoxBlur(blur)).filter(ImageFilter.BoxBlur(blur))
        mixed = Image.composite(image, ground, soft)
        for kind in BESIDE:
            opacity = np.asarray(beside(soft, kind))
            at_edge = (opacity >= 128) & (opacity < 255)  # cut-outs show no less
            if at_edge.any():
                cut = SoftMask.of(opacity.astype(np.float32) / np.float32(1020) + np.float32(0.375))
                after = difference(drawn(to_photo(mixed), cut, "cutout").convert("RGB"), image, at_edge)
                errors[kind].append((difference(mixed, image, at_edge), after))
    for kind in BESIDE:
        before, after = np.array(errors[kind]).T
        print(f"{kind:8} {len(before)} pictures  before {before.mean():.1f}  after {after.mean():.1f}  ", end="")
        print(f"better in {(after < before).mean():.0%}")
    print(f"time of a cut-out of 12 megapixels: {times():.2f} times that without it")


def beside(soft: Image.Image, kind: str) -> Image.Image:
    match kind:
        case "shifted":
            return soft.transform(soft.size, Image.Transform.AFFINE, (1, 0, 2, 0, 1, 0))
        case "grown":
            return soft.filter(ImageFilter.MaxFilter(5))
        case "shrunk":
            return soft.filter(ImageFilter.MinFilter(5))
        case "blurred":
            return soft.filter(ImageFilter.BoxBlur(4))
    return soft


def difference(one: Image.Image, other: Image.Image, where: np.ndarray) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float))[where].mean())


def times(rounds: int = 9) -> float:
    """How long `segment --as cutout` of a JPEG of 12 megapixels takes, as a multiple of the time without it: median."""
    segmenter = Segmenter("flowers", threads=1)
    level, ratios = generate("leaves", 1, 128)[0][0], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "photo.jpg")
        Image.fromarray(level).resize((4000, 3000)).save(path, quality=92)
        for _ in range(rounds):
            taken = []
            for way in (EdgeColours.guess, lambda *_: None):
                with mock.patch.object(EdgeColours, "guess", way):
                    start = time.perf_counter()
                    segment_paths(segmenter, path, folder, kind="cutout", overwrite=True)
                    taken.append(time.perf_counter() - start)
            ratios.append(taken[0] / taken[1])
    return float(np.median(ratios))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", help="a folder with images/ and masks/")
    parser.add_argument("grounds", help="a folder of pictures")
    chosen = parser.parse_args()
    main(chosen.objects, chosen.grounds)
