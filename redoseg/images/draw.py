"""Drawing masks on pictures: outlines, cut-outs, sheets of many."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from redoseg.errors import DataError
from redoseg.images.photo import Photo

_LINE = (255, 64, 129)  # outline of an object
_GREY = (128, 128, 128)  # not labelled


def outline(
    image: Image.Image,
    mask: NDArray[np.bool_],
    unlabelled: NDArray[np.bool_] | None = None,
    *,
    dim: float = 0.55,
    colour: tuple[int, int, int] = _LINE,
    radius: float = 0,
) -> Image.Image:
    """The picture with everything but the object dimmed and the object's edge drawn; `mask` is (H, W).

    `radius` is half the width of that line [pixels], `line_radius` if 0.
    """
    radius = radius or line_radius(image.size)
    inside = Image.fromarray(mask.astype(np.uint8) * 255)
    soft = np.asarray(inside.filter(ImageFilter.BoxBlur(radius)), np.float32) / 255
    edge = (2 - 2 * np.abs(2 * soft - 1)).clip(0, 1)[..., None]
    pixels = np.array(image.convert("RGB"), np.float32)
    pixels *= 1 - dim * (1 - soft[..., None])
    if unlabelled is not None:
        pixels[unlabelled] = pixels[unlabelled] * 0.4 + np.array(_GREY, np.float32) * 0.6
    pixels += (np.array(colour, np.float32) - pixels) * edge
    return Image.fromarray(pixels.round().astype(np.uint8))


def line_radius(size: tuple[int, int]) -> float:
    """Half the width of an outline in a picture of `size` (width, height) [pixels]."""
    return max(0.7, min(size) / 220)


def cutout(
    image: Image.Image, alpha: NDArray[np.floating[Any]] | NDArray[np.bool_], *, keep_hidden: bool = False
) -> Image.Image:
    """The picture as RGBA, opaque where `alpha` (H, W) is 1.

    What is wholly transparent is black below, so that nobody can bring the ground back; `keep_hidden` leaves it there.
    """
    opacity = np.rint(alpha.astype(np.float32) * 255).astype(np.uint8)
    result = image.convert("RGB")
    if not keep_hidden:
        result.paste((0, 0, 0), mask=Image.fromarray(np.where(opacity == 0, np.uint8(255), np.uint8(0))))
    result.putalpha(Image.fromarray(opacity))
    return result


def grid(
    tiles: Sequence[Sequence[Image.Image]], gap: int = 4, paper: tuple[int, int, int] = (255, 255, 255)
) -> Image.Image:
    """Rows of pictures of one size, put side by side on paper; rows may be of unequal length."""
    width, height = tiles[0][0].size
    columns = max(len(row) for row in tiles)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, len(tiles) * (height + gap) + gap), paper)
    for y, row in enumerate(tiles):
        for x, tile in enumerate(row):
            sheet.paste(tile, (gap + x * (width + gap), gap + y * (height + gap)))
    return sheet


def before_after(
    pairs: Sequence[tuple[Image.Image, NDArray[np.bool_]]], side: int = 192, columns: int | None = None
) -> Image.Image:
    """A sheet (RGB) of each picture, its mask's outline and its cut-out; `side` of a tile in pixels.

    `columns` is how many such triples stand side by side: one for up to four pictures, else two, if None.
    """
    if not pairs:
        raise DataError("no picture for the before/after sheet; segment at least one first")
    columns = columns or (1 if len(pairs) <= 4 else 2)
    triples = [_triple(image, mask, side) for image, mask in pairs]
    rows = [triples[i : i + columns] for i in range(0, len(triples), columns)]
    return grid([[grid([triple], gap=6) for triple in row] for row in rows], gap=0)


def _triple(image: Image.Image, mask: NDArray[np.bool_], side: int) -> list[Image.Image]:
    small, alpha = _squared(image, mask, side)
    cut = cutout(small, alpha)
    return [small, outline(small, alpha > 0.5), Image.alpha_composite(checkerboard(cut.size), cut).convert("RGB")]


def outlined(
    image: Image.Image, mask: NDArray[np.bool_], side: int, unlabelled: NDArray[np.bool_] | None = None
) -> Image.Image:
    """The picture's centre square at `side` [pixels] with its mask's outline (RGB); `unlabelled` (H, W) is greyed."""
    small, alpha = _squared(image, mask, side)
    grey = None if unlabelled is None else _squared(image, unlabelled, side)[1] > 0.5
    return outline(small, alpha > 0.5, grey)


def _squared(image: Image.Image, mask: NDArray[np.bool_], side: int) -> tuple[Image.Image, NDArray[np.float32]]:
    """The centre square of a picture (RGB) and of its mask (side, side), 0 to 1."""
    width, height = image.size
    short = min(width, height)
    box = ((width - short) / 2, (height - short) / 2, (width + short) / 2, (height + short) / 2)
    small = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC, box=box)
    # Bilinear on grey and cut again: a small mask gets a smooth edge rather than stairs.
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize((side, side), Image.Resampling.BICUBIC, box=box)
    return small, np.asarray(grey, np.float32) / np.float32(255)


def checkerboard(size: tuple[int, int]) -> Image.Image:
    """The checkerboard of (width, height) that stands for transparency (RGBA)."""
    cell = max(4, min(size) // 16)
    y, x = np.indices(size[::-1]) // cell
    grey = np.where((x + y) % 2, 232, 250).astype(np.uint8)
    return Image.fromarray(grey).convert("RGBA")


def captioned(tile: Image.Image, text: str, height: int = 14) -> Image.Image:
    """A tile (RGB) with a line of small print below it, `height` [pixels], cut where it is too long."""
    result = Image.new("RGB", (tile.width, tile.height + height), (255, 255, 255))
    result.paste(tile, (0, 0))
    font = ImageFont.load_default(height - 4)
    plain = text.encode("ascii", "replace").decode()  # the font has few letters
    ImageDraw.Draw(result).text((1, tile.height), plain, (40, 40, 40), font)
    return result


def tile_of(photo: Photo, mask: NDArray[np.bool_], side: int) -> Image.Image:
    """The whole picture with its mask's outline within a square of `side` [pixels], on grey (RGB)."""
    shrink = min(1.0, side / max(photo.size))
    size = max(1, round(photo.size[0] * shrink)), max(1, round(photo.size[1] * shrink))
    small = photo.resized(size, gap=2.0, resample=Image.Resampling.BICUBIC)
    inside = mask.astype(np.uint8)
    inside *= 255
    grey = Image.fromarray(inside).resize(size, Image.Resampling.BILINEAR)
    tile = Image.new("RGB", (side, side), (238, 238, 238))
    tile.paste(outline(small, np.asarray(grey) > 127), ((side - small.width) // 2, (side - small.height) // 2))
    return tile


def encoded(image: Image.Image, kind: str, **settings: int) -> bytes:
    """The picture as a file of a format that Pillow names so."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()
