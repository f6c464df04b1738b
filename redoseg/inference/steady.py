"""Masks of a film that are steady: averaged over neighbouring frames after the camera's own motion, and the flicker.

All of it happens at the network's size. The camera's motion is a shift, found by phase correlation of what two frames
show (Kuglin and Hines, 1975); that of a camera which turns or comes closer is so small from one frame to the next that
a shift serves. A frame counts for another only where both look alike, so what moves by itself is not smeared.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from redoseg.errors import DataError
from redoseg.inference.segmenter import Seen

STEADY = 3  # frames before and after
MOST_STEADY = 15
SIDE = 256  # longer side at which masks are compared [pixels]
_ALIKE = 0.5  # difference of two frames at which one hardly counts for the other [standard deviations of brightness]
_FINE, _WHOLE = 0.25, 0.9  # correlations of two frames, of details and of all, below which there is a cut between them
_BLUR = 8  # what is coarser is not detail [pixels of the network]

Floats = NDArray[np.float32]
T = TypeVar("T")


class Shift(NamedTuple):
    """How far what is seen has moved from one frame to the next, as a share of the frame's width and height."""

    x: float
    y: float


def check_steady(steady: int) -> None:
    """Raises DataError for a number of frames that is not from 0 to MOST_STEADY."""
    if not 0 <= steady <= MOST_STEADY:
        raise DataError(f"--steady is {steady}, but must be from 0 to {MOST_STEADY} frames; choose another")


@dataclass
class Steadied(Generic[T]):
    """A frame with its steady mask."""

    item: T
    """What came with the frame."""
    seen: Seen
    shift: Shift | None
    """From the frame before; None at the first frame and after a cut."""


@dataclass
class _Frame(Generic[T]):
    item: T | None
    """Gone once the frame was given."""
    seen: Seen
    details: Floats
    brightness: Floats
    shift: Shift | None = None
    place: tuple[float, float] = (0.0, 0.0)
    """Sum of the shifts from the last cut on [pixels of the network]."""


def steadied(frames: Iterable[tuple[T, Seen]], steady: int = STEADY) -> Iterator[Steadied[T]]:
    """The frames of a film in their order, each with the mean of the masks of `steady` frames before and after it.

    Frames beyond a cut do not count. 0 changes no mask. At most `steady` + 1 items are kept.
    """
    window: deque[_Frame[T]] = deque()
    here = 0  # the next one to give
    for item, seen in frames:
        one = _looked_at(item, seen)
        if window:
            _follow(one, window[-1])
        window.append(one)
        if len(window) - here > steady:
            yield _given(window, here, steady)
            here += 1
        while here > max(steady, 1):  # the frame before is needed for the shift
            window.popleft()
            here -= 1
    while here < len(window):
        yield _given(window, here, steady)
        here += 1


def _looked_at(item: T, seen: Seen) -> _Frame[T]:
    grey = Image.fromarray(seen.reduced).convert("L")
    brightness = np.asarray(grey.filter(ImageFilter.BoxBlur(1)), np.float32)
    details = np.asarray(grey, np.float32) - np.asarray(grey.filter(ImageFilter.BoxBlur(_BLUR)), np.float32)
    # a lamp that flickers changes mean and contrast, not what is seen
    brightness = (brightness - brightness.mean()) / max(float(brightness.std()), 4.0)
    return _Frame(item, seen, details, brightness)


def _follow(one: _Frame[T], before: _Frame[T]) -> None:
    """Find the shift from the frame before."""
    x, y = shift_between(before.details, one.details)
    fine = _correlation(_moved(before.details, x, y), one.details, _inside(one.details.shape, x, y))
    whole = _correlation(_moved(before.brightness, x, y), one.brightness, _inside(one.details.shape, x, y))
    if fine < _FINE and whole < _WHOLE:
        return
    side = one.seen.mask.shape[0]
    one.shift, one.place = Shift(x / side, y / side), (before.place[0] + x, before.place[1] + y)


def shift_between(before: Floats, after: Floats) -> tuple[float, float]:
    """How far (x, y) the contents of a grey image (S, S) have moved in the other [pixels], to about a tenth."""
    side = before.shape[0]
    hann = np.hanning(side + 2)[1:-1].astype(np.float32)
    cross = np.fft.rfft2(after * hann[:, None] * hann) * np.conj(np.fft.rfft2(before * hann[:, None] * hann))
    frequencies = np.fft.fftfreq(side)[:, None] ** 2 + np.fft.rfftfreq(side) ** 2
    cross *= np.exp(-2 * math.pi**2 * frequencies) / (np.abs(cross) + 1e-6)  # a peak that is a pixel wide
    found = np.fft.irfft2(cross, s=(side, side))
    row, column = np.unravel_index(int(found.argmax()), found.shape)

    def fraction(low: float, peak: float, high: float) -> float:
        low, peak, high = (math.log(max(value, 1e-9)) for value in (low, peak, high))
        bend = low - 2 * peak + high
        return max(-0.5, min(0.5, 0.5 * (low - high) / bend)) if bend < 0 else 0.0

    peak = float(found[row, column])
    y = row + fraction(float(found[row - 1, column]), peak, float(found[(row + 1) % side, column]))
    x = column + fraction(float(found[row, column - 1]), peak, float(found[row, (column + 1) % side]))
    return float(x - side if x > side / 2 else x), float(y - side if y > side / 2 else y)


def _moved(plane: Floats, x: float, y: float) -> Floats:
    """A plane (h, w) moved by so many pixels to the right and down; 0 where nothing comes from."""
    if x == y == 0:
        return plane
    image = Image.fromarray(plane)
    return np.asarray(
        image.transform(image.size, Image.Transform.AFFINE, (1, 0, -x, 0, 1, -y), Image.Resampling.BILINEAR)
    )


def _inside(shape: tuple[int, ...], x: float, y: float) -> NDArray[np.bool_]:
    """Where a plane of this shape that is moved so shows something."""
    height, width = shape
    rows, columns = np.arange(height) - y, np.arange(width) - x
    within: NDArray[np.bool_] = ((rows >= 0) & (rows <= height - 1))[:, None] & (columns >= 0) & (columns <= width - 1)
    return within


def _correlation(a: Floats, b: Floats, where: NDArray[np.bool_]) -> float:
    """Of two planes where both show something; 0 where that is too little."""
    if where.mean() < 0.25:
        return 0.0
    one, other = a[where] - a[where].mean(), b[where] - b[where].mean()
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    if size < 1e-3 * one.size:
        return 1.0  # both are plain
    return float((one * other).sum() / size)


def _given(window: deque[_Frame[T]], here: int, steady: int) -> Steadied[T]:
    frame = window[here]
    item, frame.item = frame.item, None
    assert item is not None
    total, weights = frame.seen.mask.astype(np.float32), np.ones_like(frame.seen.mask)
    for step in (-1, 1):
        for distance in range(1, steady + 1):
            at = here + step * distance
            if not 0 <= at < len(window) or window[at if step > 0 else at + 1].shift is None:
                break
            other = window[at]
            x, y = frame.place[0] - other.place[0], frame.place[1] - other.place[1]
            unlike = (_moved(other.brightness, x, y) - frame.brightness) / _ALIKE
            weight = np.exp(-(unlike**2) / 2) * (_inside(unlike.shape, x, y) * (1 - distance / (steady + 1)))
            total = total + weight * _moved(other.seen.mask, x, y)
            weights = weights + weight
    mask = frame.seen.mask if steady == 0 else (total / weights).astype(np.float32)
    return Steadied(item, replace(frame.seen, mask=mask), frame.shift)


@dataclass
class Flicker:
    """How well the masks of neighbouring frames agree, counted while they come."""

    _before: NDArray[np.bool_] | None = field(default=None, repr=False)
    _sum: float = 0.0
    pairs: int = 0

    def take(self, mask: NDArray[np.bool_], shift: Shift | None) -> None:
        """The next frame's mask (h, w), at any one size, and the camera's motion; None after a cut."""
        before, self._before = self._before, mask
        if before is None or shift is None:
            return
        x, y = shift.x * mask.shape[1], shift.y * mask.shape[0]
        where = _inside(mask.shape, x, y)
        moved = (_moved(before.astype(np.float32), x, y) > 0.5) & where
        either = np.count_nonzero(moved | (mask & where))
        if either:
            self._sum += np.count_nonzero(moved & mask) / either
            self.pairs += 1

    @property
    def agreement(self) -> float | None:
        """Mean IoU of neighbouring masks, 1 without flicker; None where no two neighbours show an object."""
        return self._sum / self.pairs if self.pairs else None


def small_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask (H, W) at SIDE, for `Flicker`."""
    height, width = mask.shape
    shrink = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    grey = Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).resize(size, Image.Resampling.BOX)
    return np.asarray(grey) > 127
