"""The objects of a labelled set on other grounds: has a model learnt the object, or the colours around it?"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from redoseg import metrics
from redoseg.data import ImageSet
from redoseg.errors import DataError
from redoseg.images.grounds import OTHERS, PLAIN, box_mean, on_ground, own_ground, plain_ground
from redoseg.inference.segmenter import Segmenter

SEED = 0  # of the noise on plain grounds: every model is scored on the same pixels


class GroundScores(TypedDict):
    """Figures on one ground."""

    iou: float
    iou_interval: tuple[float, float]
    """95 % interval over the images."""
    failures: float
    """Share of the images with an IoU under 0.5."""


class Grounds(TypedDict):
    """Figures on each ground; the worst has the lowest mean IoU."""

    grounds: dict[str, GroundScores]
    worst_ground: str
    worst_iou: float


def pasted(images: ImageSet, ground: str) -> NDArray[np.uint8]:
    """The labelled objects of a set (N, H, W, 3), each on a ground: a name of PLAIN, or OTHERS.

    An object is pasted by its true mask with a seam of one pixel. Pixels without a label are left behind, so each pixel
    of the result is the object or the ground. The ground of another image has that image's own object filled in.
    """
    labels = images.labels()
    result = np.empty(images.pixels.shape, np.uint8)
    count, height, width = labels.shape
    for i in range(count):
        if ground == OTHERS:
            other = (i + max(1, count // 2)) % count
            below = own_ground(images.pixels[other].astype(np.float32), labels[other] != 0)
        else:
            below = plain_ground(PLAIN[ground], height, width, np.random.default_rng([SEED, i]))
        alpha = box_mean((labels[i] > 0).astype(np.float32), 1)
        result[i] = on_ground(images.pixels[i].astype(np.float32), alpha, below).round().clip(0, 255)
    return result


def score_grounds(segmenter: Segmenter, images: ImageSet) -> Grounds:
    """The model's IoU on the objects of a labelled set on each ground, with the network's own masks (plain edges).

    Raises DataError for a model of more than two regions and for a set without objects.
    """
    if segmenter.regions > 2:
        raise DataError(f"The model has {segmenter.regions} regions. --grounds needs a model of two regions.")
    images = images.take(np.flatnonzero((images.labels() > 0).any((1, 2))))
    if not len(images):
        raise DataError(f"{images.name} has no mask with an object. --grounds needs masks.")
    truth = (images.labels() > 0).astype(np.int8)
    found: dict[str, GroundScores] = {}
    for ground in (*PLAIN, OTHERS):
        masks = segmenter.batch(pasted(images, ground))[:, segmenter.object_region] > 0.5
        scores = metrics.score(masks, truth)
        found[ground] = {
            "iou": scores.iou,
            "iou_interval": metrics.bootstrap_interval(scores.ious),
            "failures": float((scores.ious < 0.5).mean()),
        }
    worst = min(found, key=lambda name: found[name]["iou"])
    return {"grounds": found, "worst_ground": worst, "worst_iou": found[worst]["iou"]}
