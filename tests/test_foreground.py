"""At the soft edge of a cut-out the ground's colour is gone; solid pixels stay what they are, hidden ones are zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from redoseg.images.colour import matrix_profile
from redoseg.images.photo import Photo, SoftMask, to_photo
from redoseg.inference.results import drawn
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter
from redoseg.web.cuts import Cuts

Pixels = NDArray[np.float64]


@dataclass(frozen=True)
class Composite:
    """An object on a ground, mixed by a known opacity."""

    truth: Pixels
    """The object's colours everywhere, (H, W, 3)."""
    opacity: NDArray[np.uint8]
    """(H, W)."""
    mixed: Image.Image
    kind: str = "PNG"
    extra: dict[str, Any] | None = None
    """What is saved with the file."""


def composite(truth: Pixels, ground: Pixels, shape: Image.Image, blur: float, **rest: Any) -> Composite:
    opacity = np.asarray(shape.filter(ImageFilter.GaussianBlur(blur)))
    share = opacity[..., None] / 255.0
    mixed = np.rint(share * truth + (1 - share) * ground).clip(0, 255).astype(np.uint8)
    return Composite(truth, opacity, Image.fromarray(mixed), **rest)


def plain(colour: tuple[int, int, int], width: int = 96, height: int = 80) -> Pixels:
    return np.broadcast_to(np.array(colour, float), (height, width, 3))


def ramp(first: tuple[int, int, int], last: tuple[int, int, int], width: int = 96, height: int = 80) -> Pixels:
    share = np.linspace(0, 1, width)[None, :, None].repeat(height, 0)
    return plain(first, width, height) * (1 - share) + plain(last, width, height) * share


def grained(pixels: Pixels, seed: int, size: float = 12) -> Pixels:
    return (pixels + np.random.default_rng(seed).normal(0, size, (*pixels.shape[:2], 1))).clip(0, 255)


def drawn_shape(paint: Callable[[ImageDraw.ImageDraw], None], width: int = 96, height: int = 80) -> Image.Image:
    shape = Image.new("L", (width, height))
    paint(ImageDraw.Draw(shape))
    return shape


def disc() -> Composite:
    shape = drawn_shape(lambda d: d.ellipse((20, 15, 70, 65), fill=255))
    return composite(plain((200, 60, 40)), plain((30, 160, 60)), shape, 3)


def star_of_grain() -> Composite:
    points = [
        (48 + r * np.cos(a), 40 + r * np.sin(a)) for a, r in zip(np.linspace(0, 6, 11), [34, 15] * 6, strict=False)
    ]
    shape = drawn_shape(lambda d: d.polygon(points, fill=255))
    return composite(grained(ramp((220, 200, 60), (160, 60, 120)), 1), grained(plain((40, 50, 130)), 2), shape, 1.5)


def ring() -> Composite:
    """Ground within the object too, of another colour than around it."""
    shape = drawn_shape(lambda d: (d.ellipse((10, 5, 80, 75), fill=255), d.ellipse((32, 27, 58, 53), fill=0)))  # type: ignore[arg-type,return-value]
    return composite(plain((240, 240, 235)), ramp((20, 90, 30), (90, 20, 20)), shape, 2)


def two_objects() -> Composite:
    shape = drawn_shape(lambda d: (d.ellipse((8, 20, 38, 60), fill=255), d.ellipse((58, 20, 88, 60), fill=255)))  # type: ignore[arg-type,return-value]
    truth = np.concatenate([plain((230, 40, 40), 48), plain((60, 60, 230), 48)], 1)
    return composite(truth, plain((250, 250, 250)), shape, 2.5)


def at_the_border() -> Composite:
    shape = drawn_shape(lambda d: d.rectangle((0, 30, 95, 79), fill=255))
    return composite(ramp((180, 90, 40), (90, 180, 40)), plain((120, 170, 255)), shape, 2)


def strip() -> Composite:
    shape = drawn_shape(lambda d: d.rectangle((300, 0, 900, 11), fill=255), 1200, 12)
    return composite(plain((60, 30, 20), 1200, 12), plain((240, 220, 90), 1200, 12), shape, 4)


def tiny() -> Composite:
    shape = drawn_shape(lambda d: d.rectangle((3, 3, 8, 8), fill=255), 12, 12)
    return composite(plain((250, 120, 0), 12, 12), plain((0, 60, 120), 12, 12), shape, 0.8)


def large() -> Composite:
    """Colours are guessed at a part of its size."""
    shape = drawn_shape(lambda d: d.ellipse((200, 150, 1300, 1000), fill=255), 1500, 1200)
    return composite(ramp((230, 160, 120), (120, 60, 60), 1500, 1200), plain((60, 140, 60), 1500, 1200), shape, 9)


def hairs() -> Composite:
    def paint(d: ImageDraw.ImageDraw) -> None:
        d.ellipse((30, 25, 66, 61), fill=255)
        for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False):
            d.line((48, 43, 48 + 34 * np.cos(angle), 43 + 34 * np.sin(angle)), fill=255, width=2)

    return composite(plain((70, 40, 25)), grained(plain((90, 190, 240)), 3, 6), drawn_shape(paint), 1)


def with_profile() -> Composite:
    """The file's own values are mixed, in the colours of its profile."""
    p3 = matrix_profile((0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060), 2.2)
    made = disc()
    return Composite(made.truth, made.opacity, made.mixed, extra={"icc_profile": p3})


def nearly_opaque() -> Composite:
    """As a lossy format makes what is opaque."""
    made = disc()
    mixed = made.mixed.copy()
    mixed.putalpha(254)
    return Composite(made.truth, made.opacity, mixed)


def grey() -> Composite:
    made = composite(
        plain((200, 200, 200)), plain((40, 40, 40)), drawn_shape(lambda d: d.ellipse((20, 15, 70, 65), fill=255)), 3
    )
    return Composite(made.truth, made.opacity, made.mixed.convert("LA"))


CASES = [
    disc,
    star_of_grain,
    ring,
    two_objects,
    at_the_border,
    strip,
    tiny,
    large,
    hairs,
    with_profile,
    nearly_opaque,
    grey,
]


def soft_mask(opacity: NDArray[np.uint8]) -> SoftMask:
    """One that calls less than half of this opacity the ground, and the rest the object with colours mixed in."""
    return SoftMask.of(opacity.astype(np.float32) / np.float32(4 * 255) + np.float32(0.375))


class Knowing:
    """A segmenter that knows how much of each pixel is the object."""

    name, threads = "knowing", 1

    def __init__(self, opacity: NDArray[np.uint8]) -> None:
        self.opacity = opacity

    def soft_mask(self, photo: Photo) -> tuple[SoftMask, float]:
        return soft_mask(self.opacity), 1.0


def by_file(source: Path, segmenter: Knowing, out: Path) -> Path:
    segment_paths(cast(Segmenter, segmenter), source, out / "x.png", kind="cutout")
    return out / "x.png"


def by_folder(source: Path, segmenter: Knowing, out: Path) -> Path:
    segment_paths(cast(Segmenter, segmenter), source.parent, out, kind="cutout")
    return out / "x.png"


def by_page(source: Path, segmenter: Knowing, out: Path) -> Path:
    return next(path for path in Cuts(segmenter, 10**9).files(source, 0.5, out) if path.stem.endswith("cutout"))


EDGES = [
    # a large one is made by the same code as by_file, and folders are tried with the others
    pytest.param(make, verb, marks=pytest.mark.slow if make is large and verb is by_folder else ())
    for make in CASES
    for verb in (by_file, by_folder, by_page)
]


@pytest.mark.every(5)
@pytest.mark.parametrize(("make", "verb"), EDGES)
def test_the_edge_has_the_colour_of_the_object(
    make: Callable[[], Composite], verb: Callable[[Path, Knowing, Path], Path], tmp_path: Path
) -> None:
    made = make()
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    made.mixed.save(tmp_path / "in" / "x.png", **made.extra or {})
    with Image.open(verb(tmp_path / "in" / "x.png", Knowing(made.opacity), tmp_path / "out")) as image:
        assert image.mode == "RGBA"
        found = np.asarray(image)
    before = np.asarray(made.mixed.convert("RGB"), float)
    hidden, solid = made.opacity < 128, made.opacity == 255
    soft = ~hidden & ~solid
    assert soft.sum() > 30
    assert np.array_equal(found[..., 3] == 0, hidden)
    assert np.array_equal(found[solid][:, :3], before[solid])
    assert not found[hidden].any()
    error_before = np.abs(before - made.truth)[soft].mean()
    error_after = np.abs(found[..., :3] - made.truth)[soft].mean()
    assert error_before > 8
    assert error_after < error_before / 2


@pytest.mark.parametrize("shift", [(2, 0), (0, -2), (-3, 3)], ids=lambda shift: f"{shift[0]},{shift[1]}")
@pytest.mark.parametrize("make", [disc, star_of_grain, ring, two_objects], ids=lambda case: case.__name__)
def test_a_mask_beside_the_edge_does_no_harm(make: Callable[[], Composite], shift: tuple[int, int]) -> None:
    made = make()
    opacity = np.roll(made.opacity, shift, (0, 1))
    soft = (opacity >= 128) & (opacity < 255)
    found = np.asarray(drawn(to_photo(made.mixed), soft_mask(opacity), "cutout"), float)[..., :3]
    before = np.abs(np.asarray(made.mixed, float) - made.truth)[soft].mean()
    assert np.abs(found - made.truth)[soft].mean() < 0.9 * before


@pytest.mark.parametrize(
    "opacity",
    [
        np.full((9, 9), 255, np.uint8),
        np.full((9, 9), 140, np.uint8),
        np.full((1, 1), 200, np.uint8),
        np.where(np.arange(81).reshape(9, 9) % 2, np.uint8(255), np.uint8(140)),
        np.where(np.arange(81).reshape(9, 9) % 2, np.uint8(0), np.uint8(140)),
    ],
    ids=["all solid", "all soft", "one pixel", "no ground", "no object"],
)
def test_where_nothing_can_be_known_nothing_changes(opacity: NDArray[np.uint8]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*opacity.shape, 3)).astype(np.uint8)
    found = np.asarray(drawn(to_photo(Image.fromarray(pixels)), soft_mask(opacity), "cutout"))
    assert np.array_equal(found[..., :3], np.where(opacity[..., None] > 0, pixels, 0))


def test_where_the_file_is_not_opaque_its_colours_stay() -> None:
    """They are not mixed with what is behind, and below transparency they may be anything."""
    made = disc()
    image = made.mixed.copy()
    image.putalpha(Image.fromarray(np.where(made.opacity == 255, np.uint8(255), np.uint8(200))))
    found = np.asarray(drawn(to_photo(image), soft_mask(made.opacity), "cutout"))
    shown = made.opacity >= 128
    assert np.array_equal(found[shown][:, :3], np.asarray(made.mixed)[shown])


def test_a_part_is_the_same_as_in_the_whole() -> None:
    made = large()
    photo, soft, box = to_photo(made.mixed), soft_mask(made.opacity), (180, 333, 777, 801)
    whole = drawn(photo, soft, "cutout").crop(box)
    assert np.array_equal(np.asarray(drawn(photo, soft, "cutout", box=box)), np.asarray(whole))
