"""Whatever lies in a folder: each file is read rightly or refused with one line, soon and in little memory."""

import io
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from redoseg.data import open_prepared, prepare
from redoseg.errors import DataError
from redoseg.images.masks import read_mask
from redoseg.images.photo import fit_square
from redoseg.images.read import list_images, read_image, read_photo

Pixels = NDArray[np.float64]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Ends the test if what is inside hangs."""

    def stop(*_: object) -> None:
        raise AssertionError(f"still waiting after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def one_line(error: DataError, path: Path) -> str:
    text = str(error)
    assert text.isprintable()
    cure = r"replace|remove|make|save|export|change|choose"
    assert re.search(rf": .+[;:] (?:{cure}) .+$", text), text  # what to do comes last
    assert len(text) < 500 + len(str(path))
    return text


def refused(path: Path, size: int | None = None) -> str:
    with within(20), pytest.raises(DataError) as caught:
        read_photo(path, size)
    return one_line(caught.value, path)


def pixels(path: Path, size: int | None = None) -> Pixels:
    with within(20):
        image = read_photo(path, size).rgb
    assert image.mode == "RGB"
    return np.asarray(image).astype(np.float64)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def stored(upright: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The pixels (H, W, ...) as a camera stores them under an EXIF orientation."""
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }
    return np.ascontiguousarray(turned[orientation])


# ------------------------------------------------------------------------------------ any picture, any damage

MODES = {
    "PNG": ("1", "L", "LA", "RGB", "RGBA", "P", "P+alpha", "I;16"),
    "TIFF": ("1", "L", "RGB", "RGBA", "CMYK", "I;16", "F"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "RGB"),
    "GIF": ("P", "P+alpha"),
    "PPM": ("L", "RGB"),
    "JPEG": ("L", "RGB", "CMYK"),
}
SUFFIXES = {"PNG": ".png", "TIFF": ".tif", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif", "PPM": ".ppm", "JPEG": ".jpg"}


@dataclass(frozen=True)
class Made:
    """A picture file and what it shows."""

    kind: str
    mode: str
    data: bytes
    shows: Pixels
    """(H, W, 3)."""
    tolerance: float
    """Largest difference of a grey level that the format excuses."""


def make(kind: str, mode: str, width: int, height: int, seed: int, orientation: int = 1, frames: int = 1) -> Made:
    """A file of these, and what it shows as worked out from its numbers alone."""
    rng = np.random.default_rng(seed)
    if kind == "JPEG":  # what a JPEG shows truly: ramps
        y, x = (
            np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
            if min(width, height) > 1
            else np.zeros((2, height, width))
        )
        channels = [rng.uniform(0, 90) + rng.uniform(0, 80) * x + rng.uniform(0, 80) * y for _ in range(4)]
        values = np.rint(np.stack(channels, 2)).astype(np.uint8)
    else:
        values = rng.integers(0, 256, (height, width, 4)).astype(np.uint8)
    grey, colour, alpha = values[..., 0], values[..., :3], values[..., 3:] / 255.0
    shows: Pixels
    options: dict[str, Any] = {}
    if mode == "1":
        array: NDArray[Any] = grey > 127
        shows = array * 255.0
    elif mode in ("L", "RGB"):
        array = grey if mode == "L" else colour
        shows = array.astype(np.float64)
    elif mode in ("LA", "RGBA"):
        array = values[..., [0, 3]] if mode == "LA" else values
        shows = array[..., :-1] * alpha + 255 * (1 - alpha)
    elif mode == "CMYK":
        array = values
        shows = (255.0 - colour) * (255 - values[..., 3:]) / 255
    elif mode == "I;16":
        array = rng.integers(0, 2**16, (height, width)).astype(np.uint16)
        array.flat[0] = 65535
        shows = array / 257.0
    elif mode == "F":
        array = rng.random((height, width)).astype(np.float32)
        array.flat[0] = 1
        shows = array * 255.0
    else:
        palette = rng.integers(0, 256, (4, 3)).astype(np.uint8)
        array = grey // 64
        shows = palette[array].astype(np.float64)
        if mode == "P+alpha":
            options["transparency"] = 1
            shows[array == 1] = 255
    if shows.ndim == 2:
        shows = shows[..., None]
    shows = np.broadcast_to(shows, (height, width, 3))

    def image(raw: NDArray[Any]) -> Image.Image:
        made = Image.fromarray(stored(raw, orientation), *(["CMYK"] if mode == "CMYK" else []))
        if mode.startswith("P"):
            made.putpalette(palette.tobytes())
        return made

    if orientation > 1:
        options["exif"] = exif(orientation)
    if frames > 1:
        options |= {"save_all": True, "append_images": [image(array[::-1, ::-1]) for _ in range(frames - 1)]}
    if kind == "WEBP":
        options |= {"lossless": True, "exact": True}
    if kind == "GIF":
        options["optimize"] = False
    if kind == "JPEG":
        options |= {"quality": 100, "subsampling": 0}
    return Made(kind, mode, encoded(image(array), kind, **options), shows, 6 if kind == "JPEG" else 1.01)


@st.composite
def files(draw: st.DrawFn) -> Made:
    kind = draw(st.sampled_from(sorted(MODES)))
    mode = draw(st.sampled_from(MODES[kind]))
    turns = kind in ("PNG", "TIFF", "WEBP", "JPEG")
    frames = (
        draw(st.integers(1, 3)) if kind in ("PNG", "TIFF", "WEBP", "GIF") and mode not in ("I;16", "P+alpha") else 1
    )
    orientation = draw(st.integers(1, 8)) if turns and frames == 1 else 1
    side = st.one_of(st.just(1), st.integers(1, 40))
    return make(kind, mode, draw(side), draw(side), draw(st.integers(0, 2**32 - 1)), orientation, frames)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(files()).data)
    how = draw(st.sampled_from(["cut", "flips", "cut and flips", "header", "empty", "foreign"]))
    if how == "empty":
        return b""
    if how == "foreign":
        return (
            draw(st.sampled_from([b"%PDF-1.7\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", b"GIF89a", b"P3 #"])) + data
        )
    if "flips" in how:
        for _ in range(draw(st.integers(1, 12))):
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if how == "header":  # where the sizes and the tables are
        for _ in range(draw(st.integers(1, 4))):
            data[draw(st.integers(0, min(len(data), 64) - 1))] = draw(st.sampled_from([0, 1, 127, 128, 255]))
    return bytes(data[: draw(st.integers(1, len(data)))] if "cut" in how else data)


def check_whole(folder: Path, made: Made, suffix: str) -> None:
    path = folder / f"x{suffix}"
    path.write_bytes(made.data)
    seen = pixels(path)
    assert seen.shape == made.shows.shape
    assert np.abs(seen - made.shows).max() <= made.tolerance
    square = np.asarray(read_photo(path, 8).square(8), np.float64)
    whole = np.asarray(fit_square(Image.fromarray(np.rint(made.shows).astype(np.uint8)), 8), np.float64)
    assert np.abs(square - whole).max() <= made.tolerance + 1


def check_damaged(folder: Path, data: bytes, suffix: str, size: int | None) -> None:
    path = folder / f"x{suffix}"
    path.write_bytes(data)
    with within(20):
        try:
            image = read_photo(path, size)
            assert image.rgb.mode == "RGB"
            assert image.square(8).size == (8, 8)
        except DataError as error:
            one_line(error, path)
        try:
            assert set(np.unique(read_mask(path, size))) <= {0, 127, 255}
        except DataError as error:
            one_line(error, path)


quick = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
thorough = settings(quick, max_examples=5000, derandomize=False)
suffixes = st.sampled_from([".jpg", ".png", ".tif", ".gif", ".webp", ".JPEG", ""])


@quick
@given(made=files(), suffix=suffixes)
def test_whole_pictures_are_read_rightly(tmp_path: Path, made: Made, suffix: str) -> None:
    check_whole(tmp_path, made, suffix)


@quick
@given(data=damaged(), suffix=suffixes, size=st.sampled_from([None, 8]))
def test_damaged_files_are_read_or_refused(tmp_path: Path, data: bytes, suffix: str, size: int | None) -> None:
    check_damaged(tmp_path, data, suffix, size)


@pytest.mark.slow
@thorough
@given(made=files(), suffix=suffixes)
def test_many_whole_pictures(tmp_path: Path, made: Made, suffix: str) -> None:
    check_whole(tmp_path, made, suffix)


@pytest.mark.slow
@thorough
@given(data=damaged(), suffix=suffixes, size=st.sampled_from([None, 8]))
def test_many_damaged_files(tmp_path: Path, data: bytes, suffix: str, size: int | None) -> None:
    check_damaged(tmp_path, data, suffix, size)


# ------------------------------------------------------------------------------------------- reduced decoding


def scene(kind: str, width: int, height: int, seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    if kind == "smooth":
        small = Image.fromarray(rng.integers(0, 255, (6, 8, 3)).astype(np.uint8))
        return np.array(small.resize((width, height), Image.Resampling.BICUBIC))
    y, x = np.indices((height, width)) * (2 * np.pi / min(width, height))
    # At 24 px a wave is 7 px long or more; of shorter ones at full contrast the two decodings differ by up to 3 levels.
    waves = [np.sin(x * rng.uniform(-2.4, 2.4) + y * rng.uniform(-2.4, 2.4)) * 100 + 128 for _ in range(3)]
    return np.rint(np.stack(waves, 2)).astype(np.uint8)


def check_reduced(
    folder: Path, kind: str, mode: str, width: int, height: int, orientation: int, options: dict[str, Any], seed: int
) -> None:
    path = folder / "x.jpg"
    image = Image.fromarray(stored(scene(kind, width, height, seed), orientation)).convert(mode)
    image.save(path, "JPEG", quality=92, exif=exif(orientation), **options)
    reduced, whole = read_photo(path, 24), read_image(path)
    assert 48 <= min(reduced.rgb.size) <= min(whole.size)
    assert whole.size == (width, height)
    seen = np.asarray(reduced.square(24), np.float64)
    assert np.abs(seen - np.asarray(fit_square(whole, 24), np.float64)).mean() < 2


reducible = {
    "kind": st.sampled_from(["smooth", "waves"]),
    "mode": st.sampled_from(["L", "RGB", "CMYK"]),
    "width": st.integers(97, 500),
    "height": st.integers(97, 500),
    "orientation": st.integers(1, 8),
    "options": st.fixed_dictionaries(
        {"subsampling": st.sampled_from(["4:4:4", "4:2:2", "4:2:0", "4:1:1"]), "progressive": st.booleans()}
    ),
    "seed": st.integers(0, 2**32 - 1),
}


@settings(quick, max_examples=80)
@given(**reducible)
def test_reduced_decoding_shows_the_same(tmp_path: Path, **drawn: Any) -> None:
    check_reduced(tmp_path, **drawn)


@pytest.mark.slow
@settings(thorough, max_examples=2000)
@given(**reducible)
def test_reduced_decoding_of_many(tmp_path: Path, **drawn: Any) -> None:
    check_reduced(tmp_path, **drawn)


def test_a_reduced_picture_is_not_shifted(tmp_path: Path) -> None:
    """At 1/8, 393 px become 50, which would be 400: the last lie outside."""
    ramp = np.linspace(0, 255, 393)[None].repeat(393, 0).astype(np.uint8)
    ramp = np.stack([ramp, ramp.T, ramp // 2], 2)  # red to the right, green downwards
    options = {"quality": 100, "subsampling": 0}
    for orientation in range(1, 9):
        image = Image.fromarray(stored(ramp, orientation))
        image.save(tmp_path / "x.jpg", exif=exif(orientation), **options)
        reduced = read_photo(tmp_path / "x.jpg", 24)
        assert reduced.rgb.size == (50, 50)
        seen = np.asarray(reduced.square(24), np.float64)
        whole = np.asarray(fit_square(Image.fromarray(ramp), 24), np.float64)
        assert np.abs(seen - whole)[1:-1, 1:-1].max() <= 2  # a fifth of a pixel
    # What is made of it is a picture like any other.
    again = fit_square(reduced.square(50), 50)
    assert np.array_equal(np.asarray(again), np.asarray(reduced.square(50)))


# ------------------------------------------------------------------------------------- what Pillow makes wrong


def png(width: int, height: int, depth: int, colour: int, rows: list[bytes], *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    lines = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(width: int, height: int, data: bytes, tags: dict[int, tuple[int, ...]]) -> bytes:
    """A TIFF with one strip; `tags` are written as LONG beside the usual ones."""
    usual = {256: (width,), 257: (height,), 258: (8,), 259: (1,), 262: (1,), 277: (1,), 278: (height,)}
    entries = usual | {273: (8,), 279: (len(data),)} | tags
    start = 8 + len(data)
    spare = start + 2 + 12 * len(entries) + 4
    table, outside = struct.pack("<H", len(entries)), b""
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            packed, outside = struct.pack("<I", spare + len(outside)), outside + packed
        table += struct.pack("<HHI", tag, 4, len(values)) + packed
    return b"II*\0" + struct.pack("<I", start) + data + table + bytes(4) + outside


def grey(folder: Path, data: bytes) -> list[int]:
    """The first row."""
    (folder / "x.png").write_bytes(data)
    seen = pixels(folder / "x.png")
    assert (seen == seen[..., :1]).all()
    return seen[0, :, 0].astype(int).tolist()


def test_deep_tiffs(tmp_path: Path) -> None:
    deep = np.array([0, 257, 514, 65535], np.uint16)
    assert grey(tmp_path, tiff(4, 1, deep.tobytes(), {258: (16,)})) == [0, 1, 2, 255]
    # white is zero
    assert grey(tmp_path, tiff(4, 1, deep.tobytes(), {258: (16,), 262: (0,)})) == [255, 254, 253, 0]
    assert grey(tmp_path, tiff(4, 1, deep.astype(np.uint8).tobytes(), {262: (0,)})) == [255, 254, 253, 0]
    # 12 bits
    assert grey(tmp_path, tiff(2, 1, bytes([0xFF, 0xF8, 0x00]), {258: (12,)})) == [255, 128]
    # signed; unsigned of 32 bits
    signed = np.array([-5, 0, 32767], np.int16)
    assert grey(tmp_path, tiff(3, 1, signed.tobytes(), {258: (16,), 339: (2,)})) == [0, 0, 255]
    large = np.array([0, 2**31, 2**32 - 1], np.uint32)
    assert grey(tmp_path, tiff(3, 1, large.tobytes(), {258: (32,)})) == [0, 128, 255]
    # channels one after the other
    planes = np.array([10, 20, 30, 40, 50, 60])
    tags = {258: (8, 8, 8), 262: (2,), 277: (3,), 284: (2,), 273: (8, 10, 12), 279: (2, 2, 2)}
    (tmp_path / "x.tif").write_bytes(tiff(2, 1, planes.astype(np.uint8).tobytes(), tags))
    assert pixels(tmp_path / "x.tif").tolist() == [[[10, 30, 50], [20, 40, 60]]]
    tags |= {258: (16, 16, 16), 273: (8, 12, 16), 279: (4, 4, 4)}
    (tmp_path / "x.tif").write_bytes(tiff(2, 1, (planes * 257).astype(np.uint16).tobytes(), tags))
    assert "channels of 16 bits in separate planes" in refused(tmp_path / "x.tif")


def test_floats_that_are_no_numbers(tmp_path: Path) -> None:
    signalling = np.array([0x7F800001], np.uint32).view(np.float32)[0]
    values = np.array([0, 0.5, 1, np.nan, signalling, -np.inf, np.inf, -3], np.float32)
    floats = {258: (32,), 339: (3,)}
    assert grey(tmp_path, tiff(8, 1, values.tobytes(), floats)) == [0, 128, 255, 0, 0, 0, 255, 0]
    assert grey(tmp_path, tiff(2, 1, np.full(2, np.nan, np.float32).tobytes(), floats)) == [0, 0]
    assert grey(tmp_path, tiff(2, 1, np.array([3e38, 0], np.float32).tobytes(), floats)) == [255, 0]
    assert read_mask(tmp_path / "x.png").tolist() == [[255, 0]]
    (tmp_path / "soft.tif").write_bytes(tiff(3, 1, np.array([0.2, 0.7, 1], np.float32).tobytes(), floats))
    assert read_mask(tmp_path / "soft.tif").tolist() == [[0, 255, 255]]


def test_one_transparent_colour_of_a_png(tmp_path: Path) -> None:
    two = [bytes([0b00011011])]
    assert grey(tmp_path, png(4, 1, 2, 0, two)) == [0, 85, 170, 255]
    assert grey(tmp_path, png(4, 1, 2, 0, two, chunk(b"tRNS", b"\0\1"))) == [0, 255, 170, 255]
    assert grey(tmp_path, png(2, 1, 4, 0, [b"\x12"], chunk(b"tRNS", b"\0\2"))) == [17, 255]
    assert grey(tmp_path, png(2, 1, 1, 0, [b"\x40"], chunk(b"tRNS", b"\0\0"))) == [255, 255]
    assert grey(tmp_path, png(2, 1, 8, 0, [b"\1\2"], chunk(b"tRNS", b"\0\1"))) == [255, 2]
    assert grey(tmp_path, png(2, 1, 16, 0, [b"\1\1\2\2"], chunk(b"tRNS", b"\1\1"))) == [255, 2]
    six = [bytes([1, 1] * 3 + [2, 2] * 3)]
    assert grey(tmp_path, png(2, 1, 16, 2, six, chunk(b"tRNS", bytes([1, 1] * 3)))) == [255, 2]
    alphas = chunk(b"PLTE", bytes([0] * 3 + [100] * 3)) + chunk(b"tRNS", b"\x80\xff")
    assert grey(tmp_path, png(2, 1, 8, 3, [b"\0\1"], alphas)) == [127, 100]


def test_dark_deep_greys_stay_dark(tmp_path: Path) -> None:
    assert grey(tmp_path, b"P5 3 1 65535\n" + struct.pack(">3H", 0, 100, 257)) == [0, 0, 1]
    assert grey(tmp_path, b"P5 3 1 1000\n" + struct.pack(">3H", 0, 500, 1000)) == [0, 128, 255]
    assert grey(tmp_path, png(2, 1, 16, 0, [struct.pack(">2H", 200, 257)])) == [1, 1]


def test_inks_of_jpegs(tmp_path: Path) -> None:
    """Adobe stores inks inverted; as YCCK the first three are stored as luma and chroma of themselves."""
    inks = np.zeros((32, 32, 4))
    inks[:16, :16] = (0, 200, 200, 0)  # red
    inks[:16, 16:] = (200, 200, 0, 30)  # dark blue
    inks[16:, 16:] = (0, 0, 200, 0)  # yellow
    shows = (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255
    r, g, b, k = np.moveaxis(inks, 2, 0)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    ycck = np.stack([luma, 128 + (b - luma) / 1.772, 128 + (r - luma) / 1.402, 255 - k], 2)
    for options in ({}, {"progressive": True}):
        image = Image.fromarray(inks.astype(np.uint8), "CMYK")
        (tmp_path / "cmyk.jpg").write_bytes(encoded(image, "JPEG", quality=100, **options))
        # Pillow inverts what it writes and marks it as plain inks: undone here.
        image = Image.fromarray(np.rint(255 - ycck).clip(0, 255).astype(np.uint8), "CMYK")
        data = bytearray(encoded(image, "JPEG", quality=100, **options))
        data[data.index(b"Adobe") + 11] = 2
        (tmp_path / "ycck.jpg").write_bytes(data)
        for name in ("cmyk.jpg", "ycck.jpg"):
            for size in (None, 8):
                seen = np.asarray(read_photo(tmp_path / name, size).rgb.resize((32, 32), 0), np.float64)
                assert np.abs(seen - shows).mean() < 3


def test_broken_exif_is_no_reason(tmp_path: Path) -> None:
    image = Image.new("RGB", (9, 5), (200, 0, 0))
    good = exif(6).tobytes()
    for broken in (good[:9], good[:-3], b"Exif\0\0nonsense", good.replace(b"\x12\x01", b"\x12\xff"), b"\0"):
        for kind in ("JPEG", "PNG", "WEBP"):
            (tmp_path / "x.jpg").write_bytes(encoded(image, kind, exif=broken))
            assert np.abs(pixels(tmp_path / "x.jpg") - [200, 0, 0]).max() < 12


# ----------------------------------------------------------------------------------------------------- traps


def claims(width: int, height: int) -> bytes:
    return png(width, height, 8, 2, [bytes(30)])


def tables(tag: int, kind: int, count: int) -> bytes:
    """A TIFF with a table of so many numbers, and with numbers to fill it."""
    return tiff(64, 64, bytes(4096), {tag: (4120,)})[:-4].replace(
        struct.pack("<HHII", tag, 4, 1, 4120), struct.pack("<HHII", tag, kind, count, 4120)
    ) + bytes(8 * 2**21)


def gif(canvas: tuple[int, int], left: int = 0) -> bytes:
    frame = b"," + struct.pack("<HHHHB", left, left, 2, 2, 0) + b"\2\2\x84\x51\0;"
    return b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x80, 0, 0) + bytes(6) + frame


def scans() -> bytes:
    whole = encoded(Image.new("L", (1000, 1000), 90), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * 5000 + whole[-2:]


BOMBS = {
    "30,000 by 30,000": (lambda: claims(30_000, 30_000), "million pixels"),
    "with Pillow's warning": (lambda: claims(12_000, 12_000), "million pixels"),
    "rows that are not there": (lambda: claims(11_000, 11_000), "truncated"),
    "text": (lambda: png(9, 9, 8, 2, [], chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**26)))), "too large"),
    "profile": (lambda: png(9, 9, 8, 2, [], chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(2**26)))), "too large"),
    "canvas": (lambda: gif((65_535, 65_535)), "million pixels"),
    "frame outside": (lambda: gif((2, 2), 60_000), "million pixels"),
    "rationals": (lambda: tables(282, 5, 2**21), "a table of 2097152 numbers"),
    "strips": (lambda: tables(273, 4, 2**21), "a table of 2097152 numbers"),
    "tiles": (lambda: tiff(64, 64, b"", {322: (2**20,), 323: (2**20,), 324: (8,), 325: (9,)}), "read"),
    "comments": (lambda: b"P3 900 900 255\n" + b"#\n" * 2**20, "not enough image data"),
    "plain text": (lambda: b"P1 9000 9000\n" + b"1" * 2**26, "MB of numbers in plain text"),
    "passes": (scans, "passes over 1 million pixels"),
    "canvas of a webp": (
        lambda: b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0" + b"\xfe\x3f\0" * 2 + b"ANIM\0\0\0\0",
        "could not create decoder object",
    ),
}


@pytest.mark.every(3)
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_soon(tmp_path: Path, name: str) -> None:
    build, why = BOMBS[name]
    (tmp_path / "x.jpg").write_bytes(build())
    assert why in refused(tmp_path / "x.jpg")


def test_files_too_large_are_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "x.webp", "wb") as file:
        file.write(b"RIFF\xff\xff\xff\x7fWEBPVP8 ")
        file.truncate(2**40)  # sparse: it takes no room
    assert "it has 1099511 MB, but at most 1073 MB are read; make it smaller or remove it" in refused(
        tmp_path / "x.webp"
    )


PEAK = """
import resource, sys
from redoseg.errors import DataError
from redoseg.images.masks import read_mask
from redoseg.images.read import read_image
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
what, limit, *paths = sys.argv[1:]
read_image(paths.pop())
before = peak()
for path in paths:
    try:
        (read_mask if what == "mask" else read_image)(path, *([64] if what == "reduced" else []))
    except DataError:
        pass
    assert peak() - before < float(limit), f"{path}: {peak() - before:.0f} MB"
"""


def check_peak(folder: Path, what: str, megabytes: float, paths: list[Path]) -> None:
    """In a process of its own, reading these takes no more than so many megabytes."""
    Image.new("RGBA", (64, 64)).save(folder / "small.png")
    command = [sys.executable, "-c", PEAK, what, str(megabytes), *map(str, paths), str(folder / "small.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_bombs_take_little_memory(tmp_path: Path) -> None:
    paths = []
    for name in BOMBS:
        paths.append(tmp_path / f"{name}.jpg")
        paths[-1].write_bytes(BOMBS[name][0]())
    check_peak(tmp_path, "picture", 200, paths)


@pytest.mark.slow
def test_memory_for_large_pictures(tmp_path: Path) -> None:
    """Megapixels times bytes: 4 for each of the decoded picture and its RGB, some more for floats."""
    Image.new("RGBA", (4000, 3000), (200, 10, 10, 128)).save(tmp_path / "x.png", compress_level=1)
    check_peak(tmp_path, "reduced", 12 * 9.5, [tmp_path / "x.png"])
    Image.new("L", (4000, 3000), 200).save(tmp_path / "x.png", compress_level=1)
    check_peak(tmp_path, "mask", 12 * 7, [tmp_path / "x.png"])
    Image.fromarray(np.full((3000, 4000), 0.5, np.float32)).save(tmp_path / "x.tif")
    check_peak(tmp_path, "picture", 12 * 18, [tmp_path / "x.tif"])
    Image.new("RGB", (9000, 6000), (200, 10, 10)).save(tmp_path / "x.jpg")
    check_peak(tmp_path, "reduced", 20, [tmp_path / "x.jpg"])


@pytest.mark.parametrize("size", [(30_000, 8), (8, 30_000), (30_000, 1), (1, 1)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_strips(tmp_path: Path, size: tuple[int, int], kind: str) -> None:
    (tmp_path / "x.jpg").write_bytes(encoded(Image.new("RGB", size, (200, 30, 60)), kind))
    square = np.asarray(read_photo(tmp_path / "x.jpg", 16).square(16), int)
    assert np.abs(square - [200, 30, 60]).max() < 4


# ---------------------------------------------------------------------------------------------- odd folders


def test_what_is_no_file_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (9, 9)).save("good.png")
    os.mkfifo("fifo.jpg")
    Path("device.jpg").symlink_to("/dev/zero")
    Path("terminal.jpg").symlink_to("/dev/tty")
    with socket.socket(socket.AF_UNIX) as listening, within(20):
        listening.bind("socket.jpg")
        found, problems, _ = list_images(".")
        assert [p.name for p in found] == ["good.png"]
        assert {p.name: why for p, why in problems} == {
            f"{name}.jpg": "not a file; remove it" for name in ("fifo", "device", "terminal", "socket")
        }
        for path, _ in problems:
            assert "not a file" in refused(path)


def test_a_file_that_becomes_a_fifo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at again once it is open."""
    os.mkfifo(tmp_path / "x.jpg")
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    assert "not a file" in refused(tmp_path / "x.jpg")


@pytest.mark.parametrize(
    "name",
    [b"caf\xe9.png", b"a\nb.png", b"\x1b[31m.png", b"n" * 251 + b".png", b"\xff\xfe\x80.png", "ű 你.png".encode()],
)
def test_odd_names(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    Image.new("RGB", (3, 3), (9, 99, 199)).save(path)
    assert list_images(tmp_path).images == [path]
    assert (pixels(path) == [9, 99, 199]).all()
    path.write_bytes(b"")
    assert "an empty file" in refused(path)
    path.unlink()
    assert "no such file" in refused(path)


def test_names_that_cannot_be() -> None:
    for name in ("a\0b.png", "\ud800.png", "n" * 300 + ".png", "x/" * 3000 + "x.png", ""):
        refused(Path(name))


def test_a_thousand_folders_deep(tmp_path: Path) -> None:
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(1200):
            os.mkdir("d")
            os.chdir("d")
        Image.new("RGB", (3, 3)).save("x.png")
        os.chdir(here)
        found, problems, _ = list_images(tmp_path)
        assert (len(found), problems) == (1, [])
        assert pixels(found[0]).shape == (3, 3, 3)
        found[0].unlink()
    finally:
        os.chdir(here)
        deepest = tmp_path.joinpath(*["d"] * 1200)
        while deepest != tmp_path:  # rmtree recurses
            if deepest.is_dir():
                deepest.rmdir()
            deepest = deepest.parent


def test_a_folder_of_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The good pictures are prepared rightly, every other file is listed once, nothing else happens."""
    source = tmp_path / "set"
    images, masks = source / "images", source / "masks"
    deep = images.joinpath(*["d"] * 50)
    deep.mkdir(parents=True)
    masks.mkdir()
    good = {}
    for number, (kind, modes) in enumerate(sorted(MODES.items())):
        for mode in modes:
            made = make(kind, mode, 16, 16, number, frames=2 if mode == "P" else 1)
            good[f"{kind} {mode}"] = made
            (images / f"{kind} {mode}.jpg").write_bytes(made.data)
    good["/".join(["d"] * 50) + "/x"] = made
    (deep / "x.png").write_bytes(made.data)
    (images / "PNG L" / "up").parent.mkdir()
    (images / "PNG L" / "up").symlink_to(images, target_is_directory=True)
    listed = {"empty.png": b"", "text.jpg": b"hello", "drawing.jpg": b"<svg/>", "cut.jpg": made.data[:-40]}
    listed |= {"claims.png": claims(30_000, 30_000), "a\nb.png": b"no picture"}
    for name, data in listed.items():
        (images / name).write_bytes(data)
    os.mkfifo(images / "fifo.png")
    (images / "loop.png").symlink_to("loop.png")
    (masks / "PNG L.png").touch()
    (masks / "PNG RGB.png").write_bytes(encoded(Image.new("L", (16, 16), 255), "PNG"))
    # One stem, two files: both are kept, and neither has a mask.
    (images / "twin.png").write_bytes(made.data)
    (images / "twin.bmp").write_bytes(made.data)
    good |= {"twin.png": made, "twin.bmp": made}
    (masks / "twin.png").write_bytes(encoded(Image.new("L", (16, 16), 255), "PNG"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with within(60):
        report = prepare("folder", source, tmp_path / "out", 16)
    data = open_prepared(tmp_path / "out")
    assert set(data.names) == set(good)
    for name, image in zip(data.names, data.pixels, strict=True):
        assert np.abs(image.astype(float) - good[name].shows).max() <= good[name].tolerance, name
    assert [name for name, has in zip(data.names, data.labelled, strict=True) if has] == ["PNG RGB"]
    bad = dict(report.bad)
    assert len(bad) == len(report.bad)
    names = {*(set(listed) - {"a\nb.png"}), "a\\nb.png", "fifo.png", "loop.png", "twin.png", "twin.bmp"}
    assert set(bad) == {f"images/{name}" for name in names} | {"masks/PNG L.png"}
    assert all(why.isprintable() for why in bad.values())
    assert "an empty file" in bad["masks/PNG L.png"]
    shutil.rmtree(source)


def test_a_picture_that_vanishes_is_listed(tmp_path: Path) -> None:
    source = tmp_path / "set"
    source.mkdir()
    made = make("PNG", "RGB", 16, 16, 0)
    for number in range(10):
        (source / f"{number}.png").write_bytes(made.data)

    def vanish(done: int, total: int) -> None:
        (source / "9.png").unlink(missing_ok=True)

    report = prepare("folder", source, tmp_path / "out", 16, workers=1, on_item=vanish)
    assert (report.pictures, [path for path, _ in report.bad]) == (9, ["9.png"])
    assert "no such file" in report.bad[0][1]


def test_files_and_folders_without_permission(tmp_path: Path) -> None:
    for name in ("closed.png", "inside/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (3, 3)).save(tmp_path / name)
    (tmp_path / "closed.png").chmod(0)
    (tmp_path / "inside").chmod(0)
    if os.access(tmp_path / "closed.png", os.R_OK):
        pytest.skip("this user may read everything")
    try:
        assert "Permission denied" in refused(tmp_path / "closed.png")
        assert "Permission denied" in refused(tmp_path / "inside" / "x.png")
        assert [why for _, why in list_images(tmp_path).problems] == [
            "cannot be listed (Permission denied): change its permissions"
        ]
        with pytest.raises(DataError, match=r"cannot be listed|does not exist"):
            list_images(tmp_path / "inside" / "deeper")
    finally:
        (tmp_path / "inside").chmod(0o755)
