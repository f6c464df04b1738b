"""Redrawing: the object of a photograph, or its background, drawn anew by the generators of a run. No torch.

The generators draw at the side that they were trained at (64 or 128 pixels). A drawing is enlarged and put into the
photograph through the soft mask, at the photograph's own size, but at most 1,024 pixels on its longer side: there is
no more in it. After a second stage the masks are those of an extractor that the generators were not trained with.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.errors import DataError, MissingError, ModelError, RedosegError
from redoseg.files import make_folder, printable, why_not_write, write_atomic
from redoseg.images.draw import grid, outline
from redoseg.images.read import IMAGE_SUFFIXES, read_image
from redoseg.inference.model_file import ModelFile, Network, expanded, fetched, find_model
from redoseg.inference.segmenter import Edges, ImageLike, Segmenter, to_image
from redoseg.run_folder import CONFIG_FILE, MODEL_FILE, REDRAW_FILE, STATE_FILE

LARGEST = 1024  # longer side of a result [pixels]
GIF_LARGEST = 360  # the same of an animation, every frame of which is stored
TILE = 256  # longer side of a picture on the sheet [pixels]
MOST = 64  # drawings at a time
STEPS = 10  # frames of an animation from one latent to the next
FRAME_MS = 70
_BATCH = 8  # drawings in one pass of the network
_DOTS = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) - 8  # Bayer's, in grey levels
_VALUES = {"picture": 4, "masks": 4, "latents": 3, "read": 2, "drawings": 5, "latents_used": 3}

What = Literal["object", "background", "both"]
WHATS: tuple[What, ...] = ("object", "background", "both")
Latents = NDArray[np.float32]


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


class RedrawModel:
    """Draws the object or the background of photographs anew.

    Args:
        model: a run folder or model folder (with `mask.onnx` and `redraw.onnx` in it), the name of weights that come
            with the package, or `hf://user/name`. Where a run folder is older than redraw.onnx it is made, which needs
            the part `train` of redoseg.
        threads, edges: as `Segmenter`'s.
        say: called with a line where something takes a while.

    Raises:
        ModelError: nothing there, or not a model that draws.
        MissingError: redraw.onnx is to be made, and PyTorch is not there.
    """

    segmenter: Segmenter
    latent: int
    """Length d of a region's latent [numbers]."""

    def __init__(
        self,
        model: str | Path,
        threads: int | None = None,
        say: Callable[[str], None] | None = None,
        edges: Edges = "guided",
    ) -> None:
        model = fetched(model, (CONFIG_FILE, MODEL_FILE, REDRAW_FILE))
        with contextlib.ExitStack() as stack:
            path = expanded(model)
            if (path / STATE_FILE).is_file() and not (path / MODEL_FILE).is_file():  # killed before it wrote one
                temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                model = _exported(path, temporary / path.resolve().name, say)
            found = _found_or_made(model, say)
            self.segmenter = Segmenter(model, threads, edges)
        self._network, ours = Network(found, _VALUES), self.segmenter
        of_one = (self._network.regions, self._network.value_range) == (ours.regions, ours.value_range)
        if not of_one or ours.size % self._network.size:  # masks of a second stage may be finer than drawings
            raise ModelError(
                f"{found.where} and the {MODEL_FILE} beside it are of two different models: export them again"
            )
        self.latent, self._size = self._network.latent, self._network.size

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
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
    def regions(self) -> int:
        """Number n of regions."""
        return self.segmenter.regions

    def random_latents(self, count: int, seed: int = 0) -> Latents:
        """`count` draws from N(0, 1), as in training: (count, n, d). The first of them do not depend on `count`.

        Raises RedosegError for fewer than 1.
        """
        _check_count(count, most=count)
        if seed < 0:
            raise RedosegError(f"seed {seed} seen, 0 or more expected: choose another")
        shape = (count, self.regions, self.latent)
        return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)

    def read_latents(self, image: ImageLike) -> Latents:
        """The latents (n, d) that the encoder reads off a photograph, one a region."""
        scene = self._scene(to_image(image))
        return self._run(scene, np.zeros((1, self.regions, self.latent), np.float32), read=True)[1][0]

    def draw(self, image: ImageLike, latents: Latents, what: What = "object") -> list[Image.Image]:
        """The photograph with regions drawn from `latents` (m, n, d): m pictures, RGB.

        `what` is drawn anew: the object, all else (background), or both. The rest stays as it is.
        """
        return self._draw(self._scene(to_image(image)), latents, what)

    def redraw(self, image: ImageLike, count: int = 8, what: What = "object", seed: int = 0) -> list[Image.Image]:
        """`count` pictures with other latents, RGB. Raises DataError as `draw`, RedosegError for a wrong `count`."""
        return self.draw(image, self.random_latents(count, seed), what)

    def interpolate(
        self, image: ImageLike, start: Latents, end: Latents, count: int = 8, what: What = "object"
    ) -> list[Image.Image]:
        """`count` pictures on the way from latents `start` (n, d) to `end` (n, d), both among them."""
        _check_count(count, most=count)
        return self.draw(image, between(start, end, np.linspace(0, 1, count)), what)

    def transfer(self, image: ImageLike, like: ImageLike, what: What = "object") -> Image.Image:
        """The photograph with the texture of `like`: drawn from the latents that the encoder reads off `like`."""
        return self.draw(image, self.read_latents(like)[None], what)[0]

    def _scene(self, image: Image.Image) -> _Scene:
        seen, masks = self.segmenter.network_input([image], self._size)[0], self.segmenter.masks([image])[0]
        finer = self.segmenter.size // self._size
        masks = masks.reshape(self.regions, self._size, finer, self._size, finer).mean((2, 4))
        photo = _at_most(image, LARGEST)
        return _Scene(photo, seen, masks, self.segmenter.batch(np.asarray(photo)[None])[0])

    def _run(self, scene: _Scene, latents: Latents, read: bool = False) -> list[NDArray[np.float32]]:
        """Drawings (m, n, 3, S, S) and the latents (m, n, d) they were made from."""
        count = len(latents)
        inputs = {
            "picture": np.repeat(scene.seen[None], count, 0),
            "masks": np.repeat(scene.masks[None], count, 0),
            "latents": np.ascontiguousarray(latents, np.float32),
            "read": np.full((count, self.regions), float(read), np.float32),
        }
        return self._network.run(["drawings", "latents_used"], inputs)

    def _draw(self, scene: _Scene, latents: Latents, what: What) -> list[Image.Image]:
        latents = np.asarray(latents, np.float32)
        if latents.shape[1:] != (self.regions, self.latent):
            raise DataError(
                f"latents {latents.shape} seen, (any number, {self.regions}, {self.latent}) expected: "
                "take them from random_latents or read_latents"
            )
        if what not in WHATS:
            raise RedosegError(f"what to draw is {what!r}, one of these expected: {', '.join(WHATS)}")
        own = self.segmenter.object_region
        regions = {"object": [own], "background": [k for k in range(self.regions) if k != own]}
        drawn = regions.get(what, list(range(self.regions)))
        factor, offset = self.segmenter.value_range
        kept = (1 - scene.soft[drawn].sum(0)).clip(0, 1)[..., None] * np.asarray(scene.photo, np.float32)
        results = []
        for start in range(0, len(latents), _BATCH):
            for drawings in self._run(scene, latents[start : start + _BATCH])[0]:
                pixels = kept.copy()
                for region in drawn:
                    small = ((drawings[region].transpose(1, 2, 0) - offset) / factor).round().clip(0, 255)
                    large = Image.fromarray(small.astype(np.uint8)).resize(scene.photo.size, Image.Resampling.BICUBIC)
                    pixels += scene.soft[region][..., None] * np.asarray(large, np.float32)
                results.append(Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)))
        return results


def _found_or_made(model: str | Path, say: Callable[[str], None] | None) -> ModelFile:
    """Where redraw.onnx is, and its content; made from the state of a run that has none."""
    path = expanded(model)
    if (path / REDRAW_FILE).is_file() or not (path / STATE_FILE).is_file():
        return find_model(model, REDRAW_FILE)
    if say is not None:
        say(f"making {REDRAW_FILE}")
    with _training_part():
        from redoseg.sharing.model_folder import make_redraw
    return ModelFile(printable(path / REDRAW_FILE), make_redraw(path))


def _exported(run: Path, out: Path, say: Callable[[str], None] | None) -> Path:
    """The model folder `out` of a run that has no mask.onnx."""
    if say is not None:
        say(f"making {MODEL_FILE} and {REDRAW_FILE}")
    with _training_part():
        from redoseg.sharing.model_folder import export_run
    export_run(run, out)
    return out


@contextlib.contextmanager
def _training_part() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingError(
            f"{error.name} is not installed, the part `train` of redoseg expected, to make {REDRAW_FILE} of this run: "
            'pip install "redoseg[train]"'
        ) from None


def between(start: Latents, end: Latents, shares: Sequence[float] | NDArray[np.floating]) -> Latents:
    """Latents (len(shares), n, d) at these shares of the way from `start` (n, d) to `end` (n, d), each region's apart.

    The way turns the direction and changes the length evenly. On a straight line the middle of two draws from N(0, 1)
    would be shorter than any that the generators were trained on, and drawings there paler than at both ends.
    """
    share = np.asarray(shares, np.float64)[:, None, None]
    a, b = start.astype(np.float64), end.astype(np.float64)
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


# -------------------------------------------------------------------------------------------------- files


def redraw_photo(
    model: RedrawModel,
    photo: str | Path,
    out: str | Path,
    count: int = 8,
    seed: int = 0,
    what: What = "object",
    like: str | Path | None = None,
    gif: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Redraw a photograph into the folder `out`; returns the files written, the one to look at first the last.

    NAME-1.png ... NAME-n.png, and NAME-redrawn.png: photograph, mask, drawings. With `gif` one looping NAME-redrawn.gif
    that goes through the latents instead. With `like` the drawings go in `count` equal steps from the latents read off
    the photograph itself to those read off `like`, which the last one has; the animation goes there and back.
    An input is never overwritten, another file only if `overwrite` is set. Raises RedosegError.
    """
    photo, out = Path(photo), Path(out)
    _check_count(count)
    if not photo.is_file():
        seen = "is a folder" if photo.is_dir() else "does not exist"
        raise DataError(f"{printable(photo)} {seen}, one photograph expected: name one")
    if not out.exists() and out.suffix.lower() in (".gif", *IMAGE_SUFFIXES):
        raise RedosegError(f"{printable(out)} is a file's name, a folder expected for the results: name one")
    if out.exists() and not out.is_dir():
        raise RedosegError(f"{printable(out)} is a file, a folder expected for the results: name another place")
    numbered = [] if gif else [f"{photo.stem}-{number}.png" for number in range(1, count + 1)]
    targets = [out / name for name in (*numbered, f"{photo.stem}-redrawn.{'gif' if gif else 'png'}")]
    inputs = {os.path.realpath(path) for path in (photo, like) if path is not None}
    for target in targets:
        problem = why_not_write(target, inputs, overwrite, "one of the photographs")
        if problem:
            raise RedosegError(f"{printable(target)} {problem}")
    image, other = read_image(photo), None if like is None else read_image(like)
    if gif:
        image = _at_most(image, GIF_LARGEST)
    latents = model.random_latents(count, seed)
    if other is not None:
        own, theirs = model.read_latents(image), model.read_latents(other)
        latents = np.stack([own, theirs]) if gif else between(own, theirs, np.arange(1, count + 1) / count)
    steps = STEPS * (1 if other is None else 2)  # there is but one way to go
    drawings = model.draw(image, around(latents, steps) if gif else latents, what)
    make_folder(out)
    files = [_animation(drawings)] if gif else [*map(_png, drawings), _png(_sheet(model, image, other, drawings))]
    for target, content in zip(targets, files, strict=True):
        write_atomic(target, content)
    return targets


def _check_count(count: int, most: int = MOST) -> None:
    if not 1 <= count <= most:
        raise RedosegError(f"{count} drawings seen, 1 to {max(most, MOST)} expected: choose another number")


def _at_most(image: Image.Image, longest: int) -> Image.Image:
    """The picture, reduced to at most `longest` pixels on its longer side."""
    scale = longest / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _sheet(
    model: RedrawModel, image: Image.Image, other: Image.Image | None, drawings: Sequence[Image.Image]
) -> Image.Image:
    """Photograph, mask and drawings side by side; `other` stands after the mask."""
    small = _at_most(image, TILE)
    tiles = [small, outline(small, model.segmenter(small))]
    if other is not None:
        tile, shrunk = Image.new("RGB", small.size, (255, 255, 255)), other.copy()
        shrunk.thumbnail(small.size, Image.Resampling.LANCZOS, reducing_gap=2.0)
        tile.paste(shrunk, ((tile.width - shrunk.width) // 2, (tile.height - shrunk.height) // 2))
        tiles.append(tile)
    tiles += [drawing.resize(small.size, Image.Resampling.LANCZOS) for drawing in drawings]
    # the width that leaves the fewest places empty, and of those the widest
    columns = min(range(4, 7), key=lambda columns: (-len(tiles) % columns, -columns))
    return grid([tiles[i : i + columns] for i in range(0, len(tiles), columns)])


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _animation(frames: Sequence[Image.Image]) -> bytes:
    """A looping GIF. One palette and a pattern of dots that stays in place, so that what is kept stands still."""
    some = frames[:: -(-len(frames) // 16)]
    palette = grid([some], gap=0).quantize(256, Image.Quantize.MEDIANCUT)
    width, height = frames[0].size
    pattern = np.tile(_DOTS, (height // 4 + 1, width // 4 + 1))[:height, :width, None]
    paletted = []
    for frame in frames:
        dotted = (np.asarray(frame) + pattern).clip(0, 255).astype(np.uint8)
        paletted.append(Image.fromarray(dotted).quantize(palette=palette, dither=Image.Dither.NONE))
    buffer = io.BytesIO()
    rest = paletted[1:]
    paletted[0].save(buffer, "GIF", save_all=True, append_images=rest, duration=FRAME_MS, loop=0, optimize=False)
    return buffer.getvalue()
