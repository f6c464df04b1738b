"""A trained mask extractor on pictures of any size. The command line, the library and the page go through it.

The model is an ONNX file: input `picture` (batch, 3, S, S), output `masks` (batch, n, S, S), soft and summing
to one; its metadata say what S, n and the object's region are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.errors import DataError, ModelError
from redoseg.files import describe_error, printable
from redoseg.images import guided as edges
from redoseg.images.read import opacity, read_image, to_rgb
from redoseg.inference.hub import HUB
from redoseg.run_folder import CONFIG_FILE, MODEL_FILE
from redoseg.system import cores, in_order, opencv

FORMAT = "1"
_BATCH = 8  # pictures; larger ones do not fit a core's cache and are no quicker
_RANGES = {"-1 1": (2 / 255, -1.0), "0 1": (1 / 255, 0.0)}  # picture_range -> factor and offset of a byte

ImageLike = str | Path | Image.Image | NDArray[np.uint8]
Edges = Literal["guided", "plain", "grabcut"]


class Prediction(NamedTuple):
    """What the network makes of a picture."""

    soft: NDArray[np.float32]
    """The object's soft mask (H, W), 0 to 1, at the picture's own size."""
    confidence: float
    """How decided the network is, 0 to 1: 1 minus the mean entropy of its mask's pixels in bits."""


def weights(file: str = MODEL_FILE) -> list[str]:
    """Names of the weights that come with the package and have `file`."""
    folder = resources.files("redoseg") / "weights"
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if (entry / file).is_file())


class Segmenter:
    """Cuts the object out of pictures.

    Args:
        model: a run folder or model folder (with `mask.onnx` in it), an ONNX file, the name of weights
            that come with the package, or `hf://user/name`, a model folder on Hugging Face's hub.
        threads: CPU threads, each with pictures of its own; as many as this process may use if None.
        edges: how masks are brought from the network's size to the picture's: "guided" by the picture
            (`redoseg.images.guided`), "plain", bilinear, or "grabcut", cut anew by the colours of both regions, slower.

    Raises:
        ModelError: nothing there, or not a mask extractor; grabcut with more than two regions.
        MissingError: grabcut without OpenCV.
    """

    name: str
    size: int
    """Side of the picture that the network sees [pixels]."""
    regions: int
    object_region: int
    """Which region is the object."""
    value_range: tuple[float, float]
    """Factor and offset that bring a byte into the range that the network sees."""
    threads: int
    """How many pictures are worked on at a time."""
    edges: Edges

    def __init__(self, model: str | Path, threads: int | None = None, edges: Edges = "guided") -> None:
        if edges not in get_args(Edges):
            raise ModelError(f"edges {edges!r} seen, one of {', '.join(get_args(Edges))} expected: name one of them")
        if threads is not None and threads < 1:
            raise ModelError(f"{threads} threads seen, 1 or more expected: choose another number")
        where, content = model_bytes(model)
        self.threads = threads or cores()
        self.edges = edges
        self._session, about = open_session(where, content, {"picture": 4, "masks": 4})
        self.name, self.size, self.regions, self.object_region = (
            about.name,
            about.size,
            about.regions,
            about.object_region,
        )
        self.value_range = about.value_range
        if edges == "grabcut":
            opencv()  # what is missing is said before the work
            if self.regions > 2:
                raise ModelError(f"{where} has {self.regions} regions, two expected for edges grabcut: choose guided")

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        threads: int | None = None,
        edges: Edges = "guided",
    ) -> Segmenter:
        """A model from Hugging Face's hub, `user/name`; or whatever `Segmenter` takes.

        A folder of that name that is here comes first. Only mask.onnx and config.json are fetched, into the hub's
        cache, from which they come without a network too. `revision` is a branch, tag or commit, `token` that of a
        private model where none is stored. Raises ModelError where there is no such model, MissingError without
        huggingface_hub.
        """
        from redoseg.inference.hub import local_or_fetched

        return cls(local_or_fetched(model, (CONFIG_FILE, MODEL_FILE), revision, token, cache_dir), threads, edges)

    def batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Soft masks (N, n, H, W) of pictures uint8 (N, H, W, 3), at the pictures' own size."""
        if not isinstance(images, np.ndarray) or images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            seen = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
            raise DataError(f"pictures {seen} seen, uint8 (N, H, W, 3) expected: pass RGB pictures of one size")
        height, width = images.shape[1:3]
        soft = np.empty((len(images), self.regions, height, width), np.float32)

        def fill(start: int) -> None:
            pictures = [Image.fromarray(image) for image in images[start : start + _BATCH]]
            reduced = self._reduced(pictures)
            for i, masks in enumerate(self._run(reduced)):
                if self.edges == "grabcut":  # of two regions, the other is what is left
                    of_object = self._at_own_size(masks[self.object_region], reduced[i], pictures[i], self.edges)
                    soft[start + i, self.object_region] = of_object
                    soft[start + i, 1 - self.object_region] = 1 - of_object
                else:
                    soft[start + i] = [self._at_own_size(mask, reduced[i], pictures[i], self.edges) for mask in masks]

        with contextlib.closing(in_order(fill, range(0, len(images), _BATCH), self.threads)) as filled:
            for _ in filled:
                pass
        return soft

    def _reduced(self, images: Sequence[Image.Image], size: int = 0) -> NDArray[np.uint8]:
        """RGB pictures squeezed whole to the network's square, (N, S, S, 3): nothing of them is cut off."""
        square = (size or self.size, size or self.size)
        return np.stack(
            [
                np.asarray(p if p.size == square else p.resize(square, Image.Resampling.BILINEAR, reducing_gap=3.0))
                for p in images
            ]
        )

    def network_input(self, images: Sequence[Image.Image], size: int = 0) -> NDArray[np.float32]:
        """What the network sees of RGB pictures of any size: (N, 3, S, S). S is `size`, or its own where that is 0."""
        return self._values(self._reduced(images, size))

    def masks(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Soft masks (N, n, S, S) of RGB pictures of any size, as the network gives them."""
        return self._run(self._reduced(images))

    def _values(self, reduced: NDArray[np.uint8]) -> NDArray[np.float32]:
        factor, offset = self.value_range
        planes = reduced.transpose(0, 3, 1, 2).astype(np.float32)
        return np.ascontiguousarray(planes * np.float32(factor) + np.float32(offset))

    def _run(self, reduced: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Soft masks (N, n, S, S) of pictures of the network's size."""
        return run_session(self._session, self.name, ["masks"], {"picture": self._values(reduced)})[0]

    def _at_own_size(
        self, mask: NDArray[np.float32], reduced: NDArray[np.uint8], image: Image.Image, way: Edges
    ) -> NDArray[np.float32]:
        match way:
            case "plain":
                return edges.bilinear_upsample(mask, image.size)
            case "grabcut":
                return edges.grabcut_upsample(mask, reduced, image)
            case _:
                return edges.guided_upsample(mask, reduced, image)

    def predict(self, image: ImageLike) -> Prediction:
        """The object's soft mask at the picture's own size, and how sure the network is of it.

        Where the picture is transparent the mask is at most as opaque.
        A file is turned upright as its EXIF says, a PIL image is taken as it is; an array is uint8 (H, W), (H, W, 3)
        or (H, W, 4).
        Raises DataError for a picture that cannot be read.
        """
        return self.predict_with(image, (self.edges,))[self.edges]

    def predict_with(self, image: ImageLike, ways: Sequence[Edges]) -> dict[Edges, Prediction]:
        """As `predict`, with each of these kinds of edges; grabcut is for two regions."""
        picture = to_image(image)
        reduced = self._reduced([picture])
        mask = self._run(reduced)[0, self.object_region]
        opaque, sure = opacity(picture), _confidence(mask)
        found: dict[Edges, Prediction] = {}
        for way in ways:
            soft = self._at_own_size(mask, reduced[0], picture, way)
            # white stands where the picture is transparent, and white may look like the object
            found[way] = Prediction(soft if opaque is None else np.minimum(soft, opaque), sure)
        return found

    def soft(self, image: ImageLike) -> NDArray[np.float32]:
        """The object's soft mask (H, W), 0 to 1, at the picture's own size; pictures and errors as in `predict`."""
        return self.predict(image).soft

    def __call__(self, image: ImageLike) -> NDArray[np.bool_]:
        """The object's mask (H, W) at the picture's own size: the soft mask cut at 0.5."""
        return self.soft(image) > 0.5


def _confidence(mask: NDArray[np.float32]) -> float:
    """1 minus the mean entropy of a soft mask's pixels [bits]: 1 where it is all 0 and 1, 0 where all is 0.5."""
    p = mask.astype(np.float64).clip(1e-6, 1 - 1e-6)
    return float(1 + (p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean())


def to_image(image: ImageLike) -> Image.Image:
    """A file, picture or array as upright RGB. Raises DataError where it is none."""
    if isinstance(image, (str, Path)):
        return read_image(image)
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if not isinstance(image, np.ndarray):
        raise DataError(
            f"{type(image).__name__} seen, a path, PIL image or uint8 array expected: pass one picture at a time"
        )
    good = image.dtype == np.uint8 and image.size > 0
    if good and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
        return to_rgb(Image.fromarray(image))
    raise DataError(
        f"picture {image.dtype} {image.shape} seen, uint8 (H, W), (H, W, 3) or (H, W, 4) expected: convert it"
    )


# ------------------------------------------------------------------------------------------ opening a model


def model_bytes(model: str | Path, file: str = MODEL_FILE) -> tuple[str, bytes]:
    """Where `file` of a model was found, in words, and its content; mask.onnx may also be named itself."""
    model = fetched(model, (CONFIG_FILE, file))
    path = home_of(model)
    ships = weights(file)
    try:
        if (path / file).is_file():
            return printable(path / file), (path / file).read_bytes()
        if path.is_file() and file == MODEL_FILE:
            return printable(path), path.read_bytes()
        if str(model) in ships:
            return f"weights {model}", (resources.files("redoseg") / "weights" / str(model) / file).read_bytes()
    except OSError as error:
        raise ModelError(
            f"{printable(path)} cannot be read ({describe_error(error)}): change its permissions"
        ) from error
    seen = f"has no {file}" if path.is_dir() or str(model) in weights() else "does not exist"
    an_onnx_file = "an .onnx file"
    if file != MODEL_FILE:
        seen, an_onnx_file = (f"is a file, {file} in a folder expected" if path.is_file() else seen), f"{HUB}user/name"
    raise ModelError(
        f"model {printable(path)} {seen}: name a run folder, a model folder, {an_onnx_file} or weights that come "
        f"with redoseg ({', '.join(ships) or 'none in this build'})"
    )


def home_of(model: str | Path) -> Path:
    """The path with ~ at its start replaced. Raises ModelError for a user that there is not."""
    try:
        return Path(model).expanduser()
    except RuntimeError as error:
        raise ModelError(
            f"model {printable(model)}: {describe_error(error)} A path or name expected: correct it"
        ) from None


def fetched(model: str | Path, files: Sequence[str]) -> str | Path:
    """`hf://user/name` (or `...@revision`) -> the folder that its `files` were fetched to; all else as it is."""
    if not str(model).startswith(HUB):
        return model
    from redoseg.inference.hub import fetch

    repo, _, revision = str(model).removeprefix(HUB).partition("@")
    return fetch(repo, files, revision or None)


@dataclass(frozen=True)
class About:
    """What the metadata of an exported graph say."""

    name: str
    size: int
    regions: int
    object_region: int
    value_range: tuple[float, float]
    """Factor and offset that bring a byte into the range that the network sees."""
    latent: int
    """Length of a region's latent; 0 for a mask extractor."""


def open_session(where: str, content: bytes, values: dict[str, int]) -> tuple[Any, About]:
    """An ONNX file of redoseg that takes and gives `values`, names with their number of axes. Raises ModelError."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what matters is raised; the rest would land on stderr
    # Within one picture two threads wait for each other at every layer; two pictures at a time are much quicker.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception:  # ONNX Runtime has no error tree of its own
        raise ModelError(f"{where} is not an ONNX model: name a run folder, a model folder or an .onnx file") from None
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    try:
        if metadata["redoseg_format"] != FORMAT:
            raise ModelError(
                f"{where} has format {metadata['redoseg_format']}, {FORMAT} expected: "
                "use the redoseg that wrote it, or export it again"
            )
        about = About(
            metadata.get("name") or Path(where).stem,
            int(metadata["size"]),
            int(metadata["regions"]),
            int(metadata["object_region"]),
            _RANGES[metadata["picture_range"]],
            int(metadata.get("latent", 0)),
        )
        got = {value.name: len(value.shape) for value in [*session.get_inputs(), *session.get_outputs()]}
        if got != values or not 0 <= about.object_region < about.regions:
            raise ValueError
    except (KeyError, ValueError):
        raise ModelError(
            f"{where} is an ONNX file, but not one of redoseg: name a run folder or its {MODEL_FILE}"
        ) from None
    return session, about


def run_session(
    session: Any, name: str, outputs: list[str], inputs: dict[str, NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """The outputs of the model called `name`. Raises ModelError if it fails."""
    try:
        return session.run(outputs, inputs)
    except Exception as error:  # ONNX Runtime has no error tree of its own
        raise ModelError(f"model {name} failed ({describe_error(error)}): export it again") from error
