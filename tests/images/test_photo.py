"""Photographs are converted part by part, and nothing shows it: neither their pixels nor what is made of them."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from redoseg.images import photo as photos
from redoseg.images.draw import outline, tile_of
from redoseg.images.guided import bilinear_mask, grabcut_mask, guided_mask
from redoseg.images.photo import UPRIGHT, Photo, SoftMask, fit_square, parts
from redoseg.images.png import png_chunks
from redoseg.images.read import read_photo
from redoseg.inference import results

RNG = np.random.default_rng(0)
SHAPES = [(97, 61), (300, 3), (3, 300), (1, 1), (500, 1), (1, 500)]


def noise(size: tuple[int, int], channels: int) -> np.ndarray:
    """Smooth colours with a little noise, so that reduced sizes differ from place to place."""
    width, height = size
    smooth = np.linspace(0, 200, width)[None, :, None] + np.linspace(0, 40, height)[:, None, None]
    return (smooth + RNG.integers(0, 16, (height, width, channels))).astype(np.uint8)


def rgb(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(noise(size, 3))


def rgba(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(noise(size, 4))


def opaque(size: tuple[int, int]) -> Image.Image:
    image = rgb(size)
    image.putalpha(255)
    return image


def cmyk(size: tuple[int, int]) -> Image.Image:
    return rgb(size).convert("CMYK")


def grey_alpha(size: tuple[int, int]) -> Image.Image:
    return rgba(size).convert("LA")


def premultiplied(size: tuple[int, int]) -> Image.Image:
    return rgba(size).convert("RGBa")


def palette(size: tuple[int, int]) -> Image.Image:
    image = rgb(size).convert("L").convert("P")
    image.info["transparency"] = bytes(range(256))
    return image


def key(size: tuple[int, int]) -> Image.Image:
    image = rgb(size).convert("L")
    image.info["transparency"] = 100
    return image


def deep(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray((noise(size, 1)[..., 0].astype(np.uint16) * 200).astype(np.uint16))


def floats(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(noise(size, 1)[..., 0].astype(np.float32) / 255)


def bits(size: tuple[int, int]) -> Image.Image:
    return rgb(size).convert("1")


MODES = [rgb, rgba, opaque, cmyk, grey_alpha, premultiplied, palette, key, deep, floats, bits]
Make = Callable[[tuple[int, int]], Image.Image]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, every photograph is a large one and has many parts."""

    def begin() -> None:
        for module in (photos, results):
            monkeypatch.setattr(module, "PART", 64)
            monkeypatch.setattr(module, "LARGE", 0)
        monkeypatch.setattr("redoseg.images.guided.LARGE", 0)

    return begin


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("most", [1, 7, 64, 10**6])
def test_parts_cover_all_once_and_in_order(size: tuple[int, int], most: int) -> None:
    seen = np.zeros(size[::-1], int)
    places = []
    for left, top, right, bottom in parts(size, most):
        seen[top:bottom, left:right] += 1
        assert (right - left) * (bottom - top) <= most
        assert bottom - top == 1 or right - left == size[0]
        places.append((top, left))
    assert (seen == 1).all()
    assert places == sorted(places)


@pytest.mark.every(5)
@pytest.mark.parametrize("turn", [None, *UPRIGHT.values()])
@pytest.mark.parametrize("make", MODES)
def test_parts_are_those_of_the_whole(
    make: Make, turn: Image.Transpose | None, small_parts: Callable[[], None]
) -> None:
    for size in SHAPES:
        stored = make(size)
        whole = photos.to_photo(stored, turn=turn)
        assert whole.size == (stored if turn is None else stored.transpose(turn)).size
        colours, alpha = np.asarray(whole.rgb), whole.alpha
        own = np.asarray(whole.own_of(whole.whole))
        if make not in (deep, floats):  # Pillow would clip these
            plain = stored if turn is None else stored.transpose(turn)
            plain = plain.convert("LA") if plain.mode == "La" else plain
            white = Image.new("RGBA", plain.size, "white")
            expected = plain.convert("RGBA") if "A" in plain.mode.upper() or plain.info else plain.convert("RGB")
            if expected.mode == "RGBA":
                white.paste(expected, mask=expected)
                expected = white.convert("RGB")
            assert np.abs(np.asarray(expected, int) - colours).max() <= 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(photos, "PART", 64)
            split = photos.to_photo(stored, turn=turn)
            assert split.transparent == whole.transparent == (alpha is not None)
            for part in parts(whole.size):
                left, top, right, bottom = part
                assert np.array_equal(split.rgb_of(part), colours[top:bottom, left:right])
                assert np.array_equal(split.own_of(part), own[top:bottom, left:right])
                if alpha is not None:
                    assert np.array_equal(split.alpha_of(part), np.asarray(alpha)[top:bottom, left:right])


@pytest.mark.every(5)
@pytest.mark.parametrize("turn", [None, Image.Transpose.ROTATE_90])
@pytest.mark.parametrize("make", [rgb, rgba, cmyk, deep])
@pytest.mark.parametrize("size", [(160, 120), (400, 9), (9, 400), (40, 30)])
def test_reduced_part_by_part(
    size: tuple[int, int], make: Make, turn: Image.Transpose | None, small_parts: Callable[[], None]
) -> None:
    whole = photos.to_photo(make(size), turn=turn)
    wanted = [(16, 16), (40, 5), (64, 64)]
    resized = [np.asarray(whole.resized(to)) for to in wanted]
    square = np.asarray(fit_square(whole.rgb, 16))
    shrunk = whole.shrunk((20, 15))
    mask = np.asarray(whole.rgb.convert("L")) > 120
    tile = np.asarray(tile_of(whole, mask, 32))
    small_parts()
    for to, expected in zip(wanted, resized, strict=True):
        assert np.array_equal(whole.resized(to), expected), to
    # of a strip that becomes larger Pillow rounds twice
    assert np.abs(np.asarray(whole.square(16), int) - square).max() <= 1
    again = whole.shrunk((20, 15))
    assert np.array_equal(again.rgb, shrunk.rgb)
    assert (again.alpha is None) == (shrunk.alpha is None)
    assert np.array_equal(tile_of(whole, mask, 32), tile)


SEAMS = [(80, 60), (300, 9), (9, 300), (1000, 1), (20, 30)]


# grabcut has no parts of its own, and takes a second
@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("edges", "size"), [*((edges, size) for edges in ("plain", "guided") for size in SEAMS), ("grabcut", (80, 60))]
)
def test_soft_masks_have_no_seams(edges: str, size: tuple[int, int], small_parts: Callable[[], None]) -> None:
    if edges == "grabcut":
        pytest.importorskip("cv2")
    photo = photos.to_photo(rgba(size))
    reduced = np.asarray(photo.resized((32, 32)))
    y, x = np.indices((32, 32)) / 31 - 0.5
    mask = (1.2 - 3 * np.hypot(x, y)).clip(0, 1).astype(np.float32)

    def made() -> SoftMask:
        if edges == "plain":
            return bilinear_mask(mask, photo.size)
        return guided_mask(mask, reduced, photo) if edges == "guided" else grabcut_mask(mask, reduced, photo)

    whole = made().whole()
    small_parts()
    split = made()
    assert np.abs(split.whole() - whole).max() < 2e-5
    for part in parts(photo.size, 77):
        left, top, right, bottom = part
        assert np.abs(split.part(part) - whole[top:bottom, left:right]).max() < 2e-5


@pytest.mark.every(5)
@pytest.mark.parametrize("kind", ["mask", "soft", "cutout", "overlay"])
@pytest.mark.parametrize("make", [rgb, rgba])
@pytest.mark.parametrize("size", [(120, 90), (600, 11), (11, 600), (1000, 1)])
def test_results_have_no_seams(
    size: tuple[int, int], make: Make, kind: results.Kind, small_parts: Callable[[], None]
) -> None:
    photo = photos.to_photo(make(size), turn=Image.Transpose.ROTATE_180)
    soft = SoftMask.of((np.indices(size[::-1]).sum(0) % 97 / np.float32(96)).astype(np.float32))
    if kind == "overlay":
        whole = outline(photo.rgb, photo.within(soft.whole()) > 0.5)
    else:
        whole = results.drawn(photo, soft, kind)
    box = (size[0] // 3, size[1] // 4, size[0], size[1])
    small_parts()
    assert np.array_equal(results.drawn(photo, soft, kind), whole)
    for asked in (None, box):
        file = b"".join(results.png_of(photo, soft, kind, box=asked))
        with Image.open(io.BytesIO(file)) as found:
            assert found.mode == whole.mode
            assert np.array_equal(found, whole if asked is None else whole.crop(asked))


@pytest.mark.every(5)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("most", [5, 100, 10**6])
def test_a_png_file_in_pieces(mode: str, size: tuple[int, int], most: int) -> None:
    image = rgba(size).convert(mode)
    file = b"".join(png_chunks(size, mode, (image.crop(part) for part in parts(size, most))))
    with Image.open(io.BytesIO(file)) as found:
        found.verify()
    with Image.open(io.BytesIO(file)) as found:
        assert found.mode == mode
        assert np.array_equal(found, image)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM"])
def test_parts_of_files(format: str, small_parts: Callable[[], None]) -> None:
    """The pixels of a file are there after it is closed."""
    buffer = io.BytesIO()
    more = {"save_all": True, "append_images": [rgb((97, 61))]} if format in ("GIF", "WEBP", "TIFF") else {}
    rgb((97, 61)).save(buffer, format, **more)
    whole = np.asarray(read_photo("x", content=buffer.getvalue()).rgb)
    small_parts()
    photo: Photo = read_photo("x", content=buffer.getvalue())
    for part in parts(photo.size):
        left, top, right, bottom = part
        assert np.array_equal(photo.rgb_of(part), whole[top:bottom, left:right])
