"""TIFF files of any size, read part by part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redoseg.errors import DataError, MissingError
from redoseg.images import big_tiff, read
from redoseg.images.big_tiff import read_big_tiff

tifffile = pytest.importorskip("tifffile")

FORMS: dict[str, dict[str, Any]] = {
    "tiles": {"tile": (16, 32), "compression": "zlib"},
    "tiles with a predictor": {"tile": (32, 32), "compression": "zlib", "predictor": True},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "one strip": {},
    "plain tiles": {"tile": (16, 16)},
    "BigTIFF": {"tile": (16, 16), "compression": "zlib", "bigtiff": True},
}


def picture(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (75, 90, channels), np.uint8)


@pytest.mark.parametrize("form", FORMS)
def test_parts_are_those_of_the_whole(form: str, tmp_path: Path) -> None:
    pixels = picture()
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", **FORMS[form])
    photo = read_big_tiff(tmp_path / "a.tif")
    assert (photo.size, photo.pixels, photo.transparent) == ((90, 75), 75 * 90, False)
    for left, top, right, bottom in ((0, 0, 90, 75), (30, 14, 70, 50), (89, 74, 90, 75), (0, 31, 90, 33)):
        found = np.asarray(photo.rgb_of((left, top, right, bottom)))
        assert np.array_equal(found, pixels[top:bottom, left:right])
    assert photo.resized((9, 8)).size == (9, 8)


def test_grey_and_sixteen_bits(tmp_path: Path) -> None:
    grey = picture(1)[..., 0]
    tifffile.imwrite(tmp_path / "grey.tif", grey, tile=(16, 16))
    assert np.array_equal(np.asarray(read_big_tiff(tmp_path / "grey.tif").rgb)[..., 1], grey)
    tifffile.imwrite(tmp_path / "white.tif", grey, photometric="miniswhite", tile=(16, 16))
    assert np.array_equal(np.asarray(read_big_tiff(tmp_path / "white.tif").rgb)[..., 1], 255 - grey)
    tifffile.imwrite(tmp_path / "deep.tif", grey.astype(np.uint16) * 257, tile=(16, 16))
    assert np.array_equal(np.asarray(read_big_tiff(tmp_path / "deep.tif").rgb)[..., 1], grey)


def test_few_tiles_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = picture()
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=(16, 16), compression="zlib")
    monkeypatch.setattr(big_tiff, "KEPT", 2000)
    photo = read_big_tiff(tmp_path / "a.tif")
    assert np.array_equal(np.asarray(photo.rgb), pixels)
    assert photo.pages is not None
    assert len(photo.pages._kept) <= 2


@pytest.mark.parametrize(
    ("dtype", "how", "why"),
    [
        ("float32", {}, "it is float32, but .* must be whole numbers of 8 or 16 bits; save it again"),
        ("uint8", {"planarconfig": "separate"}, "it is planes, but .* must be the colours of a pixel side by side"),
        ("uint8", {"extratags": [(274, 3, 1, 6, True)]}, "it is turned by a tag, but .* must be stored upright"),
    ],
)
def test_what_is_not_read_by_parts(dtype: str, how: dict[str, Any], why: str, tmp_path: Path) -> None:
    pixels = picture().astype(dtype)
    pixels = pixels.transpose(2, 0, 1).copy() if "planarconfig" in how else pixels
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=(16, 16), **how)
    with pytest.raises(DataError, match=why):
        read_big_tiff(tmp_path / "a.tif")


def test_a_giant_strip_and_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture(), photometric="rgb", rowsperstrip=75, compression="zlib")
    with monkeypatch.context() as patch:
        patch.setattr(big_tiff, "MOST_SEGMENT", 1000)
        with pytest.raises(
            DataError, match=r"its strips have 0 MB each, but .* save it in tiles, or without compression"
        ):
            read_big_tiff(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[:200])
    with pytest.raises(DataError, match=r"cut.tif: cannot be read \(.*\); replace or remove it"):
        read_big_tiff(tmp_path / "cut.tif")


def test_only_what_is_too_large_stays_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture(), photometric="rgb", tile=(16, 16))
    assert read.big_tiff(tmp_path / "a.tif") is None
    assert read.big_tiff(tmp_path / "missing.tif") is None
    assert read.big_tiff(tmp_path / "a.tif", most=1000) is not None
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)  # Pillow refuses to open it
    assert read.big_tiff(tmp_path / "a.tif", most=1000) is not None
    (tmp_path / "b.tif").write_bytes(b"no picture")
    assert read.big_tiff(tmp_path / "b.tif", most=1000) is None
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(MissingError, match=r"tifffile, which is not installed; run: .*redoseg\[tiff\]"):
        read.big_tiff(tmp_path / "a.tif", most=1000)
