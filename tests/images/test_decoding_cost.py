"""Pictures whose decoders hold more than the picture: above a limit of memory they are refused in one line."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redoseg.data.decoding import decode_item
from redoseg.data.listing import Item
from redoseg.errors import DataError
from redoseg.images import decoding_cost, read
from redoseg.images.decoding_cost import bytes_to_decode
from redoseg.images.photo import Photo, SoftMask
from redoseg.images.read import read_numbers, read_photo
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter

SIDE = 400
MOST = 1_000_000  # bytes; the picture itself has 640,000


def saved(kind: str, mode: str = "RGB", **settings: object) -> bytes:
    chance = np.random.default_rng(0).integers(0, 255, (SIDE // 8, SIDE // 8, 3)).astype(np.uint8)
    image = Image.fromarray(chance).resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def animated() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (SIDE, SIDE), (shade, 0, 0)) for shade in (0, 99, 200)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def wide_tile() -> bytes:
    """A small TIFF of a tile that is larger than memory."""
    picture = bytearray(saved("TIFF", compression="tiff_lzw"))
    image = Image.open(io.BytesIO(picture))
    at = picture.rfind(b"\x16\x01\x04\x00") if b"\x16\x01\x04\x00" in picture else picture.rfind(b"\x16\x01\x03\x00")
    assert at > 0
    assert image.size == (SIDE, SIDE)
    picture[at : at + 12] = b"\x43\x01\x04\x00\x01\x00\x00\x00" + (SIDE * 2**12).to_bytes(4, "little")  # a tile's rows
    return bytes(picture)


COSTLY: dict[str, Callable[[], bytes]] = {
    "x.webp": lambda: saved("WEBP"),
    "transparent.webp": lambda: saved("WEBP", "RGBA"),
    "animated.webp": animated,
    "x.avif": lambda: saved("AVIF", speed=10),
    "progressive.jpg": lambda: saved("JPEG", progressive=True),
    "progressive-444.jpg": lambda: saved("JPEG", progressive=True, subsampling=0),
    "progressive-cmyk.jpg": lambda: saved("JPEG", "CMYK", progressive=True),
    "progressive-cut.jpg": lambda: saved("JPEG", progressive=True)[:-2],
    "one-strip.tif": lambda: saved("TIFF", compression="tiff_lzw", strip_size=10**9),
    "one-strip-deflate.tif": lambda: saved("TIFF", compression="tiff_deflate", strip_size=10**9),
    "webp-by-another-name.jpg": lambda: saved("WEBP"),
}
PLAIN: dict[str, Callable[[], bytes]] = {
    "x.png": lambda: saved("PNG", "RGBA"),
    "x.jpg": lambda: saved("JPEG"),
    "x-444.jpg": lambda: saved("JPEG", subsampling=0),
    "grey.jpg": lambda: saved("JPEG", "L", progressive=True),
    "x.tif": lambda: saved("TIFF"),
    "strips.tif": lambda: saved("TIFF", compression="tiff_lzw", strip_size=2**13),
    "x.bmp": lambda: saved("BMP"),
}


class Everything:
    """A segmenter that takes all of a picture for the object."""

    name, threads = "everything", 1

    def soft_mask(self, photo: Photo) -> tuple[SoftMask, float]:
        return SoftMask.of(np.ones(photo.size[::-1], np.float32)), 1.0


def by_segment(path: Path) -> None:
    segment_paths(Everything(), path, path.parent / "out.png", overwrite=True)  # type: ignore[arg-type]


def by_prepare(path: Path) -> None:
    found = decode_item(Item("x", path), 2 * SIDE)  # so large that it is not decoded reduced
    if found.image is None:
        raise DataError(found.problems[0][1])


def by_library(path: Path) -> None:
    Segmenter("flowers").predict(path.read_bytes())


VERBS = pytest.mark.parametrize("verb", [by_segment, by_prepare, by_library, read_numbers])


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (read, decoding_cost):
        monkeypatch.setattr(module, "MOST_BYTES", MOST)
    monkeypatch.setattr(decoding_cost, "_SMALL", 0)


@pytest.mark.every(3)
@VERBS
@pytest.mark.parametrize("name", COSTLY)
def test_what_takes_too_much_is_one_line(name: str, verb: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(COSTLY[name]())
    with pytest.raises(DataError, match=r"decoding it takes [1-9] MB.*; save it ") as caught:
        verb(tmp_path / name)
    assert "\n" not in str(caught.value)


@VERBS
@pytest.mark.parametrize("name", PLAIN)
def test_what_takes_no_more_is_read(name: str, verb: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(PLAIN[name]())
    verb(tmp_path / name)


@pytest.mark.parametrize(("kind", "mode"), [("WEBP", "RGB"), ("WEBP", "RGBA"), ("AVIF", "RGB"), ("AVIF", "RGBA")])
def test_what_a_decoder_holds_goes_with_it(kind: str, mode: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "MOST_BYTES", 10**9)
        photo = read_photo(f"x.{kind.lower()}", content=saved(kind, mode))
    assert getattr(photo.stored, "_decoder", None) is None
    assert np.asarray(photo.rgb).shape == (SIDE, SIDE, 3)
    assert photo.square(20).size == (20, 20)


def test_a_tile_larger_than_its_picture(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(wide_tile())
    with pytest.raises(DataError):
        read_photo(tmp_path / "x.tif")


def test_a_reduced_jpeg_takes_less(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(saved("JPEG", progressive=True))
    assert read_photo(tmp_path / "x.jpg", 32).size[0] < SIDE


@pytest.mark.parametrize(("settings", "each"), [({}, 3), ({"subsampling": 0}, 6), ({"subsampling": 1}, 4)])
def test_passes_are_counted(settings: dict[str, object], each: int) -> None:
    content = io.BytesIO(saved("JPEG", progressive=True, **settings))
    assert bytes_to_decode(Image.open(content), content, SIDE**2) == (4 + each) * SIDE**2  # type: ignore[arg-type]
