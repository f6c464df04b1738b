"""What people pass to the library: each is segmented like the same photograph as a file, or is one DataError."""

import copy
import io
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

from redoseg.errors import DataError, RedosegError
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter
from tests.bright import bright_square, write_model

ENTRANCES: dict[str, Callable[[Segmenter, Any], Any]] = {
    "call": lambda segmenter, image: segmenter(image) * 1.0,
    "soft": lambda segmenter, image: segmenter.soft(image),
    "predict": lambda segmenter, image: segmenter.predict(image).soft,
    "list": lambda segmenter, image: segmenter.soft([image])[0],
}


class Named(os.PathLike[Any]):
    """`path` may be anything."""

    def __init__(self, path: Any) -> None:
        self.path = path

    def __fspath__(self) -> Any:
        return str(self.path) if isinstance(self.path, Path) else self.path


class Reading:
    """An open file of another library."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self.read = read


class Interface:
    """What has pixels and is no array."""

    def __init__(self, path: Path) -> None:
        self.pixels = pixels(path)
        self.__array_interface__ = self.pixels.__array_interface__


def in_memory(path: Path) -> str:
    fsspec.filesystem("memory").pipe("/photos/x.png", path.read_bytes())
    return "memory://photos/x.png"


def fails() -> Any:
    raise KeyError("a\nb")


class OnDisk:
    """An open file that the test need not close."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)

    def read(self) -> bytes:
        return self.path.read_bytes()


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def opened(path: Path, mode: str = "") -> Image.Image:
    image = Image.open(path)
    return image.convert(mode) if mode else image


def premultiplied(path: Path) -> Image.Image:
    return opened(path, "L").convert("LA").convert("La")


GOOD: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "text": str,
    "os.PathLike": Named,
    "bytes": lambda path: path.read_bytes(),
    "bytes path": lambda path: Named(os.fsencode(path)),
    "address": in_memory,
    "file://": lambda path: path.as_uri(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "open file": lambda path: io.BytesIO(path.read_bytes()),
    "file on disk": OnDisk,
    "file of a bytearray": lambda path: Reading(lambda: bytearray(path.read_bytes())),
    "memoryview of an array": lambda path: memoryview(pixels(path)),
    "array interface": Interface,
    "PIL": opened,
    "PIL RGBa": lambda path: opened(path, "RGBA").convert("RGBa"),
    "PIL La": premultiplied,
    "PIL CMYK": lambda path: opened(path, "CMYK"),
    "PIL YCbCr": lambda path: opened(path, "YCbCr"),
    "uint8": pixels,
    "uint8 (3, H, W)": lambda path: pixels(path).transpose(2, 0, 1),
    "grey (H, W, 1)": lambda path: pixels(path)[..., :1],
    "grey (1, H, W)": lambda path: pixels(path)[None, ..., 0],
    "float32": lambda path: pixels(path).astype(np.float32) / 255,
    "float64 (3, H, W)": lambda path: pixels(path).transpose(2, 0, 1) / 255,
    "float16": lambda path: (pixels(path) / 255).astype(np.float16),
    "another order of rows": lambda path: np.flipud(np.flipud(pixels(path)).copy()),
    "tensor": lambda path: torch.from_numpy(pixels(path).copy()),
    "tensor (3, H, W)": lambda path: torch.from_numpy(pixels(path).copy()).permute(2, 0, 1).float() / 255,
    "tensor with gradients": lambda path: torch.tensor(pixels(path) / 255, requires_grad=True),
    "tensor of bfloat16": lambda path: torch.tensor(pixels(path) / 255, dtype=torch.bfloat16),
}


def closed(path: Path) -> Image.Image:
    image = Image.open(path)
    image.close()
    return image


def closed_file(path: Path) -> Any:
    with open(path, "rb") as file:
        return file


BAD: dict[str, Callable[[Path], Any]] = {
    "PIL closed": closed,
    "PIL cut off": lambda path: Image.open(io.BytesIO(path.read_bytes()[:-300])),
    "PIL without pixels": lambda _: Image.new("RGB", (0, 4)),
    "closed file": closed_file,
    "no path": lambda _: "",
    "a path that is a number": lambda _: Named(3),
    "file that fails": lambda _: Reading(fails),
    "file that gives nothing": lambda _: Reading(lambda: None),
    "address": lambda _: "memory://nowhere/x.png",
    "generator": lambda path: (one for one in [path]),
    "file of text": lambda _: io.StringIO("text"),
    "no bytes": lambda _: b"",
    "bytes of something else": lambda _: b"something else",
    "bytes cut off": lambda path: path.read_bytes()[:-300],
    "floats to 255": lambda path: pixels(path).astype(np.float32),
    "floats that are normalised": lambda path: torch.from_numpy(pixels(path) / 127.5 - 1),
    "not a number": lambda path: np.where(pixels(path) > 0, np.nan, 0.5),
    "uint16": lambda path: pixels(path).astype(np.uint16),
    "bool": lambda path: pixels(path) > 0,
    "objects": lambda _: np.array([[None]]),
    "complex": lambda path: pixels(path) * 1j,
    "four axes": lambda path: pixels(path)[None],
    "a number": lambda _: np.float32(3),
    "nothing": lambda _: None,
    "a dictionary": lambda path: {"path": path},
}


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return Segmenter(write_model(tmp_path_factory.mktemp("model") / "mask.onnx"), threads=2)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "x.png"
    noise = np.random.default_rng(0).integers(0, 9, (64, 96, 1), np.uint8)  # which does not compress away
    Image.fromarray((np.asarray(bright_square(96, 64)) // 2 + noise).astype(np.uint8)).save(path)
    return path


@pytest.mark.every(3)
@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("kind", GOOD)
def test_what_is_an_image_is_segmented(segmenter: Segmenter, path: Path, kind: str, entrance: str) -> None:
    found = ENTRANCES[entrance](segmenter, GOOD[kind](path))
    np.testing.assert_allclose(found, ENTRANCES[entrance](segmenter, path), atol=0.02)


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_an_image_is_one_line(segmenter: Segmenter, path: Path, kind: str, entrance: str) -> None:
    with pytest.raises(DataError) as caught:
        ENTRANCES[entrance](segmenter, BAD[kind](path))
    assert "\n" not in str(caught.value)


def test_bytes_are_upright_like_their_file(segmenter: Segmenter, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    bright_square(96, 64).save(tmp_path / "x.jpg", exif=exif)
    assert segmenter((tmp_path / "x.jpg").read_bytes()).shape == (96, 64)
    assert segmenter([]) == []


SETTINGS: dict[str, Callable[[Any, Path], object]] = {
    "tiles as text": lambda make, path: make("flowers", tiles="64"),
    "half a pixel of tiles": lambda make, path: make("flowers", tiles=64.5),
    "no model": lambda make, path: make(None),
    "bytes of a model": lambda make, path: make(b"model"),
    "no cleaning": lambda make, path: make("flowers")(path, cleaning=False),
    "cleaning as numbers": lambda make, path: make("flowers")(path, cleaning=(0.1, 0.1)),
}
CALLS: dict[str, dict[str, Any]] = {
    "an array to write": {"source": np.zeros((4, 4, 3), np.uint8)},
    "nothing to segment": {"source": [None]},
    "nowhere to write": {"out": ""},
    "no place to write": {"out": None},
    "feather as text": {"feather": "3"},
    "square of a bool": {"kind": "cutout", "square": True},
    "ground as numbers": {"kind": "cutout", "ground": (1, 2, 3)},
    "another format": {"kind": "cutout", "image_format": "gif"},
}


@pytest.mark.parametrize("kind", [*SETTINGS, *CALLS])
def test_settings_of_another_type_are_one_line(
    kind: str, segmenter: Segmenter, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = {"source": path, "out": "out"} | CALLS.get(kind, {})
    call = SETTINGS.get(kind, lambda *_: segment_paths(segmenter, **wanted))
    with pytest.raises(RedosegError) as caught:
        call(Segmenter, path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_not_a_number_is_named(segmenter: Segmenter) -> None:
    with pytest.raises(DataError, match="not numbers"):
        segmenter(np.full((4, 4), np.nan))


@pytest.mark.parametrize("threads", ["2", 2.0, "two", [2]])
def test_threads_that_are_not_a_number(path: Path, threads: Any) -> None:
    with pytest.raises(DataError, match="but must be a whole number"):
        Segmenter("flowers", threads=threads)
    assert Segmenter("flowers", threads=np.int64(2)).threads == 2  # type: ignore[arg-type]


def test_a_copy_in_another_process_gives_the_same(segmenter: Segmenter, path: Path) -> None:
    expected = segmenter.soft(path)
    for other in (pickle.loads(pickle.dumps(segmenter)), copy.deepcopy(segmenter), copy.copy(segmenter)):
        assert np.array_equal(other.soft(path), expected)
        assert (other.threads, other.edges, other.name) == (2, "guided", "bright")
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert np.array_equal(pool.submit(segmenter.soft, path).result(), expected)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_the_soft_mask_of_a_huge_picture_is_the_same(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made in another way, of two bytes a pixel."""
    image = bright_square().convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    ours = Segmenter("flowers")
    plain = ours.predict(image)
    monkeypatch.setattr("redoseg.inference.segmenter._HUGE", 100)
    huge = ours.predict(image)
    assert huge.soft.dtype == np.float32
    assert huge.confidence == plain.confidence
    np.testing.assert_allclose(huge.soft, plain.soft, atol=1e-5)


def test_an_open_file_that_stands_at_its_end() -> None:
    buffer = io.BytesIO()
    bright_square().save(buffer, "PNG")
    assert Segmenter("flowers")(buffer).shape == (64, 96)


@pytest.mark.parametrize(
    "tensor", [lambda: torch.empty(3, 4, 4, device="meta"), lambda: torch.ones(4, 4, 3).to_sparse()]
)
def test_tensors_without_values_of_their_own(tensor: Callable[[], torch.Tensor]) -> None:
    with pytest.raises(DataError, match="type Tensor cannot be read") as caught:
        Segmenter("flowers")(tensor())
    assert "\n" not in str(caught.value)


def test_a_model_may_be_any_path() -> None:
    class Place(os.PathLike[str]):
        def __fspath__(self) -> str:
            return "flowers"

    model: Any = Place()
    assert Segmenter(model, threads=1).size == Segmenter("flowers", threads=1).size
    for wrong in (3, None, b"flowers"):
        with pytest.raises(RedosegError, match=r"the model is of type \w+, but must be a path or a name as text"):
            Segmenter(wrong)  # type: ignore[arg-type]
