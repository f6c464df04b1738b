"""Single pictures and masks: list, read, fit to a square.

Everything that opens a picture goes through here, so that a rotated, grey, 16-bit, transparent or broken file
is treated the same when a data set is prepared and when a photograph is segmented.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple

from PIL import Image, ImageChops, ImageFile, PngImagePlugin, UnidentifiedImageError

from redoseg.errors import DataError, FormatError, TooLargeError
from redoseg.files import describe_error, printable, why_not_there
from redoseg.images import cut_short
from redoseg.images.big_tiff import is_tiff, read_big_tiff
from redoseg.images.camera_raw import is_camera_raw
from redoseg.images.colour import MAX_EXIF, MAX_PROFILE
from redoseg.images.decoding_cost import MOST_BYTES, advice, bytes_to_decode, kind_not_read
from redoseg.images.kinds import HEAD, RAW, is_heic, listed, listed_by_name, register_heif, what_it_is
from redoseg.images.libtiff import silence_libtiff
from redoseg.images.photo import UPRIGHT, Box, Photo, eight_bit, is_deep, to_photo
from redoseg.own_results import is_own_folder, is_result
from redoseg.storage import Address, Place, is_address

# A 108-megapixel phone picture passes; a file that claims more is taken for a decompression bomb.
MAX_PIXELS = 2**27
# Some decoders read the whole file into memory. 16-bit RGBA without compression is 8 bytes a pixel.
MAX_BYTES = 8 * MAX_PIXELS

BACKGROUND, UNLABELLED, OBJECT = 0, 127, 255

_BLOCK = 2**26  # bytes that Pillow asks for at a time; glibc keeps up to half of it for later, in each thread
_MAX_PLAIN = 2**25  # bytes; Pillow reads some 5 MB of them a second
_MAX_TABLE = 2**20  # numbers in a TIFF: a picture of MAX_PIXELS in tiles of 16 x 16 has half of that
_MAX_SCANNED = 32 * MAX_PIXELS  # pixels times passes; a progressive JPEG has about ten

# Only formats that are decoded in memory: Pillow would start Ghostscript for an EPS file named photo.jpg.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")


# -------------------------------------------------------------------------------------------------- listing


class Found(NamedTuple):
    """What a folder holds."""

    images: list[Path]
    problems: list[tuple[Path, str]]
    """Files and folders that cannot be looked at, each with its reason."""
    results: int = 0
    """Pictures that redoseg wrote, which are not among `images`."""


def note_results(count: int) -> tuple[str, ...]:
    """A note on so many pictures that redoseg wrote and that are not used; none for 0."""
    return (f"pictures not used, since redoseg made them (masks, cut-outs, sheets): {count:,}",) if count else ()


def list_images(folder: str | Path, with_results: bool = False) -> Found:
    """Every picture below `folder`, sorted; hidden ones are left out and links followed once.

    A file is a picture by its suffix, or by its first bytes where the suffix says nothing. Pictures of formats that
    are not read are among the problems. All other files are passed over.
    What redoseg itself wrote, in any folder, is counted and not listed, except `with_results`: a folder of masks may
    be its work. Raises DataError if the folder is missing or no picture is found in it.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        seen = why_not_there(folder)
        raise DataError(f"{printable(folder)} {seen}; expected a folder of pictures; choose another")
    found: list[Path] = []
    problems: list[tuple[Path, str]] = []
    results = 0
    visited: set[tuple[int, int]] = set()
    own_folders: set[Path] = set()
    waiting = [folder]  # not os.walk, which recurses and fails on a thousand levels
    while waiting:
        here = waiting.pop()
        try:
            seen_as = os.stat(here)
            if (seen_as.st_dev, seen_as.st_ino) in visited:  # a link back up, or a second link to the same folder
                continue
            visited.add((seen_as.st_dev, seen_as.st_ino))
            names = sorted(name for name in os.listdir(here) if not name.startswith("."))
        except OSError as error:
            problems.append((here, f"cannot be listed ({describe_error(error)}): change its permissions"))
            continue
        folders: list[Path] = []
        own = here in own_folders or (here != folder and not with_results and is_own_folder(names))
        for name in names:
            path = here / name
            if os.path.isdir(path):
                folders.append(path)
                if own:
                    own_folders.add(path)
                continue
            kind = listed(path)
            if kind is True:
                try:
                    if stat.S_ISREG(path.stat().st_mode):
                        if own or (not with_results and is_result(path)):
                            results += 1
                        else:
                            found.append(path)
                    else:
                        problems.append((path, "not a file; remove it"))
                except OSError as error:  # a link to nothing or to itself, a folder that cannot be entered
                    problems.append((path, f"cannot be opened ({describe_error(error)}): repair or remove it"))
            elif kind and not own:
                problems.append((path, kind))
        waiting += reversed(folders)
    if not found:
        first = f" ({printable(problems[0][0])} {problems[0][1]})" if problems else ""
        if results:
            raise DataError(
                f"no picture found in {printable(folder)} except {results:,} that redoseg made (masks, cut-outs, "
                "sheets); choose the folder of the photographs"
            )
        raise DataError(
            f"no picture found in {printable(folder)}{first}; expected files ending in .jpg, .png, .webp, ...; "
            "add pictures or choose another folder"
        )
    return Found(sorted(found), sorted(problems), results)


# -------------------------------------------------------------------------------------------------- reading


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    with contextlib.suppress(AttributeError):  # so large that the system has the memory back at once
        Image.core.set_block_size(_BLOCK)  # type: ignore[attr-defined]
    PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, MAX_PROFILE)  # else a large profile is an error
    silence_libtiff()
    return tuple(f for f in _FORMATS if f in Image.OPEN)


@contextmanager
def one_line(path: Place, most: int = MAX_PIXELS) -> Iterator[None]:
    """Whatever goes wrong with the file within is a DataError of one line, and nothing warns."""
    try:
        # Pillow warns of much that is handled here (large pictures, odd palettes, damaged EXIF).
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise TooLargeError(
            f"{printable(path)}: it has more than {most // 10**6} million pixels, the most that are read; "
            "make it smaller or remove it"
        ) from None
    except UnidentifiedImageError:
        raise FormatError(f"{printable(path)}: not a picture of a known format; replace or remove it") from None
    except PermissionError as error:
        raise DataError(
            f"{printable(path)}: cannot be read ({describe_error(error)}); change its permissions"
        ) from error
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise DataError(f"{printable(path)}: cannot be read ({describe_error(error)}); replace or remove it") from error


def _check_bytes(path: Place, count: int) -> None:
    """Raises DataError for a file that cannot be a picture, or is too large."""
    if count == 0:
        raise DataError(f"{printable(path)}: an empty file; replace or remove it")
    if count > MAX_BYTES:
        raise TooLargeError(
            f"{printable(path)}: it has {count // 10**6} MB, but at most {MAX_BYTES // 10**6} MB are read; "
            "make it smaller or remove it"
        )


@contextmanager
def _opened(path: Place, content: bytes | None = None) -> Iterator[IO[bytes]]:
    """A file of a size that a picture may have. A FIFO or a device is refused and never waited for."""
    if content is None and isinstance(path, Address):
        content = path.read_bytes(MAX_BYTES)
    if content is not None:
        _check_bytes(path, len(content))
        yield io.BytesIO(content)
        return
    assert isinstance(path, Path)
    if not path.is_file():
        raise OSError("not a file" if path.exists() else "no such file")
    # Without blocking, and looked at again: by now it may be a FIFO.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        seen = os.fstat(file.fileno())
        if not stat.S_ISREG(seen.st_mode):
            raise OSError("not a file")
        _check_bytes(path, seen.st_size)
        yield file


def _defused(file: IO[bytes]) -> IO[bytes]:
    """What to read in the file's place. Raises OSError for a small file that takes minutes or all memory to open."""
    head = file.read(16)
    file.seek(0)
    if head[:2] in (b"P1", b"P2", b"P3"):
        text = file.read(_MAX_PLAIN + 1)
        if len(text) > _MAX_PLAIN:
            raise OSError(f"more than {_MAX_PLAIN // 10**6} MB of numbers in plain text")
        # Pillow takes comments out one by one, copying the rest each time.
        return io.BytesIO(re.sub(rb"(?:#[^\r\n]*+[\r\n]*+)++", b" ", text))
    if head[:2] in (b"II", b"MM") and head[2:4].strip(b"\0") in (b"*", b"+"):
        # As Pillow takes it, which knows a BigTIFF by its third byte.
        order = "<" if head[:2] == b"II" else ">"
        where, count, entry = ("8xQ", "Q", "HHQ8x") if head[2:3] == b"+" else ("4xL8x", "H", "HHL4x")
        try:
            file.seek(struct.unpack(order + where, head)[0])
            entries = struct.unpack(order + count, file.read(struct.calcsize(order + count)))[0]
        except struct.error:
            raise OSError("the file is truncated") from None
        step = struct.calcsize(order + entry)
        table = file.read(min(entries, 2**16) * step)
        for _, kind, length in struct.iter_unpack(order + entry, table[: len(table) // step * step]):
            if kind not in (1, 2, 7) and length > _MAX_TABLE:  # bytes and text cost no more than they hold
                raise OSError(f"a table of {length} numbers")
        file.seek(0)
    return file


def _refuse_scans(file: IO[bytes], pixels: int) -> None:
    """Raises OSError for a JPEG of so many passes over so many pixels that decoding takes minutes."""
    file.seek(0)
    scans = sum(block.count(b"\xff\xda") for block in iter(lambda: file.read(2**20), b""))
    if scans * pixels > _MAX_SCANNED:
        raise OSError(f"{scans} passes over {pixels // 10**6} million pixels")


def _memory_of(image: ImageFile.ImageFile, file: IO[bytes], pixels: int, path: Place, most: int) -> int:
    """How many bytes decoding takes. Raises DataError for more than `most`."""
    needed = bytes_to_decode(image, file, pixels)
    if needed <= most:
        return needed
    kind = image.format or ""
    name = {"HEIF": "HEIC", "MPO": "JPEG", "WEBP": "WebP"}.get(kind, kind)
    raise TooLargeError(
        f"{printable(path)}: decoding it takes {needed // 10**6:,} MB, as it is a {name} of {pixels // 10**6} million "
        f"pixels, but at most {most // 10**6} MB are used; {advice(kind)}"
    )


def big_tiff(path: Path, most: int = MAX_PIXELS) -> Photo | None:
    """A TIFF file that `read_photo` would refuse for its size, which stays on disk; None for any other file.

    Raises DataError like `read_photo`, MissingError without tifffile.
    """
    if not (path.is_file() and is_tiff(path)):
        return None
    if path.stat().st_size <= MAX_BYTES:
        with (
            one_line(path, most),
            contextlib.suppress(Image.DecompressionBombError),
            _opened(path) as file,
            _image(path, file) as image,
        ):
            if image.width * image.height <= most:
                return None
    return read_big_tiff(path)


def read_numbers(path: str | Path) -> Image.Image:
    """An image file, upright, in the mode that it has: for a mask, whose numbers count. Raises DataError."""
    path = Path(path)
    with one_line(path):
        image, _, turn, _ = _decode(path, None, deep=True)
        if turn is None:
            return image
        upright = image.transpose(turn)
        upright.format = image.format
        return upright


def _decode(
    path: Place,
    size: int | None,
    *,
    most: int = MAX_PIXELS,
    deep: bool = False,
    content: bytes | None = None,
    take: Callable[[int], None] | None = None,
    most_bytes: int | None = None,
) -> tuple[Image.Image, Box | None, Image.Transpose | None, str]:
    """The file's first frame, 8 bits a channel, its extent, what turns it, and a note on it or "".

    With `size` a JPEG comes reduced. A JPEG that ends a little early is taken, with a note. `deep` leaves grey of more
    bits what it is, except where white is zero.
    """
    with _opened(path, content) as file, _image(path, file) as image:
        if image.width * image.height > most:
            raise Image.DecompressionBombError
        if image.width * image.height == 0:
            raise OSError("no pixels")
        pixels = image.width * image.height
        if image.format in ("JPEG", "MPO"):
            _refuse_scans(file, pixels)
        _refuse_planes(image)
        _scale_key(image)
        reduced = None if size is None else image.draft(None, (2 * size, 2 * size))
        needed = _memory_of(image, file, pixels, path, MOST_BYTES if most_bytes is None else most_bytes)
        if take is not None:
            take(max(image.width * image.height, needed * MAX_PIXELS // MOST_BYTES))
        missing, cut = -1, False
        try:
            image.load()
        except OSError:
            cut = image.format in ("JPEG", "MPO")
            if not cut:
                raise
        if cut:  # not while the error is handled, which holds what was decoded so far
            if content is None:
                file.seek(0)
                content = file.read()
            image.close()
            image, missing = cut_short.complete(content, size)
            if deep and missing:  # the numbers of a mask cannot be guessed
                raise OSError(f"the file is truncated: its last {missing} rows are missing")
        if hasattr(image, "_decoder"):  # of WebP and AVIF, which holds the picture twice as long as the image is there
            vars(image)["_decoder"] = None
        how = _orientation(image)
        as_it_is = deep and getattr(image, "tag_v2", {}).get(262) != 0
        found: Image.Image = ImageChops.invert(image) if deep and _is_array_of_bits(image) else image
        if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
            found = image.convert("RGB")  # many programs write 32 bits and leave the last 8 empty
        if is_deep(image) and not as_it_is:
            found = eight_bit(image)
            found.info = {name: value for name, value in image.info.items() if name != "transparency"}
        extent = None if reduced is None else _extent(found.size, reduced[1][2:], how)
        return found, extent, UPRIGHT.get(how), "" if missing < 0 else cut_short.note_of(missing)


def _image(path: Place, file: IO[bytes]) -> ImageFile.ImageFile:
    """An image file that is opened. Raises DataError where it is known what it is instead of one that is read."""
    head = file.read(HEAD)
    file.seek(0)
    if is_heic(head) and register_heif():
        return Image.open(file, formats=("HEIF",))
    if is_camera_raw(file):  # of some Pillow would give the thumbnail
        raise FormatError(f"{printable(path)}: {RAW}")
    try:
        return Image.open(_defused(file), formats=_formats())
    except UnidentifiedImageError:
        raise FormatError(f"{printable(path)}: {_why_unknown(path, file)}") from None


def _why_unknown(path: Place, file: IO[bytes]) -> str:
    """In words what a file is that is of no format that is read, and what to do."""
    file.seek(0)
    head = file.read(2**20)  # in which a JPEG says of what kind it is
    odd = kind_not_read(head) if head.startswith(b"\xff\xd8\xff") else ""
    if odd:
        return f"{odd}, which is not read; save it as a JPEG of 8 bits a channel, PNG or WebP"
    known, by_name = what_it_is(head[:HEAD]), listed_by_name(path.name)
    return known or (by_name if isinstance(by_name, str) else "not a picture of a known format; replace or remove it")


def _orientation(image: Image.Image) -> int:
    """How the file is to be turned, by its EXIF data; 1 is not at all."""
    try:
        if len(image.info.get("exif", b"")) > MAX_EXIF:
            raise ValueError("too long")
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # broken EXIF: the pixels are still good
        return 1


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file [pixels], upright, without decoding it. Raises DataError."""
    with one_line(path), _opened(path) as file, _image(path, file) as image:
        width, height = image.size
        return (height, width) if _orientation(image) in (5, 6, 7, 8) else (width, height)


def _extent(size: tuple[int, int], stored: tuple[float, float], how: int) -> Box:
    """Where the photograph is in one of this size, turned upright: libjpeg fills the last pixels of what it reduces."""
    width, height = stored
    if how in (5, 6, 7, 8):
        width, height, size = height, width, (size[1], size[0])
    left = size[0] - width if how in (2, 3, 6, 7) else 0.0
    top = size[1] - height if how in (3, 4, 7, 8) else 0.0
    return left, top, left + width, top + height


def _refuse_planes(image: ImageFile.ImageFile) -> None:
    """Raises OSError for channels of 16 bits in separate planes, which Pillow takes for planes of 8 bits."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(258, (8,))
    if tags.get(284) == 2 and len(bits) > 1 and max(bits) > 8:
        raise OSError("channels of 16 bits in separate planes")


def _is_array_of_bits(image: ImageFile.ImageFile) -> bool:
    """Whether this is a TIFF of an array of bool. tifffile and scikit-image say of it that 0 is white."""
    tags = getattr(image, "tag_v2", {})
    return image.mode == "1" and tags.get(262) == 0 and str(tags.get(305, "")).startswith("tifffile")


def _scale_key(image: ImageFile.ImageFile) -> None:
    """Scale the transparent colour like the pixels; Pillow makes only those 8 bits deep."""
    key = image.info.get("transparency")
    stored = image.tile[0][3] if image.format == "PNG" and image.tile else None
    if stored in ("L;2", "L;4") and isinstance(key, int):
        image.info["transparency"] = key * (85 if stored == "L;2" else 17)
    elif stored == "RGB;16B" and isinstance(key, tuple):
        image.info["transparency"] = tuple(channel >> 8 for channel in key)


def read_image(path: str | Path, most: int = MAX_PIXELS) -> Image.Image:
    """The colours of `read_photo`."""
    return read_photo(path, most=most).rgb


def read_photo(
    path: str | Place,
    size: int | None = None,
    *,
    most: int = MAX_PIXELS,
    content: bytes | None = None,
    take: Callable[[int], None] | None = None,
    most_bytes: int | None = None,
) -> Photo:
    """An image file, decoded.

    With `size` [pixels] a large JPEG is decoded reduced, its shorter side still at least 2 * size.
    `most` [pixels] is how many the file may claim; it is looked at before anything is decoded.
    `content` is what the file contains, if it is in memory; `path` is then only its name in messages.
    `take` is called with the number of pixels before they are decoded, and may wait until there is room for them. Of a
    file that takes more memory than others it is called with more. `most_bytes` is what decoding may take, MOST_BYTES
    if None.
    Raises DataError, one line with the reason, for a file that is missing or broken: FormatError for one that is not a
    picture, TooLargeError for one with too many bytes or pixels.
    """
    if not isinstance(path, Address):
        path = Address(os.fspath(path)) if is_address(path) else Path(path)
    with one_line(path, most):
        return to_photo(*_decode(path, size, most=most, content=content, take=take, most_bytes=most_bytes))
