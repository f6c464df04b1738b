"""Redrawing: the generators of a run draw the object of a photograph, or its background, again. No torch.

The generators draw at the side that they were trained at (64 or 128 pixels). A drawing is enlarged and put into the
photograph through the soft mask, at the photograph's own size, but at most 1,024 pixels on its longer side: there is
no more in it. After a second stage the masks are those of an extractor that the generators were not trained with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.errors import DataError, ModelError, RedosegError
from redoseg.images.photo import Photo
from redoseg.inference.given import ImageLike, as_photo, as_whole
from redoseg.inference.hub import HUB
from redoseg.inference.model_cost import BATCH
from redoseg.inference.model_file import Network, expanded, fetched, find_model, weights
from redoseg.inference.segmenter import Edges, Segmenter
from redoseg.run_folder import CONFIG_FILE, MODEL_FILE, REDRAW_FILE

LARGEST = 1024  # longer side of a result [pixels]
MOST = 64  # drawings at a time
STEPS = 10  # frames of an animation from one latent to the next
_VALUES = {"picture": 4, "masks": 4, "latents": 3, "read": 2, "drawings": 5, "latents_used": 3}

What = Literal["object", "background", "both"]
WHATS: tuple[What, ...] = ("object", "background", "both")
Latents = NDArray[np.float32]


def can_redraw(model: str | Path) -> bool:
    """Whether a model, named as for `RedrawModel`, has a redraw.onnx. False too where there is no model."""
    if str(model).startswith(HUB):
        try:
            fetched(model, (CONFIG_FILE, MODEL_FILE, REDRAW_FILE))
        except ModelError:
            return False
        return True
    path = expanded(model)
    return (path / REDRAW_FILE).is_file() if path.exists() else str(model) in weights(REDRAW_FILE)


@dataclass(frozen=True)
class _Scene:
    """A photograph as results show it, (W, H), and as the generators see it, S pixels a side."""

    photo: Image.Image
    seen: NDArray[np.float32]
    """(3, S, S)"""
    masks: NDArray[np.float32]
    """(n, S, S)"""
    soft: NDArray[np.float32]
    """(n, H, W)"""


@dataclass(frozen=True)
class Reduced:
    """Images as the generators see them, S pixels a side."""

    seen: NDArray[np.float32]
    """(N, 3, S, S)"""
    masks: NDArray[np.float32]
    """(N, n, S, S)"""


class RedrawModel:
    """Draws the object or the background of photographs again.

    Args:
        model: a run folder or model folder (with `mask.onnx` and `redraw.onnx` in it), the name of weights that come
            with the package, or `hf://user/name`.
        threads, edges, trust: as `Segmenter`'s.

    Raises ModelError if there is no model, or one that does not draw.
    """

    segmenter: Segmenter
    latent: int
    """Length d of a region's latent [numbers]."""

    def __init__(
        self,
        model: str | Path,
        threads: int | None = None,
        edges: Edges = "guided",
        *,
        trust: bool = False,
    ) -> None:
        model = fetched(model, (CONFIG_FILE, MODEL_FILE, REDRAW_FILE))
        found = find_model(model, REDRAW_FILE)  # first: an error then names what this class accepts
        self.segmenter = ours = Segmenter(model, threads, edges, trust=trust)
        self._network = Network(found, _VALUES, trust)
        of_one = (self._network.regions, self._network.value_range) == (ours.regions, ours.value_range)
        if not of_one or ours.size % self._network.size:  # masks of a second stage may be finer than drawings
            raise ModelError(
                f"{found.where} and the {MODEL_FILE} beside it are of two different models: export them again"
            )
        self.latent, self._size = self._network.latent, self._network.size
        # a third stage has the object first, wherever the masks have it
        self._turned = self._network.object_region != ours.object_region

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        threads: int | None = None,
    ) -> RedrawModel:
        """A model from Hugging Face's hub, `user/name`, as in `Segmenter.from_pretrained`; redraw.onnx comes too."""
        from redoseg.inference.hub import local_or_fetched

        files = (CONFIG_FILE, MODEL_FILE, REDRAW_FILE)
        return cls(local_or_fetched(model, files, revision, token, cache_dir), threads)

    @property
    def size(self) -> int:
        """Side of a drawing before it is enlarged [pixels]."""
        return self._size

    @property
    def regions(self) -> int:
        """Number n of regions."""
        return self.segmenter.regions

    def random_latents(self, count: int, seed: int = 0) -> Latents:
        """`count` draws from N(0, 1), as in training: (count, n, d). The first of them do not depend on `count`.

        Raises RedosegError for fewer than 1, and for a value of another type.
        """
        count, seed = as_whole("number of drawings", count), as_whole("seed", seed)
        check_count(count, most=count)
        if seed < 0:
            raise RedosegError(f"the seed is {seed}, but must be 0 or more: choose another number")
        shape = (count, self.regions, self.latent)
        return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)

    def read_latents(self, image: ImageLike) -> Latents:
        """The latents (n, d) that the encoder reads off an image, one a region."""
        return self.latents_of(self.reduced([as_photo(image)]))[0]

    def draw(self, image: ImageLike, latents: Latents, what: What = "object") -> list[Image.Image]:
        """The image with regions drawn from `latents` (m, n, d): m images, RGB, at most LARGEST pixels a side.

        `what` is drawn: the object, everything else (background), or both. The rest is not changed. Raises DataError
        for an image that cannot be read or latents of another shape, RedosegError for another `what`.
        """
        return self._draw(self._scene(as_photo(image)), latents, what)

    def redraw(self, image: ImageLike, count: int = 8, what: What = "object", seed: int = 0) -> list[Image.Image]:
        """`count` images with different latents, RGB. Raises DataError as `draw`, RedosegError for a wrong `count`."""
        return self.draw(image, self.random_latents(count, seed), what)

    def interpolate(
        self, image: ImageLike, start: Latents, end: Latents, count: int = 8, what: What = "object"
    ) -> list[Image.Image]:
        """`count` images on the way from latents `start` (n, d) to `end` (n, d), both among them."""
        count = as_whole("number of drawings", count)
        check_count(count, most=count)
        return self.draw(image, between(start, end, np.linspace(0, 1, count)), what)

    def transfer(self, image: ImageLike, like: ImageLike, what: What = "object") -> Image.Image:
        """The photograph with the texture of `like`: drawn from the latents that the encoder reads off `like`."""
        return self.draw(image, self.read_latents(like)[None], what)[0]

    def reduced(self, images: Sequence[Image.Image | Photo]) -> Reduced:
        """RGB images or photographs of any size as the generators see them."""
        masks, finer = self.segmenter.masks(images), self.segmenter.size // self._size
        masks = masks.reshape(len(images), self.regions, self._size, finer, self._size, finer).mean((3, 5))
        return Reduced(self.segmenter.network_input(images, self._size), masks)

    def object_redrawn(self, images: Reduced, latents: Latents) -> Reduced:
        """The same images, each with its object drawn from its `latents` (N, n, d)."""
        own, result = self.segmenter.object_region, images.seen.copy()
        for i, (seen, masks) in enumerate(zip(images.seen, images.masks, strict=True)):
            drawing = self._run(seen, masks, latents[i : i + 1])[0][0, own]
            result[i] += masks[own] * (drawing - seen)
        return Reduced(result, images.masks)

    def latents_of(self, images: Reduced) -> Latents:
        """The latents (N, n, d) that the encoder reads off images."""
        none = np.zeros((1, self.regions, self.latent), np.float32)
        pairs = zip(images.seen, images.masks, strict=True)
        return np.concatenate([self._run(seen, masks, none, read=True)[1] for seen, masks in pairs])

    def pixels(self, images: Reduced) -> NDArray[np.uint8]:
        """The images as bytes (N, S, S, 3)."""
        factor, offset = self.segmenter.value_range
        values: NDArray[np.uint8] = ((images.seen - offset) / factor).round().clip(0, 255).astype(np.uint8)
        return values.transpose(0, 2, 3, 1)

    def _scene(self, image: Photo) -> _Scene:
        reduced, photo = self.reduced([image]), at_most(image, LARGEST)
        return _Scene(photo, reduced.seen[0], reduced.masks[0], self.segmenter.batch(np.asarray(photo)[None])[0])

    def _run(
        self, seen: NDArray[np.float32], masks: NDArray[np.float32], latents: Latents, read: bool = False
    ) -> list[NDArray[np.float32]]:
        """Drawings (m, n, 3, S, S) and the latents (m, n, d) they were made from, of one image and its masks."""
        count = len(latents)
        if self._turned:
            masks, latents = masks[::-1], latents[:, ::-1]
        inputs = {
            "picture": np.repeat(seen[None], count, 0),
            "masks": np.repeat(masks[None], count, 0),
            "latents": np.ascontiguousarray(latents, np.float32),
            "read": np.full((count, self.regions), float(read), np.float32),
        }
        found = self._network.run(["drawings", "latents_used"], inputs)
        return [values[:, ::-1] for values in found] if self._turned else found

    def _draw(self, scene: _Scene, latents: Latents, what: What) -> list[Image.Image]:
        latents = _as_latents(latents)
        if latents.shape[1:] != (self.regions, self.latent):
            raise DataError(
                f"the latents have the shape {latents.shape}, but need (any number, {self.regions}, {self.latent}): "
                "take them from random_latents or read_latents"
            )
        if what not in WHATS:
            raise RedosegError(f"{what!r} cannot be drawn: choose one of {', '.join(WHATS)}")
        own = self.segmenter.object_region
        regions = {"object": [own], "background": [k for k in range(self.regions) if k != own]}
        drawn = regions.get(what, list(range(self.regions)))
        factor, offset = self.segmenter.value_range
        kept = (1 - scene.soft[drawn].sum(0)).clip(0, 1)[..., None] * np.asarray(scene.photo, np.float32)
        results = []
        for start in range(0, len(latents), BATCH):
            for drawings in self._run(scene.seen, scene.masks, latents[start : start + BATCH])[0]:
                pixels = kept.copy()
                for region in drawn:
                    small = ((drawings[region].transpose(1, 2, 0) - offset) / factor).round().clip(0, 255)
                    large = Image.fromarray(small.astype(np.uint8)).resize(scene.photo.size, Image.Resampling.BICUBIC)
                    pixels += scene.soft[region][..., None] * np.asarray(large, np.float32)
                results.append(Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)))
        return results


def _as_latents(given: object) -> Latents:
    """Latents as an array of any shape. Raises DataError for other values."""
    try:
        found = np.asarray(given)
        if found.dtype.kind not in "fiuO":
            raise TypeError
        found = found.astype(np.float32)
    except (TypeError, ValueError):
        raise DataError("the latents are not numbers: take them from random_latents or read_latents") from None
    if not np.isfinite(found).all():
        raise DataError("some of the latents are not finite: take them from random_latents or read_latents")
    return found


def between(start: Latents, end: Latents, shares: Sequence[float] | NDArray[np.floating]) -> Latents:
    """Latents (len(shares), n, d) at these shares of the way from `start` (n, d) to `end` (n, d), each region's apart.

    The way turns the direction and changes the length evenly. On a straight line the middle of two draws from N(0, 1)
    would be shorter than any that the generators were trained on, and drawings there paler than at both ends. Raises
    DataError for other values or shapes.
    """
    share = np.asarray(shares, np.float64)[:, None, None]
    a, b = (_as_latents(ends).astype(np.float64) for ends in (start, end))
    if a.ndim != 2 or a.shape != b.shape:
        raise DataError(
            f"the latents have the shapes {a.shape} and {b.shape}, but need one (n, d): take them from read_latents"
        )
    long_a, long_b = (np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
    unit_a, unit_b = a / np.maximum(long_a, 1e-12), b / np.maximum(long_b, 1e-12)
    angle = np.arccos((unit_a * unit_b).sum(-1, keepdims=True).clip(-1, 1))
    sine = np.sin(angle)
    turned = (np.sin((1 - share) * angle) * unit_a + np.sin(share * angle) * unit_b) / np.maximum(sine, 1e-12)
    straight = (1 - share) * a + share * b
    turns = (sine > 1e-3) & (long_a > 0) & (long_b > 0)  # else there is no nearer way round, or no direction at all
    way = np.where(turns, turned * ((1 - share) * long_a + share * long_b), straight)
    return way.astype(np.float32)


def around(latents: Latents, steps: int = STEPS) -> Latents:
    """Latents (m * steps, n, d) that go through all of `latents` (m, n, d) and back to the first, slower near each."""
    shares = np.arange(steps) / steps
    eased = shares * shares * (3 - 2 * shares)
    return np.concatenate([between(a, b, eased) for a, b in zip(latents, np.roll(latents, -1, 0), strict=True)])


def check_count(count: int, most: int = MOST) -> None:
    """Raises RedosegError for a number of drawings below 1 or above `most`."""
    if not 1 <= count <= most:
        raise RedosegError(
            f"the number of drawings is {count}, but must be from 1 to {max(most, MOST)}: choose another number"
        )


def at_most(photo: Photo, longest: int) -> Image.Image:
    """The photograph in sRGB, reduced to at most `longest` pixels on its longer side."""
    width, height = photo.size
    scale = longest / max(width, height)
    if scale >= 1:
        return photo.rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return photo.resized(size, resample=Image.Resampling.LANCZOS)
