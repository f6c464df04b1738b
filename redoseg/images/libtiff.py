"""libtiff prints what it finds wrong in a file to stderr, without the file's name. Here it is silenced."""

from __future__ import annotations

import contextlib
import ctypes
import re
from functools import cache
from pathlib import Path


@cache
def silence_libtiff() -> None:
    """Pillow's libtiff prints no more: what it cannot read is an error of Pillow's, which has a line of ours.

    Only where the system says which libraries are loaded (Linux); elsewhere nothing changes.
    """
    from PIL import _imaging  # noqa: F401  # which loads it

    with contextlib.suppress(OSError, AttributeError):
        for path in set(re.findall(r"(/\S*libtiff\S*)$", Path("/proc/self/maps").read_text(), re.M)):
            library = ctypes.CDLL(path)
            for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                setter = getattr(library, name)
                setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
                setter(None)
