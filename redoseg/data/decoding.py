"""Decode pictures and masks to one size, on all cores."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.data.listing import Item
from redoseg.errors import DataError
from redoseg.files import printable
from redoseg.images.crashes import DecodingNotes
from redoseg.images.photo import fit_square
from redoseg.images.read import MAX_PIXELS, read_photo
from redoseg.system import Room, in_order


class Decoded(NamedTuple):
    """What became of one item."""

    image: NDArray[np.uint8] | None
    """(H, W, 3); None if it cannot be used."""
    mask: NDArray[np.uint8] | None
    """(H, W); None if there is none or it cannot be used."""
    problems: tuple[tuple[Path, str], ...] = ()
    """Files that cannot be used, each with its reason."""
    note: str = ""
    """What a user should know of the picture, after its name."""


def decode_item(
    item: Item, size: int, *, nearest: bool = False, notes: DecodingNotes | None = None, room: Room | None = None
) -> Decoded:
    """The centre square of an item's picture and mask at `size` [pixels]. Raises nothing that a file can cause.

    `nearest` takes nearest pixels of the whole picture, as the published runs did, instead of smoothed ones. A
    picture whose mask cannot be used is kept as not labelled. Both files are in `notes` while they are decoded. A
    picture waits until there is `room` for its pixels.
    """
    with contextlib.nullcontext() if room is None else room.shared() as take:
        return _decode_item(item, size, nearest, notes, take)


def _decode_item(
    item: Item, size: int, nearest: bool, notes: DecodingNotes | None, take: Callable[[int], None] | None
) -> Decoded:
    reduced = None if nearest else size
    try:
        with notes.decoding(item.image, reduced) if notes else contextlib.nullcontext():
            photo = read_photo(item.image, reduced, take=take)
        resample = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
        image = np.asarray(photo.square(size, resample))
    except DataError as error:
        return Decoded(None, None, ((item.image, _why(error, item.image)),))
    if item.mask is None:
        return Decoded(image, None, (), photo.note)
    kept = "; its picture is kept as not labelled"
    try:
        with notes.decoding(item.mask) if notes else contextlib.nullcontext():
            mask = item.labels()
    except DataError as error:
        return Decoded(image, None, ((item.mask, _why(error, item.mask) + kept),), photo.note)
    if other_proportions((mask.shape[1], mask.shape[0]), photo.size):
        why = f"mask of {mask.shape[1]}x{mask.shape[0]} beside a picture of other proportions{kept}"
        return Decoded(image, None, ((item.mask, why),), photo.note)
    return Decoded(image, square_mask(mask, size), (), photo.note)


def other_proportions(mask: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a mask of this width and height cannot be that of an image of these proportions, of whatever size."""
    (width, height), (w, h) = mask, size
    # A JPEG that was decoded reduced is up to a pixel off.
    return bool(abs(np.log(width * h / (height * w))) > max(0.03, 1.5 / min(w, h)))


def square_mask(mask: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The centre square of a mask (H, W) at `size` [pixels], nearest pixels."""
    return np.asarray(fit_square(Image.fromarray(mask), size, Image.Resampling.NEAREST))


def _why(error: DataError, path: Path) -> str:
    return str(error).removeprefix(f"{printable(path)}: ")


def decode(
    items: Iterable[Item], size: int, *, nearest: bool = False, threads: int = 1, notes: DecodingNotes | None = None
) -> Generator[Decoded, None, None]:
    """What `decode_item` gives for each item, in their order, by so many threads."""
    # Held here once: threads that enter and leave it in turns would restore each other's filters.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        room = Room(MAX_PIXELS)  # so that many large pictures take no more memory than one
        done = in_order(lambda item: decode_item(item, size, nearest=nearest, notes=notes, room=room), items, threads)
        with contextlib.closing(done):
            yield from done
