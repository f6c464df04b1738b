"""A trained mask extractor on pictures of any size. The command line, the library and the page go through it.

The model is an ONNX file: input `picture` (batch, 3, S, S), output `masks` (batch, n, S, S), soft and summing
to one; its metadata say what S, n and the object's region are.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.errors import DataError, ModelError, RedosegError
from redoseg.machine import cores
from redoseg.pictures import (
    PICTURE_SUFFIXES,
    cutout,
    grid,
    list_pictures,
    outline,
    read_picture,
    reason,
    shown,
    to_rgb,
    write_atomic,
)

FORMAT = "1"
MODEL_FILE = "mask.onnx"
REDRAW_FILE = "redraw.onnx"
CONFIG_FILE = "config.json"
HUB = "hf://"  # before user/name of a model on Hugging Face's hub
_BATCH = 8  # pictures; larger ones do not fit a core's cache and are no quicker
_LARGE = 2**24  # pixels; what comes after decoding takes up to 60 bytes for each
_RANGES = {"-1 1": (2 / 255, -1.0), "0 1": (1 / 255, 0.0)}  # picture_range -> factor and offset of a byte

PictureLike = str | Path | Image.Image | NDArray[np.uint8]
Kind = Literal["mask", "soft", "cutout", "overlay"]
KINDS: tuple[Kind, ...] = ("mask", "soft", "cutout", "overlay")

Thing = TypeVar("Thing")
Result = TypeVar("Result")


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

    Raises:
        ModelError: nothing there, or not a mask extractor.
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

    def __init__(self, model: str | Path, threads: int | None = None) -> None:
        where, content = model_bytes(model)
        self.threads = threads or cores()
        self._session, about = open_session(where, content, {"picture": 4, "masks": 4})
        self.name, self.size, self.regions, self.object_region = (
            about.name,
            about.size,
            about.regions,
            about.object_region,
        )
        self.value_range = about.value_range

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        threads: int | None = None,
    ) -> Segmenter:
        """A model from Hugging Face's hub, `user/name`; or whatever `Segmenter` takes.

        A folder of that name that is here comes first. Only mask.onnx and config.json are fetched, into the hub's
        cache, from which they come without a network too. `revision` is a branch, tag or commit, `token` that of a
        private model where none is stored. Raises ModelError where there is no such model, MissingError without
        huggingface_hub.
        """
        from redoseg.sharing import local_or_fetched

        return cls(local_or_fetched(model, (CONFIG_FILE, MODEL_FILE), revision, token, cache_dir), threads)

    def batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Soft masks (N, n, H, W) of pictures uint8 (N, H, W, 3), at the pictures' own size."""
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise DataError(
                f"pictures {images.dtype} {images.shape} seen, uint8 (N, H, W, 3) expected: "
                "pass RGB pictures of one size"
            )
        height, width = images.shape[1:3]
        soft = np.empty((len(images), self.regions, height, width), np.float32)

        def fill(start: int) -> None:
            pictures = [Image.fromarray(image) for image in images[start : start + _BATCH]]
            for i, masks in enumerate(self.masks(pictures), start):
                soft[i] = [enlarged(mask, (width, height)) for mask in masks]

        with contextlib.closing(_in_order(fill, range(0, len(images), _BATCH), self.threads)) as filled:
            for _ in filled:
                pass
        return soft

    def _reduced(self, picture: Image.Image) -> NDArray[np.uint8]:
        """The whole picture, squeezed to the network's square: nothing of it is cut off."""
        if picture.size == (self.size, self.size):
            return np.asarray(picture)
        return np.asarray(picture.resize((self.size, self.size), Image.Resampling.BILINEAR, reducing_gap=3.0))

    def network_input(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        """What the network sees of RGB pictures of any size: (N, 3, S, S)."""
        planes = np.stack([self._reduced(picture) for picture in pictures]).transpose(0, 3, 1, 2).astype(np.float32)
        return np.ascontiguousarray(planes * np.float32(self.value_range[0]) + np.float32(self.value_range[1]))

    def masks(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Soft masks (N, n, S, S) of RGB pictures of any size, as the network gives them."""
        return run_session(self._session, self.name, ["masks"], {"picture": self.network_input(pictures)})[0]

    def soft(self, image: PictureLike) -> NDArray[np.float32]:
        """The object's soft mask (H, W), 0 to 1, at the picture's own size.

        A file is turned upright as its EXIF says; an array is uint8 (H, W), (H, W, 3) or (H, W, 4).
        Raises DataError for a picture that cannot be read.
        """
        picture = to_picture(image)
        mask = self.masks([picture])[0, self.object_region]
        return enlarged(mask, picture.size)

    def __call__(self, image: PictureLike) -> NDArray[np.bool_]:
        """The object's mask (H, W) at the picture's own size: the soft mask cut at 0.5."""
        return self.soft(image) > 0.5


def _in_order(work: Callable[[Thing], Result], things: Iterable[Thing], threads: int) -> Generator[Result, None, None]:
    """`work` of each thing, done on several threads and given in the things' order.

    Twice as many things as threads are under way at most, however many there are. Threads are enough: Pillow, zlib
    and ONNX Runtime let others run while they work. Closed early, it waits for what is under way.
    """
    pool = ThreadPoolExecutor(threads)
    under_way: deque[Future[Result]] = deque()
    try:
        for thing in things:
            under_way.append(pool.submit(work, thing))
            if len(under_way) == 2 * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def enlarged(mask: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """A soft mask brought to (width, height)."""
    if mask.shape == size[::-1]:
        return mask
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)


def to_picture(image: PictureLike) -> Image.Image:
    """A file, picture or array as upright RGB. Raises DataError where it is none."""
    if isinstance(image, (str, Path)):
        return read_picture(image)
    if isinstance(image, Image.Image):
        return to_rgb(image)
    good = image.dtype == np.uint8 and image.size > 0
    if good and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
        return to_rgb(Image.fromarray(image))
    raise DataError(f"picture {image.dtype} {image.shape} seen, uint8 (H, W, 3) expected: convert it")


# ------------------------------------------------------------------------------------------ opening a model


def model_bytes(model: str | Path, file: str = MODEL_FILE) -> tuple[str, bytes]:
    """Where `file` of a model was found, in words, and its content; mask.onnx may also be named itself."""
    model = fetched(model, (CONFIG_FILE, file))
    path = Path(model).expanduser()
    ships = weights(file)
    try:
        if (path / file).is_file():
            return shown(path / file), (path / file).read_bytes()
        if path.is_file() and file == MODEL_FILE:
            return shown(path), path.read_bytes()
        if str(model) in ships:
            return f"weights {model}", (resources.files("redoseg") / "weights" / str(model) / file).read_bytes()
    except OSError as error:
        raise ModelError(f"{shown(path)} cannot be read ({reason(error)}): change its permissions") from error
    seen = f"has no {file}" if path.is_dir() or str(model) in weights() else "does not exist"
    an_onnx_file = "an .onnx file"
    if file != MODEL_FILE:
        seen, an_onnx_file = (f"is a file, {file} in a folder expected" if path.is_file() else seen), f"{HUB}user/name"
    raise ModelError(
        f"model {shown(path)} {seen}: name a run folder, a model folder, {an_onnx_file} or weights that come "
        f"with redoseg ({', '.join(ships) or 'none in this build'})"
    )


def fetched(model: str | Path, files: Sequence[str]) -> str | Path:
    """`hf://user/name` (or `...@revision`) -> the folder that its `files` were fetched to; all else as it is."""
    if not str(model).startswith(HUB):
        return model
    from redoseg.sharing import fetch

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
        raise ModelError(f"model {name} failed ({reason(error)}): export it again") from error


# ---------------------------------------------------------------------------------------- files and folders


@dataclass(frozen=True)
class SegmentReport:
    """What became of a picture or a folder of pictures."""

    done: int
    failed: tuple[tuple[Path, str], ...]
    """Pictures without a result, each with its reason."""
    written: tuple[Path, ...] = ()


OnItem = Callable[[Path, int, int, str | None], None]
"""Called with a picture, the pictures done, their total, and why it failed if it did."""


def segment_paths(
    segmenter: Segmenter,
    source: str | Path,
    out: str | Path,
    kind: Kind = "mask",
    overwrite: bool = False,
    on_item: OnItem | None = None,
) -> SegmentReport:
    """Segment one picture or a folder into PNG files of the same names and sub-folders under `out`.

    `kind` is "mask" (0 and 255), "soft" (0 to 255), "cutout" (RGBA) or "overlay". For one picture, `out` may
    be a file ending in .png. Pictures that would give the same name keep their suffix in it (`a.jpg.png`). An
    input is never overwritten, another file only if `overwrite` is set. In a folder the rest goes on past
    a picture that fails. Raises RedosegError for a single picture that fails, or if `out` cannot be used.
    """
    source, out = Path(source), Path(out)
    if kind not in KINDS:
        raise RedosegError(f"kind {kind!r} is not known, one of these expected: {', '.join(KINDS)}")
    if source.is_dir():
        return _segment_folder(segmenter, source, out, kind, overwrite, on_item)
    target = _target(source, out)
    make_folder(target.parent)
    problem = refusal(target, {os.path.realpath(source)}, overwrite)
    if problem:
        raise RedosegError(f"{shown(target)} {problem}")
    write_atomic(target, _render(segmenter, source, kind, contextlib.nullcontext()))
    if on_item is not None:
        on_item(source, 1, 1, None)
    return SegmentReport(1, (), (target,))


def _segment_folder(
    segmenter: Segmenter, source: Path, out: Path, kind: Kind, overwrite: bool, on_item: OnItem | None
) -> SegmentReport:
    if out.exists() and not out.is_dir():
        raise RedosegError(f"{shown(out)} is a file, a folder expected for the results: name another place")
    pictures, failed = list_pictures(source)
    if source.resolve() in out.resolve().parents:  # results of an earlier run are no pictures
        pictures = [p for p in pictures if not p.resolve().is_relative_to(out.resolve())]
        if not pictures:
            raise DataError(f"no picture in {shown(source)} but results in {shown(out)}: name another folder")
    # Texts, made when they are needed: a path object costs several times as much, and there may be a million.
    names = _names(pictures, source)
    inputs = {os.path.realpath(picture) for picture in pictures}
    one_large = threading.Lock()

    def problem_of(job: tuple[Path, str]) -> str | None:
        """Segments one picture; why there is no result, if there is none."""
        picture, target = job[0], out / job[1]
        refused = refusal(target, inputs, overwrite)
        if refused:
            return f"{shown(target)} {refused}"
        try:
            data = _render(segmenter, picture, kind, one_large)
            make_folder(target.parent)
            write_atomic(target, data)
        except DataError as error:
            return str(error).removeprefix(f"{shown(picture)}: ")
        return None

    written: list[Path] = []
    with contextlib.ExitStack() as stack:
        # Held here once: threads that enter and leave it in turns would restore each other's filters.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        jobs = zip(pictures, names, strict=True)
        problems = stack.enter_context(contextlib.closing(_in_order(problem_of, jobs, segmenter.threads)))
        for done, (picture, name, problem) in enumerate(zip(pictures, names, problems, strict=True), 1):
            if problem is None:
                written.append(out / name)
            else:
                failed.append((picture, problem))
            if on_item is not None:
                on_item(picture, done, len(pictures), problem)
    return SegmentReport(len(written), tuple(failed), tuple(written))


def _render(segmenter: Segmenter, path: Path, kind: Kind, one_large: contextlib.AbstractContextManager[Any]) -> bytes:
    """A picture file's result as a PNG file. A large picture's is made within `one_large`."""
    picture = read_picture(path)
    with one_large if picture.width * picture.height > _LARGE else contextlib.nullcontext():
        soft = segmenter.soft(picture)
        if kind == "mask":
            result = Image.fromarray(np.where(soft > 0.5, np.uint8(255), np.uint8(0)))
        elif kind == "soft":
            result = Image.fromarray(np.rint(soft * 255).astype(np.uint8))
        elif kind == "cutout":
            # Steeper than the network's own edge, which is as wide as its pixels are in the photograph.
            result = cutout(picture, (soft * 4 - 1.5).clip(0, 1))
        else:
            result = outline(picture, soft > 0.5)
        buffer = io.BytesIO()
        result.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _target(source: Path, out: Path) -> Path:
    suffix = out.suffix.lower()
    if out.is_dir() or (suffix != ".png" and suffix not in PICTURE_SUFFIXES):
        return out / f"{source.stem}.png"
    if suffix != ".png":
        raise RedosegError(f"{shown(out)}: results are PNG files: name a file ending in .png, or a folder")
    return out


def refusal(target: Path, inputs: set[str], overwrite: bool, what: str = "a picture to segment") -> str | None:
    """Why a result may not be written there, if it may not; `inputs` are real paths, each of them `what`."""
    if os.path.realpath(target) in inputs:
        return f"is {what}: name another folder for the results"
    if target.exists() and not overwrite:
        return "exists: name another place, or allow overwriting"
    return None


def make_folder(folder: Path) -> None:
    """Make a folder for results and those above it. Raises DataError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{shown(folder)} cannot be made ({reason(error)}), a folder for the results expected: name another place"
        ) from error


def _names(pictures: Sequence[Path], source: Path) -> list[str]:
    """A result's name for each picture, no two alike even where upper and lower case are one."""
    whole: set[Path] = set()  # pictures that keep their suffix

    def name(path: Path) -> str:
        relative = path.relative_to(source)
        return str(relative.with_name((path.name if path in whole else path.stem) + ".png"))

    while True:
        names = [name(p) for p in pictures]
        count = Counter(name.lower() for name in names)
        clashing = {p for p, name in zip(pictures, names, strict=True) if count[name.lower()] > 1} - whole
        if not clashing:
            return names
        whole |= clashing


# ----------------------------------------------------------------------------------------- before and after


def before_after(
    pairs: Sequence[tuple[Image.Image, NDArray[np.bool_]]], side: int = 192, columns: int | None = None
) -> Image.Image:
    """A sheet (RGB) of each picture, its mask's outline and its cut-out; `side` of a tile in pixels.

    `columns` is how many such triples stand side by side: one for up to four pictures, else two, if None.
    """
    if not pairs:
        raise DataError("no picture for the before/after sheet, at least one expected: segment some first")
    columns = columns or (1 if len(pairs) <= 4 else 2)
    triples = [_triple(picture, mask, side) for picture, mask in pairs]
    rows = [triples[i : i + columns] for i in range(0, len(triples), columns)]
    return grid([[grid([triple], gap=6) for triple in row] for row in rows], gap=0)


def _triple(picture: Image.Image, mask: NDArray[np.bool_], side: int) -> list[Image.Image]:
    width, height = picture.size
    short = min(width, height)
    box = ((width - short) / 2, (height - short) / 2, (width + short) / 2, (height + short) / 2)
    small = picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC, box=box)
    # Bilinear on grey and cut anew: a small mask gets a smooth edge rather than stairs.
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize((side, side), Image.Resampling.BICUBIC, box=box)
    alpha = np.asarray(grey, np.float32) / 255
    cut = cutout(small, alpha)
    return [small, outline(small, alpha > 0.5), Image.alpha_composite(_checks(side), cut).convert("RGB")]


def _checks(side: int) -> Image.Image:
    """The checkerboard that stands for nothing (RGBA)."""
    cell = max(4, side // 16)
    y, x = np.indices((side, side)) // cell
    grey = np.where((x + y) % 2, 232, 250).astype(np.uint8)
    return Image.fromarray(grey).convert("RGBA")
