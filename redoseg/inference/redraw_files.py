"""A photograph in, redrawings out: images and a sheet of them, or a film."""

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
from redoseg.images.kinds import names_a_file
from redoseg.images.photo import Photo
from redoseg.images.read import read_photo
from redoseg.inference.animations import LARGEST, Film, check_film, film_of
from redoseg.inference.doubt import DOUBTFUL, is_doubtful
from redoseg.inference.redraw import STEPS, RedrawModel, What, around, at_most, between, check_count

TILE = 256  # longer side of an image on the sheet [pixels]


class Redrawn(NamedTuple):
    """What was made of a photograph."""

    files: list[Path]
    """What was written, the sheet or film last."""
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
    film: Film | None = None,
    overwrite: bool = False,
) -> Redrawn:
    """Redraw a photograph into the folder `out`.

    NAME-1.png ... NAME-n.png, and NAME-redrawn.png: photograph, mask, drawings. With `film` one NAME-redrawn.gif or
    .mp4 that goes through the latents and back to the first instead. With `like` the drawings go in `count` equal steps
    from the latents read off the photograph itself to those read off `like`, which the last one has; the film goes
    there and back. An input is never overwritten, another file only if `overwrite` is set. Raises RedosegError.
    """
    photo, out, like = at_home(photo), at_home(out), None if like is None else at_home(like)
    check_count(count)
    if film is not None:
        check_film(film)
    if not photo.is_file():
        seen = "is a folder" if photo.is_dir() else "does not exist"
        raise DataError(f"{printable(photo)} {seen}, but must be a photograph: choose one")
    if not out.exists() and names_a_file(out.name):
        raise RedosegError(f"{printable(out)} is the name of a file, but the results need a folder: choose a folder")
    if out.exists() and not out.is_dir():
        raise RedosegError(f"{printable(out)} is a file, but the results need a folder: choose a folder")
    numbered = [] if film else [f"{photo.stem}-{number}.png" for number in range(1, count + 1)]
    targets = [out / name for name in (*numbered, f"{photo.stem}-redrawn.{film or 'png'}")]
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
    confidence = model.segmenter.predict(at_most(decoded, TILE)).confidence
    if is_doubtful(confidence):
        noted.append(
            (printable(photo), f"its mask looks doubtful (confidence {confidence:.2f}, below {DOUBTFUL:g}); check it")
        )
    drawings = redrawings(model, decoded, count=count, seed=seed, what=what, like=other, film=film)
    files = [film_of(drawings, film)] if film else [*map(_png, drawings), _png(_sheet(model, decoded, other, drawings))]
    with alone(out):
        _refuse(targets, inputs, overwrite)  # another process may have written them since
        for target, content in zip(targets, files, strict=True):
            write_atomic(target, content)
    return Redrawn(targets, notes_of(noted))


def redrawings(
    model: RedrawModel,
    photo: Photo,
    *,
    count: int,
    seed: int = 0,
    what: What = "object",
    like: Photo | None = None,
    film: Film | None = None,
) -> list[Image.Image]:
    """The drawings of `redraw_photo`, or the frames of a film, as RGB images. Raises RedosegError."""
    image = Photo(at_most(photo, LARGEST[film])) if film else photo
    latents = model.random_latents(count, seed)
    if like is not None:
        start, end = model.read_latents(image), model.read_latents(like)
        latents = np.stack([start, end]) if film else between(start, end, np.arange(1, count + 1) / count)
    steps = STEPS * (1 if like is None else 2)  # there is only one way
    return model.draw(image, around(latents, steps) if film else latents, what)


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
