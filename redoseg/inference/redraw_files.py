"""A photograph in, redrawings out: images and a sheet of them, or an animation."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from redoseg.errors import DataError, RedosegError
from redoseg.files import alone, at_home, printable, why_not_write, write_atomic
from redoseg.images.cut_short import notes_of
from redoseg.images.draw import grid, outline
from redoseg.images.kinds import IMAGE_SUFFIXES
from redoseg.images.photo import Photo
from redoseg.images.read import read_photo
from redoseg.inference.redraw import STEPS, RedrawModel, What, around, at_most, between, check_count

GIF_LARGEST = 360  # longer side of an animation, every frame of which is stored [pixels]
TILE = 256  # longer side of an image on the sheet [pixels]
FRAME_MS = 70
_DOTS = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) - 8  # Bayer's, in grey levels


class Redrawn(NamedTuple):
    """What was made of a photograph."""

    files: list[Path]
    """What was written, the sheet or animation last."""
    notes: tuple[str, ...]
    """What a user should know of the photographs."""


def redraw_photo(
    model: RedrawModel,
    photo: str | Path,
    out: str | Path,
    *,
    count: int = 8,
    seed: int = 0,
    what: What = "object",
    like: str | Path | None = None,
    gif: bool = False,
    overwrite: bool = False,
) -> Redrawn:
    """Redraw a photograph into the folder `out`.

    NAME-1.png ... NAME-n.png, and NAME-redrawn.png: photograph, mask, drawings. With `gif` one looping NAME-redrawn.gif
    that goes through the latents instead. With `like` the drawings go in `count` equal steps from the latents read off
    the photograph itself to those read off `like`, which the last one has; the animation goes there and back.
    An input is never overwritten, another file only if `overwrite` is set. Raises RedosegError.
    """
    photo, out, like = at_home(photo), at_home(out), None if like is None else at_home(like)
    check_count(count)
    if not photo.is_file():
        seen = "is a folder" if photo.is_dir() else "does not exist"
        raise DataError(f"{printable(photo)} {seen}, but must be a photograph: choose one")
    if not out.exists() and out.suffix.lower() in (".gif", *IMAGE_SUFFIXES):
        raise RedosegError(f"{printable(out)} is the name of a file, but the results need a folder: choose a folder")
    if out.exists() and not out.is_dir():
        raise RedosegError(f"{printable(out)} is a file, but the results need a folder: choose a folder")
    numbered = [] if gif else [f"{photo.stem}-{number}.png" for number in range(1, count + 1)]
    targets = [out / name for name in (*numbered, f"{photo.stem}-redrawn.{'gif' if gif else 'png'}")]
    inputs = {os.path.realpath(path) for path in (photo, like) if path is not None}
    for target in targets:
        problem = why_not_write(target, inputs, overwrite, "one of the photographs")
        if problem:
            raise RedosegError(f"{printable(target)} {problem}")
    decoded = read_photo(photo)
    noted = [(printable(photo), decoded.note)] if decoded.note else []
    other = None
    if like is not None:
        theirs = read_photo(like)
        noted += [(printable(like), theirs.note)] if theirs.note else []
        other = theirs
    image = Photo(at_most(decoded, GIF_LARGEST)) if gif else decoded
    latents = model.random_latents(count, seed)
    if other is not None:
        start, end = model.read_latents(image), model.read_latents(other)
        latents = np.stack([start, end]) if gif else between(start, end, np.arange(1, count + 1) / count)
    steps = STEPS * (1 if other is None else 2)  # there is only one way
    drawings = model.draw(image, around(latents, steps) if gif else latents, what)
    files = [_animation(drawings)] if gif else [*map(_png, drawings), _png(_sheet(model, decoded, other, drawings))]
    with alone(out):
        _refuse(targets, inputs, overwrite)  # another process may have written them since
        for target, content in zip(targets, files, strict=True):
            write_atomic(target, content)
    return Redrawn(targets, notes_of(noted))


def _refuse(targets: Sequence[Path], inputs: set[str], overwrite: bool) -> None:
    """Raises RedosegError where a result may not be written."""
    for target in targets:
        problem = why_not_write(target, inputs, overwrite, "one of the photographs")
        if problem:
            raise RedosegError(f"{printable(target)} {problem}")


def _sheet(model: RedrawModel, photo: Photo, other: Photo | None, drawings: Sequence[Image.Image]) -> Image.Image:
    """Photograph, mask and drawings side by side; `other` comes after the mask."""
    small, alpha = at_most(photo, TILE), photo.alpha
    mask = model.segmenter(small)
    if alpha is not None:
        mask &= np.asarray(alpha.resize(small.size, Image.Resampling.BILINEAR)) > 127
    tiles = [small, outline(small, mask)]
    if other is not None:
        tile, shrunk = Image.new("RGB", small.size, (255, 255, 255)), at_most(other, TILE).copy()
        shrunk.thumbnail(small.size, Image.Resampling.LANCZOS, reducing_gap=2.0)
        tile.paste(shrunk, ((tile.width - shrunk.width) // 2, (tile.height - shrunk.height) // 2))
        tiles.append(tile)
    tiles += [drawing.resize(small.size, Image.Resampling.LANCZOS) for drawing in drawings]
    # the width that has the fewest empty tiles, and of those the widest
    columns = min(range(4, 7), key=lambda columns: (-len(tiles) % columns, -columns))
    return grid([tiles[i : i + columns] for i in range(0, len(tiles), columns)])


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3, icc_profile=None)  # drawings are sRGB
    return buffer.getvalue()


def _animation(frames: Sequence[Image.Image]) -> bytes:
    """A looping GIF. One palette and a pattern of dots that stays in place, so that what is kept does not flicker."""
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
