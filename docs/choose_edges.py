"""How wide the window of guided edges should be: prints IoU and the edge's F-score for some, on `dev` pictures.

python docs/choose_edges.py flowers prepared/flowers17 runs/horses prepared/horses truth fullsize/

MODEL and DATA in turns. `truth` in a model's place: the true masks reduced to 64 px and blurred by 1.5 px stand for a
network that is always right; of a folder without splits every fourth picture is taken.
"""

import sys

import numpy as np
from PIL import Image, ImageFilter

from redoseg import edges, metrics
from redoseg.boundary import boundary_f
from redoseg.data import originals
from redoseg.pictures import OBJECT, UNLABELLED, read_picture
from redoseg.segmenter import Segmenter

SIDE = 64


def main(arguments: list[str]) -> None:
    for model, data in zip(arguments[::2], arguments[1::2], strict=True):
        whole = originals(data)
        items = originals(data, "dev") if model != "truth" else whole[::4]
        segmenter = None if model == "truth" else Segmenter(model)
        cases = []
        for item in items:
            picture, mask = read_picture(item.picture), item.read_mask(item.mask)
            if segmenter:
                soft = segmenter.masks([picture])[0, segmenter.object_region]
            else:
                small = Image.fromarray(mask).resize((SIDE, SIDE), Image.Resampling.BOX)
                soft = np.asarray(small.filter(ImageFilter.GaussianBlur(1.5)), np.float32) / 255
            cases.append((picture, mask, soft))
        print(f"{model}, {data}: {len(cases)} pictures")
        for window in (0, 1 / 32, 1 / 16, 3 / 32, 1 / 8, 1 / 6):
            edges.WINDOW = window
            figures = np.array([scores(*case, plain=not window) for case in cases]).mean(0)
            name = f"window {window:.3f}" if window else "plain"
            print(f"  {name:14}iou {100 * figures[0]:.1f}  boundary_f {100 * figures[1]:.1f}", flush=True)


def scores(picture: Image.Image, mask: np.ndarray, soft: np.ndarray, plain: bool) -> tuple[float, float]:
    reduced = picture.resize(soft.shape[::-1], Image.Resampling.BILINEAR, reducing_gap=3.0)
    large = edges.enlarged(soft, picture.size) if plain else edges.guided(soft, np.asarray(reduced), picture)
    objects = edges.enlarged(large, mask.shape[::-1]) > 0.5
    labels = np.where(mask == UNLABELLED, -1, mask >= OBJECT - 1).astype(np.int8)
    return metrics.score(objects[None], labels[None]).iou, boundary_f(objects, labels)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1:])
