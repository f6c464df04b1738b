"""How the IoU of a model's masks changes with their size alone: cut at other thresholds, plain edges.

    python tools/measure_thresholds.py MODEL DATA [--split dev]

A change that makes masks smaller or larger must beat this before it counts as better masks.
"""

import argparse

import numpy as np

from redoseg.data import labelled_images
from redoseg.inference.segmenter import Segmenter

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def main(model: str, data: str, split: str) -> None:
    images = labelled_images(data, split=split)
    assert images.masks is not None
    segmenter = Segmenter(model, threads=1, edges="plain")
    soft = np.stack([segmenter.soft(pixels) for pixels in images.pixels])
    known, truth = (images.masks == 0) | (images.masks == 255), images.masks == 255
    print(f"{len(images)} pictures of {data}, {split}; the object's share is {100 * truth[known].mean():.1f} %")
    for threshold in THRESHOLDS:
        mask = soft > threshold
        both, either = ((mask & truth) & known).sum((1, 2)), ((mask | truth) & known).sum((1, 2))
        iou = 100 * float(np.mean(both / np.maximum(either, 1)))
        print(f"threshold {threshold}: share {100 * mask[known].mean():.1f} %, IoU {iou:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--split", default="dev")
    given = parser.parse_args()
    main(given.model, given.data, given.split)
