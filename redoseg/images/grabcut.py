"""GrabCut: the object by graph cuts in one picture's colours. Needs OpenCV."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.system import opencv

ImageArray = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def constant_mask(height: int, width: int, kind: Literal["disc", "square"], size: float) -> Mask:
    """One centred mask (height, width) for all pictures, stretched with those that are not square.

    `size` is the radius of a disc in parts of half of each side (1 touches all four borders), and how far a square
    lies inside in parts of each side, rounded to pixels (from 0.5 nothing is left).
    """
    if kind == "disc":
        y = (np.arange(height) + 0.5) / height * 2 - 1
        x = (np.arange(width) + 0.5) / width * 2 - 1
        disc: Mask = np.hypot(y[:, None], x[None]) <= size
        return disc
    top, left = round(height * size), round(width * size)
    mask = np.zeros((height, width), bool)
    mask[top : max(height - top, 0), left : max(width - left, 0)] = True
    return mask


def grabcut(image: ImageArray, inset: float = 0.02, rounds: int = 5, side: int = 1) -> Mask:
    """GrabCut (Rother et al. 2004): graph cuts from a rectangle `inset` of the side, at least a pixel, inside.

    A picture whose shorter side is below `side` [pixels] is enlarged to it first: OpenCV's weight of a boundary is one
    for each of its pixels, so that in small pictures boundaries weigh more.
    """
    cv2 = opencv()
    large = _enlarged(image, side)
    height, width = large.shape[:2]
    top, left = max(1, int(height * inset)), max(1, int(width * inset))
    sides = np.full((height, width), cv2.GC_BGD, np.uint8)  # what is outside is background for good
    sides[top : height - top, left : width - left] = cv2.GC_PR_FGD
    return _reduced(_cut(large, sides, rounds), image)


def grabcut_from(image: ImageArray, mask: Mask, rounds: int = 5, side: int = 1) -> Mask:
    """GrabCut from a first mask (H, W) instead of a rectangle; any pixel may change sides.

    A mask that is all object or all ground, from which no colours can be learnt, is returned unchanged.
    """
    if mask.all() or not mask.any():
        return mask
    cv2 = opencv()
    large = _enlarged(image, side)
    first = Image.fromarray(mask.astype(np.uint8) * 255).resize(large.shape[1::-1], Image.Resampling.BILINEAR)
    sides = np.where(np.asarray(first) > 127, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    return _reduced(_cut(large, sides, rounds), image)


def _cut(image: ImageArray, sides: NDArray[np.uint8], rounds: int) -> Mask:
    """GrabCut from OpenCV's codes of sides (H, W), which are written over."""
    cv2 = opencv()
    cv2.setRNGSeed(0)
    bgr = np.ascontiguousarray(image[..., ::-1])
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(bgr, sides, None, models[0], models[1], rounds, cv2.GC_INIT_WITH_MASK)
    found: Mask = (sides == cv2.GC_FGD) | (sides == cv2.GC_PR_FGD)
    return found


def _enlarged(image: ImageArray, side: int) -> ImageArray:
    """The picture, its shorter side at least `side`."""
    height, width = image.shape[:2]
    factor = side / min(height, width)
    if factor <= 1:
        return image
    size = (round(width * factor), round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _reduced(mask: Mask, image: ImageArray) -> Mask:
    """The mask at the picture's size."""
    if mask.shape == image.shape[:2]:
        return mask
    small = Image.fromarray(mask.astype(np.uint8) * 255).resize(image.shape[1::-1], Image.Resampling.BOX)
    reduced: Mask = np.asarray(small) > 127
    return reduced
