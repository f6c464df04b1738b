"""Photographs with a private word in all places where files have metadata."""

from __future__ import annotations

import struct
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

SECRET = b"a private word"


def _noted_in_a_jpeg(folder: Path, image: Image.Image, exif: Image.Exif) -> Path:
    """In each of the blocks that a camera or an editor writes, and behind the picture."""
    image.save(folder / "x.jpg", exif=exif, xmp=b"<x>" + SECRET, comment=SECRET)
    blocks = ((0xED, b"Photoshop 3.0\0" + SECRET), (0xE2, b"MPF\0" + SECRET), (0xE5, SECRET))
    packed = b"".join(b"\xff" + bytes([m]) + struct.pack(">H", len(b) + 2) + b for m, b in blocks)
    content = (folder / "x.jpg").read_bytes()
    (folder / "x.jpg").write_bytes(content[:2] + packed + content[2:] + SECRET)
    return folder / "x.jpg"


def _noted_in_a_png(folder: Path, image: Image.Image, exif: Image.Exif) -> Path:
    text = PngInfo()
    text.add_text("Comment", SECRET.decode())
    text.add_itxt("XML:com.adobe.xmp", SECRET.decode())
    image.save(folder / "x.png", pnginfo=text, exif=exif)
    return folder / "x.png"


def _noted_in_a_webp(folder: Path, image: Image.Image, exif: Image.Exif) -> Path:
    image.save(folder / "x.webp", exif=exif, xmp=b"<x>" + SECRET)
    return folder / "x.webp"


def _noted_in_a_tiff(folder: Path, image: Image.Image, exif: Image.Exif) -> Path:
    image.save(folder / "x.tif", exif=exif, description=SECRET.decode())
    return folder / "x.tif"


NOTED = {"jpeg": _noted_in_a_jpeg, "png": _noted_in_a_png, "webp": _noted_in_a_webp, "tiff": _noted_in_a_tiff}


def noted(kind: str, folder: Path, image: Image.Image) -> Path:
    """The image as a file of this kind in a new folder."""
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    exif.get_ifd(0x8825)[29] = SECRET.decode()  # beside the place
    folder.mkdir()
    source = NOTED[kind](folder, image, exif)
    assert SECRET in source.read_bytes()
    return source
