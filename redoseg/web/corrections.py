"""A mask that somebody paints over, and pictures with such masks as `refine --corrected` reads them."""

from __future__ import annotations

import contextlib
import filecmp
import io
import os
import secrets
import shutil
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from redoseg.errors import DataError, FullError
from redoseg.files import describe_error, locked, make_folder, printable, sweep, write_atomic
from redoseg.images.photo import Part, parts
from redoseg.images.read import BACKGROUND, OBJECT, UNLABELLED
from redoseg.web.cuts import seen_name

PAINT = {OBJECT: "#28dc78", UNLABELLED: "#ff9900"}
"""What the colours of a brush mean; without paint it is the ground."""
OPACITY = 0.5  # of paint, so that the photograph is seen below
_LEAST = 48  # of 255: what is less opaque is not paint
_MOST = 2**30  # bytes of pictures and masks in a folder

Bytes = NDArray[np.uint8]


def painted(mask: NDArray[np.bool_]) -> Image.Image:
    """A mask (H, W) as paint on nothing (RGBA)."""
    layer = Image.new("RGBA", (mask.shape[1], mask.shape[0]))
    layer.paste((*_rgb(OBJECT), round(255 * OPACITY)), mask=Image.fromarray(mask))
    return layer


def values_of(layer: Image.Image) -> Bytes:
    """The mask (H, W) that a layer of paint means: OBJECT, UNLABELLED or BACKGROUND."""
    pixels = np.asarray(layer.convert("RGBA"))
    colours = pixels[..., :3].astype(np.int32)
    far = [((colours - np.array(_rgb(value))) ** 2).sum(-1) for value in (OBJECT, UNLABELLED)]
    values = np.where(far[0] <= far[1], np.uint8(OBJECT), np.uint8(UNLABELLED))
    return np.where(pixels[..., 3] < _LEAST, np.uint8(BACKGROUND), values)


def read_layer(path: Path, size: tuple[int, int]) -> Image.Image:
    """The paint in an uploaded PNG file, of a picture of this size (width, height). Raises DataError for any other."""
    try:
        with Image.open(path, formats=["PNG"]) as file:
            if file.size != size:
                raise DataError("The editor shows another photograph. Open the mask again.")
            return file.convert("RGBA")
    except FileNotFoundError:
        raise DataError("The paint has been deleted. Paint a stroke more, then save again.") from None
    except (OSError, ValueError, SyntaxError):
        raise DataError("The paint cannot be read. Open the mask again.") from None


def corrected(mask: NDArray[np.bool_], small: NDArray[np.bool_], layer: Image.Image | None) -> Bytes:
    """The mask (H, W) of a photograph with what somebody painted over a small copy of it.

    Args:
        mask: at the photograph's size.
        small: the copy whose paint was shown.
        layer: the paint as it is now, of the copy's size; None if there is no paint.

    Away from what has changed, every pixel stays what it was.
    """
    values = np.zeros(small.shape, np.uint8) if layer is None else values_of(layer)
    given = np.where(small, np.uint8(OBJECT), np.uint8(BACKGROUND))
    if not values.any():  # also details that the copy does not show
        return np.zeros(mask.shape, np.uint8)
    full = np.where(mask, np.uint8(OBJECT), np.uint8(BACKGROUND))
    if np.array_equal(values, given):
        return full
    # somewhat more than what has changed, so that the new edge and the old one meet
    near = Image.fromarray(values != given).convert("L").filter(ImageFilter.MaxFilter(5))
    size = mask.shape[1], mask.shape[0]
    for part in parts(size):  # one of a large photograph has several copies

        def enlarged(small: Image.Image, how: Image.Resampling, part: Part = part) -> NDArray[np.bool_]:
            return np.asarray(_part_of(small, size, part, how)) > 127

        here = full[part[1] : part[3], part[0] : part[2]]
        changed = enlarged(near, Image.Resampling.NEAREST)
        inside, open_ = (enlarged(_grey(values == value), Image.Resampling.BILINEAR) for value in (OBJECT, UNLABELLED))
        here[changed] = np.where(inside, np.uint8(OBJECT), np.uint8(BACKGROUND))[changed]
        here[changed & open_] = UNLABELLED
    return full


def save(photograph: Path, mask: Bytes, folder: Path) -> int:
    """Add a photograph and its mask to `images/` and `masks/` in a folder; returns how many are there.

    A photograph that is there already gets this mask. Raises DataError where they cannot be written.
    """
    make_folder(folder)
    with locked(folder, wait=True):  # other tabs and other pages may save too, also pictures of the same name
        return _save(photograph, mask, folder)


def _save(photograph: Path, mask: Bytes, folder: Path) -> int:
    images, masks = folder / "images", folder / "masks"
    for inner in (images, masks):
        make_folder(inner)
        sweep(inner)
    total = sum(path.stat().st_size for inner in (images, masks) for path in inner.iterdir())
    if total + photograph.stat().st_size > _MOST:
        raise DataError(f"The corrections take {total // 2**20:,} MB, and at most {_MOST // 2**20:,} MB are kept.")
    target = _target(photograph, images)
    packed = io.BytesIO()
    Image.fromarray(mask).save(packed, "PNG")
    # the mask first: without its photograph it counts nothing
    write_atomic(masks / f"{target.stem}.png", packed.getvalue())
    if not target.exists():
        temporary = images / f".{secrets.token_hex(8)}.tmp"  # not write_atomic, which marks a picture as redoseg's
        try:
            shutil.copyfile(photograph, temporary)
            os.replace(temporary, target)
        except OSError as error:
            raise FullError(f"{printable(target.name)}: cannot be written ({describe_error(error)}).") from None
        finally:
            temporary.unlink(missing_ok=True)
    return sum(not path.name.startswith(".") for path in masks.iterdir())


def archive(folder: Path, target: Path) -> Path:
    """The folder of corrections as a zip file `target`. Its own files then stay for another hour."""
    with zipfile.ZipFile(target, "w") as packed:
        for path in sorted(folder.glob("*/*")):
            with contextlib.suppress(OSError):
                os.utime(path)
                packed.write(path, f"corrected/{path.relative_to(folder).as_posix()}")
    return target


def _target(photograph: Path, images: Path) -> Path:
    """Where a photograph goes: its own name, or one with a number where another picture has that stem."""
    stems = {path.stem.lower(): path for path in images.iterdir()}
    name = seen_name(photograph)
    stem, number = name.stem, 1
    while (other := stems.get(stem.lower())) is not None:
        if other.suffix == name.suffix and filecmp.cmp(other, photograph, shallow=False):
            return other
        number += 1
        stem = f"{name.stem}-{number}"
    return images / f"{stem}{name.suffix}"


def _grey(mask: NDArray[np.bool_]) -> Image.Image:
    return Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))


def _part_of(small: Image.Image, size: tuple[int, int], part: Part, how: Image.Resampling) -> Image.Image:
    """A part of an image that is enlarged to `size` (width, height)."""
    across, down = small.width / size[0], small.height / size[1]
    left, top, right, bottom = part
    box = left * across, top * down, min(right * across, small.width), min(bottom * down, small.height)
    return small.resize((right - left, bottom - top), how, box=box)


def _rgb(value: int) -> tuple[int, int, int]:
    text = PAINT[value]
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
