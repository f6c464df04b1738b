"""The colours of a file: sRGB for the network, and the file's own values with the profile that describes them.

A profile is used only if it can be read, is of the kind of values that the file has, and keeps light light and dark
dark. Otherwise the values are taken for sRGB.
"""

from __future__ import annotations

import contextlib
import io
import struct
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

MAX_EXIF = 2**22  # bytes; in a JPEG it is 2**16

MAX_PROFILE = 2**23  # bytes; those of printers have up to 3 MB
_SAME = 2  # grey levels; what differs less from sRGB is sRGB
_LEAST = 160  # every channel of white is at least so light

# The values that an image of each mode has. Others are converted to RGB by Pillow before.
_SPACES = {"L": "GRAY", "LA": "GRAY", "La": "GRAY", "1": "GRAY", "F": "GRAY", "CMYK": "CMYK", "LAB": "LAB"}
_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "LAB": "LAB"}
_CLASSES = ("mntr", "scnr", "prtr", "spac")  # not links between devices, effects or lists of named colours

_SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_ADOBE_RGB = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_ADOBE_GAMMA = 563 / 256


class Colours(NamedTuple):
    """The colours of an image, without its opacity."""

    srgb: Image.Image
    """RGB."""
    own: Image.Image
    """RGB: the file's own values where those are red, green and blue, else `srgb`."""
    profile: bytes | None
    """The ICC profile of `own`; None where it is sRGB without one."""


def space_of(image: Image.Image) -> str:
    """What an image's values are: GRAY, RGB, CMYK or LAB."""
    return "GRAY" if image.mode.startswith("I") else _SPACES.get(image.mode, "RGB")


def profile_of(image: Image.Image) -> bytes | None:
    """The ICC profile of an image's values; None if there is none that can be used.

    Where the file has none, it is made from what a PNG says in gAMA and cHRM, and from EXIF data that say Adobe RGB.
    """
    embedded = image.info.get("icc_profile")
    if embedded:
        usable = isinstance(embedded, bytes) and _conversion(embedded, space_of(image)) is not None
        return embedded if usable else None
    made = None
    with contextlib.suppress(Exception):  # damaged or absurd: the values are good
        made = _from_png(image) or _from_exif(image)
    return made if made and _conversion(made, "RGB") is not None else None


def convert_colours(image: Image.Image, profile: bytes | None) -> Colours:
    """The colours of an image without opacity, of 8 bits, of which `profile_of` gives this profile."""
    space = space_of(image)
    found = None if profile is None else _conversion(profile, space) or _conversion(profile, "RGB")
    if found is None:
        rgb = _lab_in_srgb(image) if space == "LAB" else image if image.mode == "RGB" else image.convert("RGB")
        return Colours(rgb, rgb, None)
    if found.space == "RGB":
        own = image if image.mode == "RGB" else image.convert("RGB")
        return Colours(_in_srgb(own, found), own, profile)
    rgb = _in_srgb(image if image.mode == found.mode else image.convert(found.mode), found)
    return Colours(rgb, rgb, None)


def in_srgb(own: Image.Image, profile: bytes | None) -> Image.Image:
    """An image (RGB) of the colours that `profile` describes, in sRGB."""
    return convert_colours(own, profile).srgb


# ------------------------------------------------------------------------------------------------ conversion


class _Conversion(NamedTuple):
    """How values of one space become sRGB."""

    space: str
    transform: ImageCms.ImageCmsTransform | None
    """None where they are sRGB already."""

    @property
    def mode(self) -> str:
        return _MODES[self.space]


@lru_cache(maxsize=8)
def _conversion(profile: bytes, space: str) -> _Conversion | None:
    """How values of this space become sRGB by the profile; None if the profile cannot be used for them."""
    if len(profile) > MAX_PROFILE:
        return None
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        of_space, kind = opened.profile.xcolor_space.strip().upper(), opened.profile.device_class
        if of_space != space or kind not in _CLASSES:
            return None
        transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), _MODES[space], "RGB")
        found = _Conversion(space, transform)
        if not _is_sane(found):
            return None
        return found._replace(transform=None) if _is_srgb(found) else found
    except Exception:  # whatever LittleCMS and Pillow raise on a damaged profile
        return None


def _in_srgb(image: Image.Image, found: _Conversion) -> Image.Image:
    if found.transform is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    if found.space == "GRAY":  # by a table, so that grey stays grey
        levels = np.asarray(found.transform.apply(Image.fromarray(np.arange(256, dtype=np.uint8)[None])))
        return image.point(levels[0, :, 1].tolist()).convert("RGB")
    result = found.transform.apply(image)
    result.info.clear()  # LittleCMS's own sRGB profile
    return result


def _is_sane(found: _Conversion) -> bool:
    """Whether white is light, black dark, and grey between them."""
    if found.space == "LAB":
        return True
    ramp = np.array([[255, 128, 0]], np.uint8)
    if found.space == "CMYK":
        pixels = np.concatenate([np.zeros((1, 3, 3), np.uint8), 255 - ramp[..., None]], axis=-1)
    else:
        pixels = ramp if found.space == "GRAY" else ramp[..., None].repeat(3, -1)
    image = Image.frombytes(found.mode, (3, 1), pixels.tobytes())
    white, grey, black = np.asarray(_in_srgb(image, found), int)[0]
    return bool(
        white.min() >= _LEAST and black.max() < _LEAST / 2 and (grey < white - 8).all() and (grey > black + 8).all()
    )


def _is_srgb(found: _Conversion) -> bool:
    """Whether values hardly change."""
    if found.space not in ("RGB", "GRAY"):
        return False
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    if found.space == "GRAY":
        pixels = np.arange(256, dtype=np.uint8)[None]
    else:
        pixels = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    before = pixels[..., None] if found.space == "GRAY" else pixels
    after = np.asarray(_in_srgb(Image.fromarray(pixels), found), int)
    return bool(np.abs(after - before).max() <= _SAME)


def _lab_in_srgb(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    result = ImageCms.buildTransform(lab, srgb, "LAB", "RGB").apply(image)
    result.info.clear()
    return result


# ------------------------------------------------------------------------------------- profiles that are not there


def _from_png(image: Image.Image) -> bytes | None:
    """The profile of what a PNG says in gAMA and cHRM, if that is not sRGB."""
    gamma = image.info.get("gamma")
    if not gamma or "srgb" in image.info or space_of(image) not in ("RGB", "GRAY"):
        return None
    where = tuple(image.info.get("chromaticity") or _SRGB)
    if np.abs(np.subtract(where, _SRGB)).max() < 0.005 and abs(gamma * 2.2 - 1) < 0.05:  # written for sRGB
        return None
    return matrix_profile(where, 1 / gamma)


def _from_exif(image: Image.Image) -> bytes | None:
    """Adobe RGB where the EXIF data name it."""
    if not 0 < len(image.info.get("exif", b"")) <= MAX_EXIF or space_of(image) != "RGB":
        return None
    tags = image.getexif()
    inner = tags.get_ifd(0x8769)
    # cameras write the second, as the standard says, and programs the first
    says_adobe = inner.get(0xA001) == 2 or (0xA005 in inner and tags.get_ifd(0xA005).get(1) == "R03")
    return matrix_profile(_ADOBE_RGB, _ADOBE_GAMMA) if says_adobe else None


def matrix_profile(where: tuple[float, ...], gamma: float) -> bytes:
    """An ICC profile of RGB values: x and y of white, red, green and blue, and the exponent from value to light.

    Raises ValueError or LinAlgError where these are not primaries of colours.
    """
    if len(where) != 8 or not 0.1 < gamma < 10 or min(where[1::2]) <= 0:
        raise ValueError("not the primaries of colours")
    xyz = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in zip(where[::2], where[1::2], strict=True)])
    white, primaries = xyz[0], xyz[1:].T
    primaries = primaries * np.linalg.solve(primaries, white)
    # by Bradford to the white D50 of all profiles
    cones = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1.0, 0.8249])
    adapt = np.linalg.solve(cones, np.diag((cones @ d50) / (cones @ white)) @ cones)
    primaries = adapt @ primaries

    def fixed(values: NDArray[np.float64]) -> bytes:
        return struct.pack(f">{values.size}i", *np.rint(values.ravel() * 65536).astype(int))

    def text(words: str) -> bytes:
        return struct.pack(">4s4x2L4s2L", b"mluc", 1, 12, b"enUS", 2 * len(words), 28) + words.encode("utf-16-be")

    curve = b"para" + struct.pack(">4xH2x", 0) + fixed(np.array([gamma]))
    tags = {
        b"desc": text("RGB"),
        b"cprt": text("CC0"),
        b"wtpt": b"XYZ " + bytes(4) + fixed(d50),
        b"chad": b"sf32" + bytes(4) + fixed(adapt),
        **{name: b"XYZ " + bytes(4) + fixed(primaries[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, body = struct.pack(">L", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4s2L", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(
        ">L4xL4s4s4s12x4s28x", start + len(body), 0x04300000, b"mntr", b"RGB ", b"XYZ ", b"acsp"
    ) + fixed(d50)
    return head.ljust(128, b"\0") + table + body
