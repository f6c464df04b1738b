"""A trained mask extractor on images of any size. The command line, the library and the page go through it."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, get_args, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.errors import DataError, ModelError
from redoseg.images.clean import Cleaning
from redoseg.images.guided import bilinear_mask, grabcut_mask, guided_mask
from redoseg.images.photo import Photo, SoftMask, parts
from redoseg.inference.devices import Device
from redoseg.inference.given import ImageLike, as_photo, as_whole
from redoseg.inference.hub import local_or_fetched
from redoseg.inference.model_cost import BATCH
from redoseg.inference.model_file import ModelFile, Network, find_model
from redoseg.inference.object_mask import CLEANING, HALF, check_threshold, cleaned, object_of
from redoseg.inference.tiles import LEAST_SIDE, tiled_mask
from redoseg.run_folder import CONFIG_FILE, MODEL_FILE
from redoseg.system import cores, in_order, opencv

_HUGE = 2**26  # pixels; the soft mask of a larger image is exact to 0.00001, and takes less memory on its way

Edges = Literal["guided", "plain", "grabcut"]


class Prediction(NamedTuple):
    """What the network finds in an image."""

    soft: NDArray[np.float32]
    """The object's soft mask (H, W), 0 to 1, at the image's own size."""
    confidence: float
    """How decided the network is, 0 to 1: 1 minus the mean entropy of its mask's pixels in bits."""
    note: str = ""
    """What to know of the file, after its name, as "ends early; pixels of its last 9 rows are missing"; else empty."""


@dataclass(frozen=True)
class Seen:
    """What the network sees of a photograph, and what it finds there."""

    reduced: NDArray[np.uint8]
    """The photograph squeezed to the network's square (S, S, 3)."""
    mask: NDArray[np.float32]
    """The soft mask of the object (S, S)."""
    confidence: float


class Origin(NamedTuple):
    """What makes the same segmenter again, on another machine."""

    model: ModelFile
    edges: Edges
    trust: bool
    device: Device
    tiles: int = 0


class Segmenter:
    """Cuts the object out of photographs.

    Args:
        model: a run folder or model folder (with `mask.onnx` in it), an ONNX file, the name of weights that come with
            the package, `hf://user/name`, a model folder on Hugging Face's hub, or a file from `find_model`.
        threads: CPU threads, each with its own images; as many as this process may use if None.
        edges: how masks get from the network's size to the image's, unless a call asks for another way: "guided" by
            the image (`redoseg.images.guided`), "plain", bilinear, or "grabcut", by the colours of both regions,
            slower.
        trust: take a model file with operators that redoseg does not write. Such a file can use any memory and time.
        device: where the network is computed: "cpu", "cuda", "coreml", "directml" or "openvino".
        tiles: side of the tiles in which the network sees a picture that is larger, one by one [pixels]; 0 shows it
            whole pictures.

    Raises:
        ModelError: there is no mask extractor there, or one that is not trusted; grabcut with more than two regions.
        MissingError: grabcut without OpenCV; a device that ONNX Runtime does not have or cannot start.
    """

    name: str
    size: int
    """Side of the image that the network sees [pixels]."""
    regions: int
    object_region: int
    """Which region is the object."""
    value_range: tuple[float, float]
    """Factor and offset that bring a byte into the range that the network sees."""
    threads: int
    """How many images are worked on at a time."""
    identity: str
    """The model and the edges, as a text that another model or other edges do not have."""
    edges: Edges
    origin: Origin

    def __init__(
        self,
        model: str | Path | ModelFile,
        threads: int | None = None,
        edges: Edges = "guided",
        *,
        trust: bool = False,
        device: Device = "cpu",
        tiles: int = 0,
    ) -> None:
        threads = None if threads is None else as_whole("number of threads", threads)
        tiles = as_whole("side of tiles", tiles)
        if threads is not None and threads < 1:
            raise ModelError(f"the number of threads is {threads}, but must be 1 or more: choose another number")
        check_edges(edges)
        if tiles and tiles < LEAST_SIDE:
            raise DataError(
                f"the side of tiles is {tiles}, but must be {LEAST_SIDE} pixels or more; choose a larger one"
            )
        found = model if isinstance(model, ModelFile) else find_model(model)
        self._network = network = Network(found, {"picture": 4, "masks": 4}, trust, device)
        self.name, self.size, self.value_range = network.name, network.size, network.value_range
        self.regions, self.object_region = network.regions, network.object_region
        self.threads = threads or cores()
        self.edges = self._usable(edges)
        self.tiles = tiles
        self.origin = Origin(found, self.edges, trust, device, tiles)
        self._hash = hashlib.blake2b(found.content, digest_size=16).hexdigest()
        self.identity = self._identified()

    def _identified(self) -> str:
        return f"{self._hash} {self.edges}" + (f" {self.tiles}" if self.tiles else "")

    def with_edges(self, edges: Edges) -> Segmenter:
        """The same network with other edges. Raises ModelError or MissingError as the class does."""
        other = copy.copy(self)
        other.edges = self._usable(edges)
        other.origin = self.origin._replace(edges=edges)
        other.identity = other._identified()
        return other

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        threads: int | None = None,
        edges: Edges = "guided",
        device: Device = "cpu",
    ) -> Segmenter:
        """A model from Hugging Face's hub, `user/name`; or any model that `Segmenter` takes.

        A local folder of that name is used first. Only mask.onnx and config.json are fetched, into the hub's cache,
        from which they are read without a network too. `revision` is a branch, tag or commit, `token` that of a
        private model where none is stored. Raises ModelError if there is no such model, MissingError without
        huggingface_hub.
        """
        return cls(
            local_or_fetched(model, (CONFIG_FILE, MODEL_FILE), revision, token, cache_dir),
            threads,
            edges,
            device=device,
        )

    def batch(self, images: NDArray[np.uint8], edges: Edges | None = None) -> NDArray[np.float32]:
        """Soft masks (N, n, H, W) of images uint8 (N, H, W, 3), at the images' own size.

        Raises DataError for an array of another type or shape, ModelError for edges that are not known.
        """
        if not isinstance(images, np.ndarray) or images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            seen = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
            raise DataError(f"the images are {seen}, but must be uint8 (N, H, W, 3): pass RGB images of one size")
        way = self._usable(edges)
        height, width = images.shape[1:3]
        soft = np.empty((len(images), self.regions, height, width), np.float32)

        def fill(start: int) -> None:
            some = [Image.fromarray(image) for image in images[start : start + BATCH]]
            reduced = self._reduced(some)
            for i, masks in enumerate(self._run(reduced)):
                if way == "grabcut":  # of two regions, the other is the rest
                    of_object = _upsampled(masks[self.object_region], reduced[i], Photo(some[i]), way).whole()
                    soft[start + i, self.object_region] = of_object
                    soft[start + i, 1 - self.object_region] = 1 - of_object
                else:
                    for region, mask in enumerate(masks):
                        soft[start + i, region] = _upsampled(mask, reduced[i], Photo(some[i]), way).whole()

        with contextlib.closing(in_order(fill, range(0, len(images), BATCH), self.threads)) as filled:
            for _ in filled:
                pass
        return soft

    def _reduced(self, images: Sequence[Image.Image | Photo], size: int = 0) -> NDArray[np.uint8]:
        """Images squeezed whole to the network's square, (N, S, S, 3): nothing of them is cut off."""
        square = (size or self.size, size or self.size)

        def squeezed(image: Image.Image | Photo) -> Image.Image:
            if isinstance(image, Photo):  # part by part where it is large
                return image.resized(square)
            if image.size == square:
                return image
            return image.resize(square, Image.Resampling.BILINEAR, reducing_gap=3.0)

        return np.stack([np.asarray(squeezed(image)) for image in images])

    def network_input(self, images: Sequence[Image.Image | Photo], size: int = 0) -> NDArray[np.float32]:
        """What the network sees of RGB images or photographs of any size: (N, 3, S, S).

        S is `size`, or its own where that is 0.
        """
        return self._values(self._reduced(images, size))

    def masks(self, images: Sequence[Image.Image | Photo]) -> NDArray[np.float32]:
        """Soft masks (N, n, S, S) of RGB images or photographs of any size, as the network gives them."""
        return self._run(self._reduced(images))

    def _seen(self, photos: Sequence[Photo]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """What the network sees of photographs (N, S, S, 3), and the soft masks of their object (N, S, S)."""
        reduced = self._reduced(photos)
        return reduced, self._run(reduced)[:, self.object_region]

    def _values(self, reduced: NDArray[np.uint8]) -> NDArray[np.float32]:
        factor, offset = self.value_range
        planes = reduced.transpose(0, 3, 1, 2).astype(np.float32)
        return np.ascontiguousarray(planes * np.float32(factor) + np.float32(offset))

    def _run(self, reduced: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Soft masks (N, n, S, S) of images of the network's size."""
        return self._network.run(["masks"], {"picture": self._values(reduced)})[0]

    def _usable(self, edges: Edges | None) -> Edges:
        """The edges to use where a call asks for `edges`. Raises ModelError or MissingError if this model cannot."""
        if edges is None:
            return self.edges
        check_edges(edges)
        if edges == "grabcut":
            opencv()  # what is missing is reported before the work
            if self.regions > 2:
                raise ModelError(
                    f"model {self.name} has {self.regions} regions, but grabcut edges need two: choose guided edges"
                )
        return edges

    @overload
    def predict(self, image: ImageLike, edges: Edges | None = None) -> Prediction: ...
    @overload
    def predict(self, image: list[ImageLike], edges: Edges | None = None) -> list[Prediction]: ...
    def predict(self, image: ImageLike | list[ImageLike], edges: Edges | None = None) -> Prediction | list[Prediction]:
        """The object's soft mask at the image's own size, and how sure the network is of it.

        Where the image is transparent the mask is at most as opaque.

        Args:
            image: a picture file (its path, what it contains as bytes, or the open file), which is turned upright as
                its EXIF says; a PIL image, which is not turned; or an array or tensor (H, W), (H, W, 3), (H, W, 4) or
                with its channels first, uint8, or floats from 0 to 1. Colours are red, green, blue: OpenCV's arrays
                are the other way round (`image[..., ::-1]`). A list of these gives a list.
            edges: "guided", "plain" or "grabcut"; those of this segmenter if None.

        Raises DataError for an image that cannot be read, ModelError for edges that are not known or not for this
            model, MissingError for grabcut without OpenCV.
        """
        way = self._usable(edges)
        if isinstance(image, (list, tuple)) and not isinstance(image, Photo):
            with contextlib.closing(in_order(lambda one: self._predict(one, way), image, self.threads)) as found:
                return list(found)
        return self._predict(image, way)

    def _predict(self, image: ImageLike, way: Edges) -> Prediction:
        photo = as_photo(image)
        note = photo.note
        found, confidence = self.soft_mask(photo, way)
        if photo.pixels <= _HUGE:
            soft = found.whole()
            if photo.transparent:
                for part in parts(photo.size):
                    left, top, right, bottom = part
                    soft[top:bottom, left:right] = photo.within(soft[top:bottom, left:right], part)
            return Prediction(soft, confidence, note)
        # beside the photograph only two bytes a pixel; four when it has gone
        steps = np.empty(photo.size[::-1], np.uint16)
        for part in parts(photo.size):
            left, top, right, bottom = part
            steps[top:bottom, left:right] = np.rint(photo.within(found.part(part), part) * 65535)
        del photo, found
        return Prediction(np.multiply(steps, np.float32(1 / 65535), dtype=np.float32), confidence, note)

    def soft_mask(self, photo: Photo, edges: Edges | None = None) -> tuple[SoftMask, float]:
        """The object's soft mask, made part by part, and the confidence. It does not look at what is transparent.

        Errors are as in `predict`.
        """
        way = self._usable(edges)
        if self.tiles and max(photo.size) > self.tiles:
            return tiled_mask(photo, self.tiles, self._seen, partial(_upsampled, edges=way), _confidence)
        seen = self.look_at(photo)
        return self.enlarged(seen, photo, way), seen.confidence

    def look_at(self, photo: Photo) -> Seen:
        """The first half of `soft_mask`: what the network finds in a photograph, at its own size. No tiles."""
        reduced = np.asarray(photo.resized((self.size, self.size)))
        mask = self._run(reduced[None])[0, self.object_region]
        return Seen(reduced, mask, _confidence(mask))

    def enlarged(self, seen: Seen, photo: Photo, edges: Edges | None = None) -> SoftMask:
        """The second half of `soft_mask`: the mask at its photograph's size. Errors are as in `predict`."""
        return _upsampled(seen.mask, seen.reduced, photo, self._usable(edges))

    @overload
    def soft(self, image: ImageLike, edges: Edges | None = None) -> NDArray[np.float32]: ...
    @overload
    def soft(self, image: list[ImageLike], edges: Edges | None = None) -> list[NDArray[np.float32]]: ...
    def soft(
        self, image: ImageLike | list[ImageLike], edges: Edges | None = None
    ) -> NDArray[np.float32] | list[NDArray[np.float32]]:
        """The object's soft mask (H, W), 0 to 1, at the image's own size; arguments and errors as in `predict`."""
        found = self.predict(image, edges)
        return [one.soft for one in found] if isinstance(found, list) else found.soft

    predict_proba = soft
    """The same under scikit-learn's name: for each pixel the probability of the object alone, (H, W)."""

    @overload
    def __call__(
        self,
        image: ImageLike,
        edges: Edges | None = None,
        *,
        threshold: float = HALF,
        cleaning: Cleaning | None = CLEANING,
    ) -> NDArray[np.bool_]: ...
    @overload
    def __call__(
        self,
        image: list[ImageLike],
        edges: Edges | None = None,
        *,
        threshold: float = HALF,
        cleaning: Cleaning | None = CLEANING,
    ) -> list[NDArray[np.bool_]]: ...
    def __call__(
        self,
        image: ImageLike | list[ImageLike],
        edges: Edges | None = None,
        *,
        threshold: float = HALF,
        cleaning: Cleaning | None = CLEANING,
    ) -> NDArray[np.bool_] | list[NDArray[np.bool_]]:
        """The object's mask (H, W) at the image's own size: where the soft mask is above the threshold, 0 to 1.

        Small parts and holes are then cleaned from it, but not with plain edges or where `cleaning` is None.
        """
        check_threshold(threshold)
        way, least = self._usable(edges), float(threshold)

        def object_in(one: ImageLike) -> NDArray[np.bool_]:
            photo = as_photo(one)
            soft = self.soft_mask(photo, way)[0]
            return object_of(photo, cleaned(photo, soft, least, cleaning_for(way, cleaning)), least)

        if isinstance(image, (list, tuple)) and not isinstance(image, Photo):
            with contextlib.closing(in_order(object_in, image, self.threads)) as found:
                return list(found)
        return object_in(image)


def cleaning_for(edges: Edges, cleaning: Cleaning | None) -> Cleaning | None:
    """What is cleaned from masks with these edges: nothing with plain ones, which are the network's own.

    Raises DataError for a value of another type.
    """
    if cleaning is not None and not isinstance(cleaning, Cleaning):
        raise DataError(f"the cleaning is {cleaning!r}, but must be a Cleaning, or None for none; choose one of these")
    return None if edges == "plain" else cleaning


def check_edges(edges: str) -> None:
    """Raises ModelError for edges that are not known."""
    if edges not in get_args(Edges):
        raise ModelError(f"edges {edges!r} are not known: choose one of {', '.join(get_args(Edges))}")


def _upsampled(mask: NDArray[np.float32], reduced: NDArray[np.uint8], photo: Photo, edges: Edges) -> SoftMask:
    """A network's mask (S, S) at the size of its photograph; `reduced` (S, S, 3) is what the network saw."""
    match edges:
        case "plain":
            return bilinear_mask(mask, photo.size)
        case "grabcut":
            return grabcut_mask(mask, reduced, photo)
        case _:
            return guided_mask(mask, reduced, photo)


def _confidence(mask: NDArray[np.float32]) -> float:
    """1 minus the mean entropy of a soft mask's pixels [bits]: 1 where it is all 0 and 1, 0 where all is 0.5."""
    p = mask.astype(np.float64).clip(1e-6, 1 - 1e-6)
    return float(1 + (p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean())
