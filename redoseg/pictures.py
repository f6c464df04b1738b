"""Single pictures and masks: list, read, fit to a square, draw a mask on, write.

Everything that opens a picture goes through here, so that a rotated, grey, 16-bit, transparent or broken file
is treated the same when a data set is prepared and when a photograph is segmented.
"""

from __future__ import annotations

import os
import secrets
import stat
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, UnidentifiedImageError

from redoseg.errors import DataError

PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif",
)  # fmt: skip

# A 108-megapixel phone picture passes; a file that claims more is taken for a decompression bomb.
MAX_PIXELS = 2**27

BACKGROUND, UNLABELLED, OBJECT = 0, 127, 255

# Only formats that are decoded in memory: Pillow would start Ghostscript for an EPS file named photo.jpg.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")

# EXIF orientation -> what turns the stored picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_LINE = (255, 64, 129)  # outline of an object
_GREY = (128, 128, 128)  # not labelled


def shown(path: str | os.PathLike[str]) -> str:
    """A path as one printable line, whatever bytes are in it."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def reason(error: BaseException) -> str:
    """Why a file could not be read or written, as one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


# -------------------------------------------------------------------------------------------------- listing


class Found(NamedTuple):
    """What a folder holds."""

    pictures: list[Path]
    problems: list[tuple[Path, str]]
    """Files and folders that cannot be looked at, each with its reason."""


def list_pictures(folder: str | Path) -> Found:
    """Every picture below `folder`, by suffix, sorted; hidden ones are left out and links followed once.

    Raises DataError if the folder is missing or no picture is found in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        seen = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"{shown(folder)} {seen}, a folder of pictures expected: name another")
    found: list[Path] = []
    problems: list[tuple[Path, str]] = []

    def unlisted(error: OSError) -> None:
        problems.append((Path(error.filename), f"cannot be listed ({reason(error)}): change its permissions"))

    visited: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True, onerror=unlisted):
        real = os.path.realpath(here)
        if real in visited:  # a link back up, or a second link to the same folder
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in files:
            if name.startswith(".") or os.path.splitext(name)[1].lower() not in PICTURE_SUFFIXES:
                continue
            path = Path(here, name)
            try:
                if stat.S_ISREG(path.stat().st_mode):
                    found.append(path)
                else:
                    problems.append((path, "not a file, a picture expected: remove it"))
            except OSError as error:  # a link to nothing or to itself, a folder that cannot be entered
                problems.append((path, f"cannot be opened ({reason(error)}): repair or remove it"))
    if not found:
        first = f" ({shown(problems[0][0])} {problems[0][1]})" if problems else ""
        raise DataError(
            f"no picture found in {shown(folder)}{first}, files ending in .jpg, .png, .webp, ... expected: "
            "add pictures or name another folder"
        )
    return Found(sorted(found), sorted(problems))


# -------------------------------------------------------------------------------------------------- reading


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(f for f in _FORMATS if f in Image.OPEN)


def _upright(image: Image.Image) -> Image.Image:
    try:
        how = _UPRIGHT.get(image.getexif().get(0x0112, 1))
    except Exception:  # broken EXIF: the pixels are good all the same
        how = None
    return image if how is None else image.transpose(how)


def _decode(path: Path, size: int | None) -> Image.Image:
    """The file's first frame, upright, in its own mode; with `size` a JPEG comes reduced."""
    try:
        # Pillow warns of much that is handled below (large pictures, odd palettes, damaged EXIF).
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not path.is_file():
                raise OSError("no such file" if not path.exists() else "not a file")
            with Image.open(path, formats=_formats()) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                if size is not None:
                    image.draft(None, (2 * size, 2 * size))
                image.load()
                return _upright(image)
    except Image.DecompressionBombError:
        raise DataError(
            f"{shown(path)}: claims more than {MAX_PIXELS // 10**6} million pixels, a photograph expected: "
            "make it smaller or remove it"
        ) from None
    except UnidentifiedImageError:
        what = "an empty file" if path.stat().st_size == 0 else "not a picture of a known format"
        raise DataError(f"{shown(path)}: {what}, a picture expected: replace or remove it") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise DataError(
            f"{shown(path)}: cannot be read ({reason(error)}), a whole picture expected: replace or remove it"
        ) from error


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or of floats, scaled (not clipped) to 8 bits."""
    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
    top = float(values.max())
    if image.mode == "F":
        full = 1.0 if top <= 1 else max(top, 255.0)
    elif image.mode.startswith("I;16") or image.format == "PNG" or top > 255:
        full = max(top, 65535.0)
    else:
        full = 255.0
    return Image.fromarray(np.rint(values.clip(0) * (255 / full)).astype(np.uint8))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any picture as 8-bit RGB: transparency over white, 16 bits scaled, CMYK, palette and grey converted."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bit(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def read_picture(path: str | Path, size: int | None = None) -> Image.Image:
    """A picture file as upright 8-bit RGB.

    With `size` [pixels] a large JPEG is decoded reduced, its shorter side still at least 2 * size.
    Raises DataError, one line with the reason, for a file that is missing, broken, no picture or too large.
    """
    path = Path(path)
    image = _decode(path, size)
    try:
        return to_rgb(image)
    except (OSError, ValueError, MemoryError) as error:
        raise DataError(f"{shown(path)}: cannot be converted to RGB ({reason(error)}): replace or remove it") from error


def fit_square(image: Image.Image, size: int, resample: Image.Resampling = Image.Resampling.BILINEAR) -> Image.Image:
    """The paper's pre-processing: shorter side to `size` [pixels], then the centre, in one pass.

    Bilinear is Pillow's, which averages when it reduces. For masks give NEAREST.
    """
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), resample, box=box, reducing_gap=3.0)


def read_mask(path: str | Path, size: int | None = None) -> NDArray[np.uint8]:
    """A mask file as (H, W) of 0 background, 255 object, 127 not labelled; nearest pixels only.

    Grey 126 to 129 is not labelled, all else is cut at 128; a mask of only 0 and 1 has its object at 1; in a
    coloured palette entry 0 is the background. With `size` the result is the centre square of that side.
    Raises DataError like `read_picture`.
    """
    image = _decode(Path(path), None)
    if image.mode == "P":
        colours = np.array(image.getpalette("RGB") or [0, 0, 0], np.uint8).reshape(-1, 3)
        if np.ptp(colours[np.unique(np.asarray(image)) % len(colours)].astype(int), axis=1).any():
            image = Image.fromarray(np.where(np.asarray(image) > 0, OBJECT, BACKGROUND).astype(np.uint8))
        else:
            image = image.convert("RGB").convert("L")
    elif image.mode not in ("L", "F") and not image.mode.startswith("I"):
        image = image.convert("L")
    if size is not None:
        image = fit_square(image, size, Image.Resampling.NEAREST)
    values = np.asarray(image)
    if values.max() == 1:
        return np.where(values > 0, OBJECT, BACKGROUND).astype(np.uint8)
    if image.mode != "L":
        values = np.asarray(_eight_bit(image))
    mask = np.where(values >= 128, OBJECT, BACKGROUND).astype(np.uint8)
    mask[(values >= 126) & (values <= 129)] = UNLABELLED
    return mask


# -------------------------------------------------------------------------------------------------- drawing


def outline(
    image: Image.Image,
    mask: NDArray[np.bool_],
    unlabelled: NDArray[np.bool_] | None = None,
    dim: float = 0.55,
    colour: tuple[int, int, int] = _LINE,
) -> Image.Image:
    """The picture with everything but the object dimmed and the object's edge drawn; `mask` is (H, W)."""
    radius = max(0.7, min(image.size) / 220)
    inside = Image.fromarray(mask.astype(np.uint8) * 255)
    soft = np.asarray(inside.filter(ImageFilter.BoxBlur(radius)), np.float32) / 255
    edge = (2 - 2 * np.abs(2 * soft - 1)).clip(0, 1)[..., None]
    pixels = np.array(image.convert("RGB"), np.float32)
    pixels *= 1 - dim * (1 - soft[..., None])
    if unlabelled is not None:
        pixels[unlabelled] = pixels[unlabelled] * 0.4 + np.array(_GREY, np.float32) * 0.6
    pixels += (np.array(colour, np.float32) - pixels) * edge
    return Image.fromarray(pixels.round().astype(np.uint8))


def cutout(image: Image.Image, alpha: NDArray[np.floating[Any]] | NDArray[np.bool_]) -> Image.Image:
    """The picture as RGBA, opaque where `alpha` (H, W) is 1."""
    result = image.convert("RGB")
    result.putalpha(Image.fromarray(np.rint(alpha.astype(np.float32) * 255).astype(np.uint8)))
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


# -------------------------------------------------------------------------------------------------- writing


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all. Raises DataError if it cannot be written."""
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"{shown(path)}: cannot be written ({reason(error)}): free space or name another place"
        ) from error
