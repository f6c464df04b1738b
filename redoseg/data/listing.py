"""What is to be prepared: the pictures that a reader found, and where their masks are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redoseg.images.masks import read_mask, read_object

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
    values: str = ""
    """Which values of the mask are the object, as `read_object` takes it; "" where `read_mask` finds out."""

    def labels(self) -> NDArray[np.uint8]:
        """The mask (H, W): 0 background, 255 object, 127 not labelled. Raises DataError."""
        if self.mask is None:
            raise ValueError(f"{self.name} has no mask")
        return read_object(self.mask, self.values) if self.values else self.read_mask(self.mask)


@dataclass(frozen=True)
class Listing:
    """What a reader found in a source folder."""

    items: tuple[Item, ...]
    bad: tuple[tuple[str, str], ...] = ()
    """Files that cannot be used, each with its reason."""
    notes: tuple[str, ...] = ()
    results: int = 0
    """Pictures that redoseg itself wrote, which are not used. The prepared set does not depend on them."""
    mask_values: str = "auto"
    """Which values of masks are the object, as the user says it: auto, nonzero, or numbers as in 1,2."""
