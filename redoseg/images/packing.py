"""Pictures packed with loss, as JPEG or WebP, which need the whole picture in memory."""

from __future__ import annotations

import io
from typing import Literal

from PIL import Image

from redoseg.errors import DataError

ImageFormat = Literal["png", "jpg", "webp"]
QUALITY = 90  # of JPEG and WebP, 1 to 100
SUFFIXES: dict[str, ImageFormat] = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}

_MOST = 2**26  # pixels, so that a whole picture fits the memory beside the photograph
_LONGEST_WEBP = 16383  # pixels a side
# some metadata give a WebP file the form to which redoseg's mark can be added
_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="redoseg"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


def check_packable(size: tuple[int, int], kind: ImageFormat) -> None:
    """Raises DataError for a picture of this size (width, height) that is too large for the format."""
    if size[0] * size[1] > _MOST:
        raise DataError(
            f"the result has {size[0] * size[1] // 10**6} million pixels, but {kind} is written up to "
            f"{_MOST // 10**6} million; choose png"
        )
    if kind == "webp" and max(size) > _LONGEST_WEBP:
        raise DataError(f"the result is {max(size):,} pixels long, but WebP has at most {_LONGEST_WEBP:,}; choose png")


def packed(image: Image.Image, kind: ImageFormat, quality: int) -> bytes:
    """An image (RGB, or RGBA for WebP) as a file, with the profile that it has."""
    buffer = io.BytesIO()
    profile = image.info.get("icc_profile")
    if kind == "webp":
        image.save(buffer, "WEBP", quality=quality, method=4, xmp=_XMP, icc_profile=profile or b"")
    else:
        image.save(buffer, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2, icc_profile=profile)
    return buffer.getvalue()
