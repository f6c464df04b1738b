"""Scores of a mask's edge. They need OpenCV (the extra ``compare``)."""

import math

import numpy as np
from numpy.typing import NDArray

from redoseg.errors import DataError
from redoseg.opencv import opencv

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
            f"a mask of shape {objects.shape} and labels of {labels.shape}, both (H, W) expected: "
            "bring the mask to the labels' size"
        )
    if not (labels >= 0).any():
        raise DataError("labels without a labelled pixel, at least one expected: leave this picture out")
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
    """The mask's outermost pixels; the picture's own border is no edge."""
    cv2 = opencv()
    padded = np.pad(mask.astype(np.uint8), 1, mode="edge")
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8))[1:-1, 1:-1]
    return mask & (inner == 0)


def _distance_to(edge: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How far each pixel is from the nearest of an edge [pixels]."""
    cv2 = opencv()
    distance: NDArray[np.float32] = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance
