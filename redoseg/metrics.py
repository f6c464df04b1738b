"""Scores of masks against labels, and the choice of the object region that needs no labels.

Labels are int8 (N, H, W): 0 background, 1 and above objects, -1 not labelled and left out of every score.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redoseg.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Means over pictures, each from 0 to 1, and the figures of every picture.

    ``iou`` and ``accuracy`` take the mask as it is. The ``oracle_flip`` figures take, for each picture and
    each figure, the better of the mask and its complement, as the ReDO paper does: they look at the truth.
    """

    pictures: int
    accuracy: float
    iou: float
    accuracy_oracle_flip: float
    iou_oracle_flip: float
    ious: Floats
    accuracies: Floats

    def as_dict(self) -> dict[str, int | float]:
        """The means and the number of pictures, for JSON."""
        return {
            "pictures": self.pictures,
            "accuracy": self.accuracy,
            "iou": self.iou,
            "accuracy_oracle_flip": self.accuracy_oracle_flip,
            "iou_oracle_flip": self.iou_oracle_flip,
        }


def object_region(masks: NDArray[np.floating]) -> int:
    """Which region is the object, decided once for a model and without labels.

    The object is near the border of its picture less than its size would suggest, so it is the region with the lowest
    ratio of its share of the border to its share of the whole area, over all pictures. The border is the band from
    1/16 to 3/16 of the side: padding draws a frame of a pixel or two around some masks, which should not decide.

    Args:
        masks: soft masks (N, n, H, W) that sum to one over n >= 2 regions.

    Raises:
        DataError: not four dimensions, no picture, or fewer than two regions.
    """
    if masks.ndim != 4 or masks.shape[0] == 0 or masks.shape[1] < 2:
        raise DataError(
            f"masks have shape {masks.shape}; expected (pictures, regions, height, width) with at least one "
            "picture and two regions; pass the masks of all regions"
        )
    area = masks.mean(axis=(0, 2, 3), dtype=np.float64)
    height, width = masks.shape[2:]
    side = min(height, width)
    outer, inner = side // 16, max(1, 3 * side // 16)
    ring = np.zeros((height, width), bool)
    ring[outer : height - outer, outer : width - outer] = True
    ring[inner : height - inner, inner : width - inner] = False
    border = masks[:, :, ring].mean(axis=(0, 2), dtype=np.float64)
    # A region that has vanished has no ratio worth comparing: it is never the object.
    ratio = np.where(area > 1e-6, border / np.maximum(area, 1e-6), np.inf)
    return int(np.argmin(ratio))


def score(objects: NDArray[np.bool_], labels: NDArray[np.int8]) -> Scores:
    """Pixel accuracy and intersection over union of object masks, averaged over pictures.

    Every label above 0 counts as object. Two empty masks agree: IoU 1. Pictures without any labelled
    pixel are left out of the count.

    Args:
        objects: predicted object, bool (N, H, W).
        labels: int8 (N, H, W), see the module.

    Raises:
        DataError: shapes that differ, or no labelled picture.
    """
    known, _ = _labelled(objects, labels)
    objects, labels = objects[known].astype(bool, copy=False), labels[known]
    valid, truth = labels >= 0, labels > 0
    iou, accuracy = _figures(objects, truth, valid)
    flipped_iou, flipped_accuracy = _figures(~objects, truth, valid)
    return Scores(
        pictures=len(iou),
        accuracy=float(accuracy.mean()),
        iou=float(iou.mean()),
        accuracy_oracle_flip=float(np.maximum(accuracy, flipped_accuracy).mean()),
        iou_oracle_flip=float(np.maximum(iou, flipped_iou).mean()),
        ious=iou,
        accuracies=accuracy,
    )


def score_matched(regions: NDArray[np.integer], labels: NDArray[np.int8], n: int) -> dict[str, int | float]:
    """Scores of n > 2 regions under the one matching of regions to labels with the best mean IoU.

    The matching looks at the truth, hence the names. It is one permutation for the whole set.

    Args:
        regions: hard region of every pixel, 0 to n - 1, integers (N, H, W).
        labels: int8 (N, H, W), -1 or 0 to n - 1.
        n: number of regions.

    Returns:
        ``iou_matched`` (mean over labels, then over pictures), ``accuracy_matched`` and ``pictures``.

    Raises:
        DataError: shapes that differ, no labelled picture, or a label or region outside the range.
    """
    known, valid = _labelled(regions, labels)
    regions, labels, valid = regions[known], labels[known], valid[known]
    for name, values in (("region", regions), ("label", labels)):
        if values.max() >= n or values.min() < -1:
            raise DataError(
                f"{name}s run from {values.min()} to {values.max()}; expected 0 to {n - 1}; score with the "
                "number of regions that the model has"
            )
    ious = np.empty((len(regions), n, n))
    hits = np.empty((len(regions), n, n))
    for r, t in itertools.product(range(n), range(n)):
        predicted, truth = (regions == r) & valid, labels == t
        both = (predicted & truth).sum(axis=(1, 2))
        either = (predicted | truth).sum(axis=(1, 2))
        ious[:, r, t] = np.where(either > 0, both / np.maximum(either, 1), 1)
        hits[:, r, t] = both
    order = list(range(n))
    best = max(itertools.permutations(range(n)), key=lambda p: float(ious[:, order, list(p)].mean()))
    accuracy = hits[:, order, list(best)].sum(axis=1) / valid.sum(axis=(1, 2))
    return {
        "iou_matched": float(ious[:, order, list(best)].mean()),
        "accuracy_matched": float(accuracy.mean()),
        "pictures": len(regions),
    }


def bootstrap_interval(values: Floats, rounds: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of ``values`` (N,), by resampling pictures ``rounds`` times.

    Raises:
        DataError: no values.
    """
    if len(values) == 0:
        raise DataError("no pictures to resample; expected at least one; score labelled pictures first")
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(rounds)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _labelled(masks: NDArray[np.generic], labels: NDArray[np.int8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which pictures have a labelled pixel (N,), and which pixels are labelled (N, H, W)."""
    if masks.ndim != 3 or masks.shape != labels.shape:
        raise DataError(
            f"masks have shape {masks.shape} and labels {labels.shape}; expected both (pictures, height, "
            "width); resize the masks to the labels"
        )
    valid: NDArray[np.bool_] = labels >= 0
    known: NDArray[np.bool_] = np.asarray(valid.any(axis=(1, 2)))
    if not known.any():
        raise DataError(
            f"none of {len(labels)} pictures has a labelled pixel; expected at least one; score a set that has masks"
        )
    return known, valid


def _figures(objects: NDArray[np.bool_], truth: NDArray[np.bool_], valid: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """IoU and accuracy of each picture, both (N,)."""
    both = (objects & truth & valid).sum(axis=(1, 2))
    either = ((objects | truth) & valid).sum(axis=(1, 2))
    right = ((objects == truth) & valid).sum(axis=(1, 2))
    iou: Floats = np.where(either > 0, both / np.maximum(either, 1), 1.0)
    accuracy: Floats = right / valid.sum(axis=(1, 2))
    return iou, accuracy
