"""The object's own colour at the edge of a cut-out, without that of the ground that shows through there.

A pixel at the edge is a mixture: share * object + (1 - share) * ground. Both colours are guessed from the pixels near
it that are wholly object or wholly ground, by a pyramid of means (as in fast multi-level foreground estimation, Germer
et al., ICPR 2020). The share is read off the pixel itself: it is where the pixel is between both colours, but no less
than the mask says, so that a mask that is beside the edge does little harm. What is missing of the object is added to
the pixel, whose texture stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.images.photo import PART, Part, Photo, parts

_GUESSED = 2**18  # pixels at which both colours are guessed, roughly
_SURE = 26  # shares from 0 and up to 255 that count as ground and as object
_OPAQUE = 250  # of 255; a lossy format makes some of what is opaque a little less so
_NOISE = np.float32(130)  # squared difference of two colours below which the mask alone says what the share is

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
ShareOf = Callable[[Part], Bytes]
"""How much of each pixel of a part is the object by the mask, 0 to 255, (h, w)."""


@dataclass(frozen=True)
class EdgeColours:
    """What object and ground look like near each pixel of a photograph, in its own colours."""

    of_object: Image.Image
    of_ground: Image.Image
    """RGB, a pixel for `step` x `step` of the photograph's."""
    step: int

    @classmethod
    def guess(cls, photo: Photo, share_of: ShareOf) -> EdgeColours | None:
        """None where nothing is wholly object or wholly ground."""
        width, height = photo.size
        step = max(1, math.isqrt(photo.pixels // _GUESSED))
        while math.ceil(width / step) * math.ceil(height / step) > 2 * _GUESSED:
            step *= 2  # few rows cannot become fewer
        small = math.ceil(width / step), math.ceil(height / step)
        planes = np.zeros((2, small[1], small[0], 4), np.float32)
        for left, top, right, bottom in parts(small, max(1, PART // step**2)):
            part = (left * step, top * step, min(right * step, width), min(bottom * step, height))
            image, known = photo.own_of(part).convert("RGB"), _known(photo, part)
            share = share_of(part).astype(np.int16)
            for plane, near in zip(planes, (share - (255 - _SURE), _SURE - share), strict=True):
                if near.max() <= 0:
                    continue
                weights = (near.clip(0, _SURE) * np.int16(255 / _SURE)).astype(np.uint8)
                count = Image.fromarray(weights if known is None else np.where(known, weights, np.uint8(0)))
                counted = Image.composite(image, Image.new("RGB", count.size), count)
                plane[top:bottom, left:right, :3] = np.asarray(counted.reduce(step))
                plane[top:bottom, left:right, 3] = np.asarray(count.reduce(step))
        planes[..., 3] *= np.float32(1 / 255)
        if not planes[0, ..., 3].any() or not planes[1, ..., 3].any():
            return None
        of_object, of_ground = (Image.fromarray(np.rint(_spread(p)).clip(0, 255).astype(np.uint8)) for p in planes)
        return cls(of_object, of_ground, step)

    def taken_off(self, photo: Photo, share: Bytes, part: Part) -> Image.Image:
        """The own colours of a part, with the object's alone where its `share` (h, w) is neither 0 nor 255.

        Where the file itself is not opaque they stay: there they are not mixed with what is behind.
        """
        image, known = photo.own_of(part), _known(photo, part)
        at_edge = (share > 0) & (share < 255)
        if known is not None:
            at_edge &= known
        if not at_edge.any():
            return image
        down, across = np.flatnonzero(at_edge.any(1)), np.flatnonzero(at_edge.any(0))
        top, bottom, left, right = int(down[0]), int(down[-1]) + 1, int(across[0]), int(across[-1]) + 1
        at_edge, share = at_edge[top:bottom, left:right], share[top:bottom, left:right]
        x, y = part[0] + left, part[1] + top
        within = (x / self.step, y / self.step, (part[0] + right) / self.step, (part[1] + bottom) / self.step)
        object_there, ground = (
            np.asarray(guess.resize((right - left, bottom - top), Image.Resampling.BILINEAR, within))[at_edge]
            for guess in (self.of_object, self.of_ground)
        )
        pixels = np.array(image.convert("RGB"))
        edge = pixels[top:bottom, left:right]
        edge[at_edge] = _unmixed(edge[at_edge], object_there, ground, share[at_edge])
        return Image.fromarray(pixels)


def _known(photo: Photo, part: Part) -> NDArray[np.bool_] | None:
    """Where the file is opaque; None where all of it is. Below transparency colours may be anything."""
    alpha = photo.alpha_of(part)
    return None if alpha is None else np.asarray(alpha) >= _OPAQUE


def _unmixed(mixed: Bytes, object_there: Bytes, ground: Bytes, share: Bytes) -> Bytes:
    """The object's colours (N, 3) in mixtures (N, 3) of which it has at least this share (N,), 0 to 255."""
    apart: Floats = object_there.astype(np.float32) - ground
    least = share * np.float32(1 / 255)
    along = np.einsum("nc,nc->n", mixed - ground.astype(np.float32), apart)
    seen = (along + _NOISE * least) / (np.einsum("nc,nc->n", apart, apart) + _NOISE)
    missing = 1 - np.maximum(seen, least).clip(0, 1)
    return np.rint(missing[:, None] * apart + mixed).clip(0, 255).astype(np.uint8)


def _spread(planes: Floats) -> Floats:
    """Colours (h, w, 3) of planes (h, w, 4), colours times weights and weights: means of what is near."""
    height, width = planes.shape[:2]
    weights = planes[..., 3:]
    mean = np.asarray(planes[..., :3] / np.maximum(weights, np.float32(1e-6)), np.float32)
    if max(height, width) == 1:
        return mean
    coarse = _spread(_resized(planes, ((width + 1) // 2, (height + 1) // 2), Image.Resampling.BOX))
    trust = np.minimum(4 * weights, np.float32(1))
    result: Floats = mean * trust + _resized(coarse, (width, height), Image.Resampling.BILINEAR) * (1 - trust)
    return result


def _resized(planes: Floats, size: tuple[int, int], kind: Image.Resampling) -> Floats:
    """Planes (h, w, k) at `size` (width, height)."""
    each = (Image.fromarray(np.ascontiguousarray(planes[..., i])) for i in range(planes.shape[2]))
    return np.dstack([np.asarray(plane.resize(size, kind)) for plane in each])
