"""Methods without training to compare with, and floors that any model must beat.

Each method takes one picture, uint8 (H, W, 3), RGB, and returns the object, bool (H, W). They need OpenCV
(the extra ``compare``). The floors are computed from the labels of the set itself, so they flatter
themselves; they show how far knowing nothing but where objects tend to be goes.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from redoseg.errors import DataError, RedosegError
from redoseg.metrics import Scores, score
from redoseg.opencv import opencv

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.floating]


def kmeans(picture: Picture) -> Mask:
    """Two colours found by k-means in Lab; the object is the one that touches the border less."""
    cv2 = opencv()
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float32)
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    _, nearest, _ = cv2.kmeans(lab, 2, None, stop, 3, cv2.KMEANS_PP_CENTERS)
    return _inner(nearest.reshape(picture.shape[:2]) == 1)


def watershed(picture: Picture) -> Mask:
    """Watershed from two markers: the border, and a square in the centre."""
    cv2 = opencv()
    height, width = picture.shape[:2]
    markers = np.zeros((height, width), np.int32)
    dy, dx = max(1, round(height * _CENTRE)), max(1, round(width * _CENTRE))
    markers[height // 2 - dy : height // 2 + dy, width // 2 - dx : width // 2 + dx] = 2
    # At least two: OpenCV overwrites the outermost pixels, and the marker with them.
    edge = max(2, round(min(height, width) * _EDGE))
    markers[:edge] = markers[-edge:] = 1
    markers[:, :edge] = markers[:, -edge:] = 1
    # OpenCV reads colours as BGR; watershed only compares neighbours, so the order is no matter.
    cv2.watershed(np.ascontiguousarray(picture), markers)
    found: Mask = markers == 2
    return found


# Half the side of watershed's centre marker and the width of its border marker, as shares of the side.
_CENTRE = 0.1
_EDGE = 0.03


def grabcut(picture: Picture) -> Mask:
    """GrabCut (Rother et al. 2004) from a rectangle an eighth of the side from the border, 5 rounds."""
    cv2 = opencv()
    height, width = picture.shape[:2]
    top, left = height // 8, width // 8
    mask = np.zeros((height, width), np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    bgr = np.ascontiguousarray(picture[..., ::-1])
    rectangle = (left, top, width - 2 * left, height - 2 * top)
    cv2.grabCut(bgr, mask, rectangle, models[0], models[1], 5, cv2.GC_INIT_WITH_RECT)
    found: Mask = (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)
    return found


# The inpainter of IEM: its blur as a share of the picture's side, and the weight of the picture's mean
# colour, which fills what lies out of the blur's reach. The blur is the best of 5, 6, 7 and 9
# 64ths on the 141 `dev` pictures of Flowers-17 (docs/logs/iem-blur-on-dev.txt), the weight on 71 of them.
_REACH = 7 / 64
_PRIOR = 0.01


def iem(picture: Picture, rounds: int = 150) -> Mask:
    """Inpainting Error Maximisation (Savarese et al., CVPR 2021, arXiv 2012.07287), without training.

    What belongs to one thing tells nothing about what belongs to another: the mask is changed until each
    region is as hard as possible to fill in from the other by a blur. Only pixels on the boundary may
    change sides, ``rounds`` times, starting from a centred square. It works on the picture reduced 2x;
    of the two regions, the one that touches the border less is the object.
    """
    cv2 = opencv()
    height, width = picture.shape[:2]
    rows, columns = max(4, height // 2), max(4, width // 2)
    small = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
    small = (small - small.mean(axis=(0, 1))) / (small.std(axis=(0, 1)) + 0.25)
    sigma = _REACH * min(rows, columns)
    mask = np.zeros((rows, columns), np.float32)
    mask[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4] = 1
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    for _ in range(rounds):
        boundary = cv2.dilate(mask, cross) != cv2.erode(mask, cross)
        mask = np.where(boundary, _gain(small, mask, sigma) > 0, mask > 0.5).astype(np.float32)
        # The majority of each neighbourhood: single pixels that change sides would fray the boundary.
        mask = (cv2.blur(mask, (3, 3), borderType=cv2.BORDER_REPLICATE) > 0.5).astype(np.float32)
    found: Mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    return _inner(found)


def _gain(colours: Floats, mask: Floats, sigma: float) -> Floats:
    """Gradient of IEM's error with respect to the mask, (H, W), worked out by hand.

    The error is the mean over each region of |filled - picture|, summed over colours and both regions, where
    filled = blur(picture * other region) / (blur(other region) + prior). Colours (H, W, 3) have mean 0.
    """
    total = np.zeros_like(mask)
    for sign, own in ((1, mask), (-1, 1 - mask)):
        other = 1 - own
        weight = _blur(other, sigma) + _PRIOR
        filled = _blur(colours * other[..., None], sigma) / weight[..., None]
        difference = filled - colours
        error = np.abs(difference).sum(axis=-1)
        area = max(float(own.sum()), 1.0)
        mean = float((own * error).sum()) / area
        # A pixel that joins the region leaves the other one, and no longer helps to fill its neighbours.
        slope = np.sign(difference) * (own / weight)[..., None]
        helped = (colours * _blur(slope, sigma)).sum(axis=-1) - _blur((slope * filled).sum(axis=-1), sigma)
        total += sign * (error - mean - helped) / area
    return total


def _blur(a: Floats, sigma: float) -> Floats:
    """Gaussian blur of (H, W) or (H, W, C) with zeros outside: nothing beyond the picture fills anything."""
    cv2 = opencv()
    side = 2 * math.ceil(3 * sigma) + 1
    blurred: Floats = cv2.GaussianBlur(a, (side, side), sigma, borderType=cv2.BORDER_CONSTANT)
    return blurred


METHODS: dict[str, Callable[[Picture], Mask]] = {
    "kmeans": kmeans,
    "watershed": watershed,
    "grabcut": grabcut,
    "iem": iem,
}


def everything(labels: NDArray[np.int8]) -> Scores:
    """Scores of calling every pixel object. Labels int8 (N, H, W)."""
    return score(np.ones(labels.shape, bool), labels)


def mean_mask(labels: NDArray[np.int8]) -> Scores:
    """Scores of the set's own mean mask, cut where that scores best: it uses the truth. Labels (N, H, W)."""
    known = labels >= 0
    mean = (labels > 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return _best([mean >= cut for cut in np.linspace(0, mean.max(), 41)], labels)


def centred_disc(labels: NDArray[np.int8]) -> Scores:
    """Scores of the one centred disc with the best radius: it uses the truth. Labels (N, H, W)."""
    height, width = labels.shape[1:]
    y = (np.arange(height) + 0.5) / height * 2 - 1
    x = (np.arange(width) + 0.5) / width * 2 - 1
    distance = np.hypot(y[:, None], x[None])
    return _best([distance <= radius for radius in np.linspace(0.05, 1.45, 29)], labels)


def floors(labels: NDArray[np.int8]) -> dict[str, Scores]:
    """The trivial masks that any model must beat, at their best. Labels (N, H, W)."""
    return {"mean mask": mean_mask(labels), "centred disc": centred_disc(labels)}


def beside(
    images: NDArray[np.uint8], labels: NDArray[np.int8], methods: Sequence[str] = ("kmeans", "grabcut")
) -> dict[str, Scores]:
    """What to print beside a model: two floors, then the chosen methods, on the same pictures.

    Args:
        images: uint8 (N, H, W, 3), RGB.
        labels: int8 (N, H, W).
        methods: names of ``METHODS``.

    Raises:
        RedosegError: an unknown method, or OpenCV is missing.
        DataError: shapes that differ, or no labelled picture.
    """
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise RedosegError(f"method {unknown[0]!r} does not exist; expected one of {', '.join(METHODS)}")
    if images.shape != (*labels.shape, 3):
        raise DataError(
            f"pictures have shape {images.shape} and labels {labels.shape}; expected (N, H, W, 3) and "
            "(N, H, W); resize the labels to the pictures"
        )
    rows = floors(labels)
    for name in methods:
        rows[name] = score(np.stack([METHODS[name](picture) for picture in images]), labels)
    return rows


def _best(masks: Sequence[Mask], labels: NDArray[np.int8]) -> Scores:
    """Scores of the one mask (H, W) that has the best mean IoU over the set."""
    known = labels[(labels >= 0).any(axis=(1, 2))].reshape(-1, labels[0].size)
    # Products of matrices, because 41 passes over a large set take long. Counts below 2 ** 24 are exact.
    tried = np.stack([mask.ravel() for mask in masks]).astype(np.float32)
    valid, truth = (known >= 0).astype(np.float32), (known > 0).astype(np.float32)
    both = tried @ truth.T
    either = tried @ valid.T + truth.sum(axis=1) - both
    iou = np.where(either > 0, both / np.maximum(either, 1), 1).mean(axis=1) if len(known) else np.zeros(1)
    return score(np.broadcast_to(masks[int(np.argmax(iou))], labels.shape), labels)


def _inner(mask: Mask) -> Mask:
    """The mask or its complement: the one whose share of the border is lower for its share of the area."""
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]]).mean()
    area = mask.mean()
    if area in (0, 1):
        return mask if area == 0 else ~mask
    return mask if border / area <= (1 - border) / (1 - area) else ~mask
