"""Scores of masks against labels, and the choice of the object region that needs no labels.

Labels are int8 (N, H, W): 0 background, 1 and above objects, -1 not labelled, which no score counts.
"""

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from redoseg.errors import DataError
from redoseg.system import opencv

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Means over pictures, each from 0 to 1, and the figures of every picture.

    ``iou`` and ``accuracy`` take the mask itself. The ``oracle_flip`` figures take, for each picture and
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
    pixel do not count.

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

    The matching uses the truth, which is why the names have `oracle`. It is one permutation for the whole set.

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
                f"the numbers of the {name}s are from {values.min()} to {values.max()}, but must be from 0 to {n - 1} "
                "(-1: not labelled); pass the number of regions that the model has as n"
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
        raise DataError("there are no pictures to resample; score labelled pictures first")
    rng, n = np.random.default_rng(seed), len(values)
    at_once = max(1, 20_000 // n)  # sets may be large
    sizes = [min(at_once, rounds - start) for start in range(0, rounds, at_once)]
    means = np.concatenate([values[rng.integers(n, size=(size, n))].mean(axis=1) for size in sizes])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


class Paired(NamedTuple):
    """One method against another on the same pictures."""

    difference: float
    """Mean over pictures of the first's figure less the second's."""
    interval: tuple[float, float]
    """Its 95 % interval, by resampling pictures."""
    p: float
    """How often a mean difference as large, of either sign, comes from chance alone, 0 to 1."""


_ALL_FLIPS = 12  # pictures up to which every choice of signs is tried: 2 ** 12 of them


def paired(ours: Floats, theirs: Floats, rounds: int = 2000, flips: int = 10_000, seed: int = 0) -> Paired:
    """Whether two methods differ on the same pictures: a paired bootstrap and a sign-flip permutation test.

    If neither is better, each picture's difference is as likely to have the other sign. So p is the share of choices
    of signs whose mean is at least as far from 0 as the one seen: of all choices for up to 12 pictures, else of
    ``flips`` drawn at random and the one seen, so that p is never 0. The same seed gives the same figures.

    Args:
        ours, theirs: a figure of each picture, (N,), in the same order.
        rounds: resamples for the interval.

    Raises:
        DataError: shapes that differ, or no pictures.
    """
    if ours.ndim != 1 or ours.shape != theirs.shape or not len(ours):
        raise DataError(
            f"the figures have shapes {ours.shape} and {theirs.shape}; expected (pictures,) for both, with at "
            "least one; score both on the same pictures"
        )
    differences = ours.astype(np.float64) - theirs
    n = len(differences)
    seen = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()  # sums in another order round otherwise
    if n <= _ALL_FLIPS:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        p = float((np.abs(signs @ differences) >= seen).mean())
    else:
        rng = np.random.default_rng(seed)
        as_far = 1
        for start in range(0, flips, 500):  # not all at once: sets may be large
            signs = 1 - 2 * rng.integers(2, size=(min(500, flips - start), n))
            as_far += int((np.abs(signs @ differences) >= seen).sum())
        p = as_far / (flips + 1)
    return Paired(float(differences.mean()), bootstrap_interval(differences, rounds, seed), p)


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


# ---------------------------------------------------------------------------- scores of a mask's edge; they need OpenCV

TOLERANCE = 0.008  # of the picture's diagonal: how far apart two edges may be and still agree


def boundary_f(objects: NDArray[np.bool_], labels: NDArray[np.int8]) -> float:
    """F-score of the edge of a mask (H, W) against that of labels (H, W), 0 to 1.

    The contour measure of Perazzi et al. (CVPR 2016): precision is the share of the mask's edge that lies within 0.8 %
    of the diagonal (rounded up) from the labels' edge, recall the reverse, F their harmonic mean. Where labels leave
    a band about the object open (-1), the line halfway through it stands for the edge. Where neither has an edge the
    score is 1 if all or nothing is object in both, else 0.

    Raises:
        DataError: shapes that differ, or nothing is labelled.
        MissingError: no OpenCV.
    """
    if objects.ndim != 2 or objects.shape != labels.shape:
        raise DataError(
            f"the mask has shape {objects.shape} and the labels {labels.shape}; expected (H, W) for both; "
            "bring the mask to the labels' size"
        )
    if not (labels >= 0).any():
        raise DataError("the labels have no labelled pixel; remove this picture")
    ours, true = _edge(objects), _edge(_completed(labels))
    if not ours.any() and not true.any():
        return float(np.array_equal(objects[labels >= 0], labels[labels >= 0] > 0))
    if not ours.any() or not true.any():
        return 0.0
    near = math.ceil(TOLERANCE * math.hypot(*labels.shape))
    precision = float((_distance_to(true)[ours] <= near).mean())
    recall = float((_distance_to(ours)[true] <= near).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _completed(labels: NDArray[np.int8]) -> NDArray[np.bool_]:
    """The object (H, W), each pixel without a label given that of the nearest that has one."""
    cv2 = opencv()
    truth: NDArray[np.bool_] = labels > 0
    unknown = labels < 0
    if not unknown.any():
        return truth
    kind = cv2.DIST_LABEL_PIXEL
    _, nearest = cv2.distanceTransformWithLabels(unknown.astype(np.uint8), cv2.DIST_L2, 5, labelType=kind)
    of_number = np.zeros(int(nearest.max()) + 1, bool)
    of_number[nearest[~unknown]] = truth[~unknown]
    return of_number[nearest]


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask's outermost pixels; the picture's own border is not an edge."""
    cv2 = opencv()
    padded = np.pad(mask.astype(np.uint8), 1, mode="edge")
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8))[1:-1, 1:-1]
    return mask & (inner == 0)


def _distance_to(edge: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How far each pixel is from the nearest of an edge [pixels]."""
    cv2 = opencv()
    distance: NDArray[np.float32] = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance
