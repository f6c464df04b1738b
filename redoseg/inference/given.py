"""What a caller of the library gives as an image: a file, bytes, a PIL image, an array or a tensor."""

from __future__ import annotations

import operator
import os
import sys
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.errors import DataError
from redoseg.files import describe_error
from redoseg.images.photo import Photo, to_photo
from redoseg.images.read import read_photo
from redoseg.storage import place_of

ImageLike = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | NDArray[Any] | Photo
"""A path, what a picture file contains or such a file that is open, a PIL image, or an array or tensor."""


def as_photo(image: ImageLike) -> Photo:
    """A file, image, array or tensor as upright RGB. Raises DataError for any other value."""
    if isinstance(image, Photo):
        return image
    if isinstance(image, (str, os.PathLike)):
        return _of_path(image)
    if isinstance(image, memoryview) and image.ndim > 1:  # of an array
        image = np.asarray(image)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return read_photo("the bytes", content=bytes(image))
    if isinstance(image, Image.Image):
        return _of_pil(image)
    if hasattr(image, "read"):
        return _of_open_file(image)  # type: ignore[arg-type]
    if not (hasattr(image, "__array__") or hasattr(image, "__array_interface__")):
        raise DataError(
            f"the image is of type {type(image).__name__}, but must be a path, bytes, an open file, a PIL image, an "
            "array or a tensor; several of these as a list"
        )
    return _of_pil(Image.fromarray(_pixels(image)))


def as_whole(name: str, value: object) -> int:
    """A whole number, as Python or numpy has it. Raises DataError."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise DataError(f"the {name} is {value!r}, but must be a whole number; choose one") from None


def _of_path(path: str | os.PathLike[str]) -> Photo:
    try:
        text = os.fsdecode(path)
    except Exception as error:  # whatever an object of another library raises
        raise DataError(
            f"the path of type {type(path).__name__} cannot be used ({describe_error(error)}): pass a text"
        ) from error
    if not text:
        raise DataError("the path is empty, but must name a picture: pass the path of a file")
    return read_photo(place_of(text))


def _of_pil(image: Image.Image) -> Photo:
    try:
        if image.width * image.height == 0:
            raise ValueError("it has no pixels")
        image.load()
        return to_photo(image)
    except Exception as error:  # a file that is closed or cut off is noticed here, where its pixels are needed
        raise DataError(f"the PIL image cannot be read ({describe_error(error)}): open its file again") from error


def _of_open_file(file: IO[bytes]) -> Photo:
    name = getattr(file, "name", "")
    try:
        content = file.read()
        if content == b"" and file.seekable() and file.tell() > 0:  # it was written or read just before
            file.seek(0)
            content = file.read()
    except Exception as error:  # ValueError where it has been closed; an object with `read` may raise any
        raise DataError(f"the open file cannot be read ({describe_error(error)}): open it again") from error
    if not isinstance(content, (bytes, bytearray, memoryview)):
        seen = "text" if isinstance(content, str) else type(content).__name__
        raise DataError(f'the open file gives {seen}, but must give bytes: open it with mode "rb"')
    return read_photo(name if isinstance(name, str) and name else "the open file", content=bytes(content))


def _pixels(image: Any) -> NDArray[np.uint8]:
    """An array or tensor as uint8 (H, W), (H, W, 3) or (H, W, 4). Raises DataError."""
    torch = sys.modules.get("torch")  # who passes a tensor has imported it
    try:
        if torch is not None and isinstance(image, torch.Tensor):
            image = image.detach().cpu()
            image = image.float() if image.is_floating_point() else image
        array = np.asarray(image)
    except Exception as error:  # whatever an array of another library raises
        raise DataError(
            f"the image of type {type(image).__name__} cannot be read ({describe_error(error)}): pass a numpy array"
        ) from error
    seen = f"{array.dtype} {array.shape}"
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise DataError(
            f"the image is {seen}, but must be (H, W), (H, W, 3) or (H, W, 4): pass one image, as grey, RGB or RGBA"
        )
    if array.dtype.kind == "f":
        if np.isnan(array.min()):
            raise DataError(
                f"the image is {seen}, some of whose values are not numbers (NaN): give these pixels a colour, as by "
                "np.nan_to_num"
            )
        if not (float(array.min()) >= -1e-3 and float(array.max()) <= 1 + 1e-3):
            raise DataError(
                f"the image is {seen} with values from {array.min():g} to {array.max():g}, but floats must be from 0 "
                "to 1: divide them by 255, or undo what a data loader did to them"
            )
        array = np.rint(array.clip(0, 1).astype(np.float32) * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise DataError(
            f"the image is {seen}, but must be uint8, or floats from 0 to 1: scale it to 0 to 255 and "
            "pass .astype(np.uint8)"
        )
    return np.ascontiguousarray(array)
