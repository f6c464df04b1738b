"""Methods without training to compare with, and floors that any model must beat.

Each method takes one image, uint8 (H, W, 3), RGB, and returns the object, bool (H, W); its settings, if it has
any, are keywords. All but the two floors among them need OpenCV (the extras ``compare`` and ``train``). The floors at
the end are computed from the labels of the set itself, so they flatter themselves; they show how far knowing nothing
but where objects tend to be goes.
"""

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from redoseg.errors import DataError, RedosegError, did_you_mean
from redoseg.images.grabcut import ImageArray, Mask, constant_mask, grabcut, grabcut_from
from redoseg.metrics import Scores, score
from redoseg.system import opencv

Floats = NDArray[np.floating]

# Raise it whenever a method's masks change: those on disk are then computed again.
VERSION = 1


def everything(image: ImageArray) -> Mask:
    """The whole image is the object: a floor."""
    return np.ones(image.shape[:2], bool)


def square(image: ImageArray, margin: float = 1 / 8) -> Mask:
    """A centred rectangle, `margin` of each side from the border, in a square image a square: a floor."""
    height, width = image.shape[:2]
    return constant_mask(height, width, "square", margin)


def otsu(image: ImageArray) -> Mask:
    """Otsu's threshold (1979) on the most telling of the channels R, G, B, L, a, b and saturation.

    The most telling is the one whose two sides explain most of its variance: Otsu's own measure of a threshold,
    between-class variance over total variance. The object is the side that touches the border less.
    """
    cv2 = opencv()
    lab, hsv = cv2.cvtColor(image, cv2.COLOR_RGB2LAB), cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    best, found = 0.0, np.zeros(image.shape[:2], bool)
    for channel in [*np.moveaxis(image, -1, 0), *np.moveaxis(lab, -1, 0), hsv[..., 1]]:
        plane = np.ascontiguousarray(channel)
        _, side = cv2.threshold(plane, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        above = side == 1
        share, total = float(above.mean()), float(plane.var())
        if share in (0, 1) or total == 0:
            continue
        between = share * (1 - share) * float(plane[above].mean() - plane[~above].mean()) ** 2
        if between / total > best:
            best, found = between / total, above
    return _inner(found)


def kmeans(image: ImageArray) -> Mask:
    """Two colours found by k-means in Lab; the object is the one that touches the border less."""
    cv2 = opencv()
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float32)
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    _, nearest, _ = cv2.kmeans(lab, 2, None, stop, 3, cv2.KMEANS_PP_CENTERS)
    return _inner(nearest.reshape(image.shape[:2]) == 1)


def watershed(image: ImageArray, centre: float = 0.15, edge: float = 0.016) -> Mask:
    """Watershed from two markers: the border, and a square in the centre.

    `centre` is half the side of the square, `edge` the width of the border's marker, as shares of the side.
    """
    cv2 = opencv()
    height, width = image.shape[:2]
    markers = np.zeros((height, width), np.int32)
    dy, dx = max(1, round(height * centre)), max(1, round(width * centre))
    markers[height // 2 - dy : height // 2 + dy, width // 2 - dx : width // 2 + dx] = 2
    # At least two: OpenCV overwrites the outermost pixels, and the marker with them.
    band = max(2, round(min(height, width) * edge))
    markers[:band] = markers[-band:] = 1
    markers[:, :band] = markers[:, -band:] = 1
    # OpenCV reads colours as BGR; watershed only compares neighbours, so the order does not matter.
    cv2.watershed(np.ascontiguousarray(image), markers)
    found: Mask = markers == 2
    return found


def grabcut_from_disc(image: ImageArray, size: float = 0.8, rounds: int = 5, side: int = 1) -> Mask:
    """GrabCut from a centred disc (`constant_mask`), so an object may reach the border of the image."""
    height, width = image.shape[:2]
    return grabcut_from(image, constant_mask(height, width, "disc", size), rounds, side)


def grabcut_from_square(image: ImageArray, size: float = 1 / 8, rounds: int = 5, side: int = 1) -> Mask:
    """GrabCut from a centred square (`constant_mask`), so an object may reach the border of the image."""
    height, width = image.shape[:2]
    return grabcut_from(image, constant_mask(height, width, "square", size), rounds, side)


# The inpainter of IEM: the weight of the image's mean colour, which fills what lies out of the blur's reach. The
# blur is the best of 5, 6, 7 and 9 64ths on the 141 `dev` images of Flowers-17 (results/logs/iem-blur-on-dev.txt),
# the weight on 71 of them.
_PRIOR = 0.01


def iem(image: ImageArray, rounds: int = 150, reach: float = 7 / 64) -> Mask:
    """Inpainting Error Maximisation (Savarese et al., CVPR 2021, arXiv 2012.07287), without training.

    An object predicts nothing of what is around it: the mask is changed until each region is as hard as possible to
    fill in from the other by a blur. Only pixels on the boundary may change sides, ``rounds`` times, starting from a
    centred square. It works on the image reduced 2x; of the two regions, the one that touches the border less is the
    object. ``reach`` is the blur as a share of the side.
    """
    cv2 = opencv()
    height, width = image.shape[:2]
    rows, columns = max(4, height // 2), max(4, width // 2)
    small = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
    small = (small - small.mean(axis=(0, 1))) / (small.std(axis=(0, 1)) + 0.25)
    sigma = reach * min(rows, columns)
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

    The error is the mean over each region of |filled - image|, summed over colours and both regions, where
    filled = blur(image * other region) / (blur(other region) + prior). Colours (H, W, 3) have mean 0.
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
    """Gaussian blur of (H, W) or (H, W, C) with zeros outside: nothing beyond the image fills anything."""
    cv2 = opencv()
    side = 2 * math.ceil(3 * sigma) + 1
    blurred: Floats = cv2.GaussianBlur(a, (side, side), sigma, borderType=cv2.BORDER_CONSTANT)
    return blurred


METHODS: dict[str, Callable[..., Mask]] = {
    "kmeans": kmeans,
    "watershed": watershed,
    "grabcut": grabcut,
    "iem": iem,
    "otsu": otsu,
    "square": square,
    "everything": everything,
}


class _Forms(NamedTuple):
    """A setting that names one of several functions, which have settings of their own."""

    setting: str
    usual: str
    """Its default: the function in ``METHODS``."""
    others: dict[str, Callable[..., Mask]]


FORMS: dict[str, _Forms] = {
    "grabcut": _Forms("start", "rectangle", {"disc": grabcut_from_disc, "square": grabcut_from_square})
}

# The largest value of numbers that may exceed what other shares stay below, 0.5. From 1.42 a disc is everything.
_LARGEST = {("disc", "size"): 1.5}

_DISCS: dict[str, tuple[int | float, ...]] = {"size": (0.5, 0.6, 0.8, 1.0, 1.2)}
_SQUARES: dict[str, tuple[int | float, ...]] = {"size": (1 / 32, 1 / 16, 1 / 8, 1 / 4)}

# Settings to choose from on labelled images (`variants`), each list around what is usual: under a method, with
# settings that stay, every combination of the values below. The ends of the shares are where a method stops to make
# sense at 128 pixels: less than a pixel from the border (of 256, half of that), markers that all but touch. Enlarged
# images take five times as long, so the number of rounds is not tried there.
TRIED: dict[str, dict[str, tuple[int | float, ...]]] = {
    "watershed": {"centre": (0.05, 0.1, 0.125, 0.15, 0.2, 0.3, 0.4), "edge": (0.016, 0.03, 0.06, 0.1)},
    "watershed:edge=0.016": {"centre": (0.45, 0.48)},
    "grabcut": {"inset": (0.01, 0.02, 0.03, 0.05, 0.08, 0.125, 0.18), "rounds": (1, 5, 10, 20)},
    "grabcut:side=256": {"inset": (0.005, 0.01, 0.02, 0.05, 0.08)},
    "grabcut:start=disc": _DISCS | {"rounds": (1, 5, 20)},
    "grabcut:start=disc,side=256": _DISCS,
    "grabcut:start=square": _SQUARES | {"rounds": (1, 5, 20)},
    "grabcut:start=square,side=256": _SQUARES,
    "iem": {"reach": (0.05, 0.065, 0.08, 0.094, 0.1094, 0.14, 0.18), "rounds": (50, 150)},
    "square": {"margin": (0.02, 0.03, 0.05, 0.08, 0.125, 0.15, 0.18, 0.2, 0.25)},
}


def variants(wanted: str) -> list[str]:
    """The method called `wanted` with the settings in ``TRIED``, each once; itself alone if there are none.

    Settings that are given stay: of ``grabcut:start=disc,rounds=5`` sizes and sides are tried, of ``grabcut:inset=0.1``
    what a rectangle has. Raises RedosegError as `method`.
    """
    chosen, given = method(wanted), _given(wanted)
    found: dict[str, str] = {}  # by all settings: a value that is given may make two lines of TRIED the same
    for tried, lists in TRIED.items():
        line, stays = method(tried), _given(tried)
        decided = {*stays, line.choice}
        if line.name != chosen.name or any(
            key not in line.settings or (key in decided and line.settings[key] != chosen.settings[key]) for key in given
        ):
            continue
        free = [[(key, f"{value:g}") for value in values] for key, values in lists.items() if key not in given]
        for values in itertools.product(*free):
            named = {**stays, **dict(values), **given}
            order = [*given, *(key for key in line.settings if key in named and key not in given)]
            name = f"{line.name}:{','.join(f'{key}={named[key]}' for key in order)}" if order else line.name
            found.setdefault(method(name).key, name)
    return list(found.values()) or [wanted]


@dataclass(frozen=True)
class Method:
    """A method with its settings."""

    name: str
    """As in METHODS."""
    settings: dict[str, int | float | str]
    """All of them, those at their defaults included."""
    mask: Callable[[ImageArray], Mask]
    choice: str | None = None
    """The setting that says which others there are, if there is one."""

    @property
    def key(self) -> str:
        """Identifies its masks among those of others. It omits a choice at its default, so that masks on disk from
        before there was a choice stay valid."""
        usual = (self.choice, FORMS[self.name].usual) if self.choice else None
        return f"method {self.name} {VERSION} {sorted(item for item in self.settings.items() if item != usual)}"


def method(wanted: str) -> Method:
    """The method called `wanted`: a name of ``METHODS``, or with settings, as in ``grabcut:start=disc,size=1``.

    Which settings there are may depend on one that is a name (``FORMS``). Shares lie between 0 and 0.5 (the size of a
    disc up to 1.5), whole numbers are at least 1. Raises RedosegError, one line, for anything else.
    """
    name = wanted.partition(":")[0]
    if name not in METHODS:
        hint = did_you_mean(name, METHODS, "Did")
        raise RedosegError(f"Method {name!r} does not exist. {hint}Choose one of {', '.join(METHODS)}.")
    given = _given(wanted)
    function, choice, form = METHODS[name], None, ""
    settings: dict[str, Any] = {}
    if name in FORMS:
        choice, usual, others = FORMS[name]
        form = given.get(choice, usual)
        if form not in (usual, *others):
            names = ", ".join((usual, *others))
            raise RedosegError(f"Method {wanted!r}: {choice} is {form!r}, but must be one of {names}.")
        function = others.get(form, function)
        settings[choice] = form
    parameters = list(inspect.signature(function).parameters.values())[1:]
    numbers: dict[str, Any] = {parameter.name: parameter.default for parameter in parameters}
    for key, value in given.items():
        if key == choice:
            continue
        if key not in numbers:
            there = ", ".join(f"{k}={shown_value(v)}" for k, v in (settings | numbers).items())
            raise RedosegError(f"Method {wanted!r} has no setting {key!r}. Its settings: {there or 'none'}.")
        numbers[key], problem = _number(value, isinstance(numbers[key], int), _LARGEST.get((form, key)))
        if problem:
            raise RedosegError(f"Method {wanted!r}: {key} is {value!r}, but must be {problem}.")
    return Method(name, settings | numbers, functools.partial(function, **numbers), choice)


def shown_value(value: int | float | str) -> str:
    """A setting's value as it is shown to people."""
    return value if isinstance(value, str) else f"{value:.4g}"


def _given(wanted: str) -> dict[str, str]:
    """The settings after the name of a method."""
    _, colon, settings = wanted.partition(":")
    pairs = (part.partition("=") for part in settings.split(",")) if colon else ()
    return {key: value for key, _, value in pairs}


def _number(text: str, whole: bool, largest: float | None) -> tuple[int | float, str]:
    """The number, and what was expected if it is none or out of range."""
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = -1
    if whole:
        return value, "" if value >= 1 else "a whole number from 1"
    if largest is not None:
        return value, "" if 0 < value <= largest else f"a number above 0 and up to {largest:g}"
    return value, "" if 0 < value < 0.5 else "a share between 0 and 0.5"


def mean_mask(labels: NDArray[np.int8]) -> Scores:
    """Scores of the set's own mean mask, cut where that scores best: it uses the truth. Labels (N, H, W)."""
    known = labels >= 0
    mean = (labels > 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return _best([mean >= cut for cut in np.linspace(0, mean.max(), 41)], labels)


def centred_disc(labels: NDArray[np.int8]) -> Scores:
    """Scores of the one centred disc with the best radius: it uses the truth. Labels (N, H, W)."""
    height, width = labels.shape[1:]
    return _best([constant_mask(height, width, "disc", radius) for radius in np.linspace(0.05, 1.45, 29)], labels)


def floors(labels: NDArray[np.int8]) -> dict[str, Scores]:
    """The trivial masks that any model must beat, at their best. Labels (N, H, W)."""
    return {"mean mask": mean_mask(labels), "centred disc": centred_disc(labels)}


def beside(
    images: NDArray[np.uint8], labels: NDArray[np.int8], methods: Sequence[str] = ("kmeans", "grabcut")
) -> dict[str, Scores]:
    """What to print beside a model: two floors, then the chosen methods, on the same images.

    Args:
        images: uint8 (N, H, W, 3), RGB.
        labels: int8 (N, H, W).
        methods: names of ``METHODS``, with settings or without (``method``).

    Raises:
        RedosegError: an unknown method or setting, or OpenCV is missing.
        DataError: shapes that differ, or no labelled image.
    """
    chosen = {name: method(name).mask for name in methods}
    if images.shape != (*labels.shape, 3):
        raise DataError(
            f"Images have shape {images.shape} and labels {labels.shape}. Expected (N, H, W, 3) and (N, H, W). "
            "Resize the labels to the images."
        )
    rows = floors(labels)
    for name, mask in chosen.items():
        rows[name] = score(np.stack([mask(image) for image in images]), labels)
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
