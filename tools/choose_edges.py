"""How wide the windows of guided and of cut edges should be: IoU and the edge's F-score for some, on `dev` pictures.

    python tools/choose_edges.py flowers prepared/flowers17 runs/horses prepared/horses truth fullsize/

MODEL and DATA in turns. `truth` in a model's place: the true masks reduced to 64 px and blurred by 1.5 px stand for a
network that is always right. Of a folder without splits every fourth picture is taken.
"""

import argparse
import functools
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from redoseg import metrics
from redoseg.data import is_prepared, originals
from redoseg.images import guided
from redoseg.images.read import OBJECT, UNLABELLED, read_image
from redoseg.inference.segmenter import Segmenter
from redoseg.metrics import boundary_f

SIDE = 64

Case = tuple[Image.Image, np.ndarray, np.ndarray]
"""A photograph, its true mask, and the soft mask that a network gives."""


def main(arguments: list[str]) -> None:
    for model, data in zip(arguments[::2], arguments[1::2], strict=True):
        items = originals(data, "dev").items if is_prepared(data) else originals(data).items[::4]
        segmenter = None if model == "truth" else Segmenter(model)
        cases: list[Case] = []
        for item in items:
            assert item.mask is not None  # `originals` gives labelled pictures
            image, mask = read_image(item.image), item.read_mask(item.mask)
            if segmenter:
                soft = segmenter.masks([image])[0, segmenter.object_region]
            else:
                small = Image.fromarray(mask).resize((SIDE, SIDE), Image.Resampling.BOX)
                soft = np.asarray(small.filter(ImageFilter.GaussianBlur(1.5)), np.float32) / 255
            cases.append((image, mask, soft))
        print(f"{model}, {data}: {len(cases)} pictures")
        report("plain", cases, lambda soft, _, image: guided.bilinear_upsample(soft, image.size))
        for window in (1 / 32, 1 / 16, 3 / 32, 1 / 8, 1 / 6):
            report(f"guided {window:.3f}", cases, functools.partial(guided.guided_upsample, window=window))
        for guided.CUT_WINDOW in (1 / 128, 1 / 64, 1 / 32, 1 / 16):
            report(f"cut {guided.CUT_WINDOW:.3f}", cases, guided.grabcut_upsample)


def report(name: str, cases: list[Case], way: Callable[..., np.ndarray]) -> None:
    figures = np.array([scores(*case, way) for case in cases]).mean(0)
    print(f"  {name:14}iou {100 * figures[0]:.1f}  boundary_f {100 * figures[1]:.1f}", flush=True)


def scores(
    image: Image.Image, mask: np.ndarray, soft: np.ndarray, way: Callable[..., np.ndarray]
) -> tuple[float, float]:
    reduced = image.resize(soft.shape[::-1], Image.Resampling.BILINEAR, reducing_gap=3.0)
    large = way(soft, np.asarray(reduced), image)
    objects = guided.bilinear_upsample(large, mask.shape[::-1]) > 0.5
    labels = np.where(mask == UNLABELLED, -1, mask >= OBJECT - 1).astype(np.int8)
    return metrics.score(objects[None], labels[None]).iou, boundary_f(objects, labels)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", metavar="MODEL DATA", help="a model and a set with masks, in turns")
    main(parser.parse_args().pairs)
