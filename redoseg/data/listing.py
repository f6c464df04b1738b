"""What is to be prepared: the pictures that a reader found, and where their masks are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redoseg.images.read import read_mask

MaskReader = Callable[[Path], NDArray[np.uint8]]


@dataclass(frozen=True)
class Item:
    """One picture to prepare, and where its mask is."""

    name: str
    image: Path
    mask: Path | None = None
    split: str = ""
    read_mask: MaskReader = read_mask
    number: str = ""
    """The image's number in the set's own list, without zeros in front; "" if it has none."""


@dataclass(frozen=True)
class Listing:
    """What a reader found in a source folder."""

    items: tuple[Item, ...]
    bad: tuple[tuple[str, str], ...] = ()
    """Files that cannot be used, each with its reason."""
    notes: tuple[str, ...] = ()
    results: int = 0
    """Pictures that redoseg itself wrote, which are not used. The prepared set does not depend on them."""
