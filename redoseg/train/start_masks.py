"""Masks that start the second stage in place of the first stage's: one for all pictures, or a folder of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from jaxtyping import Int, UInt8

from redoseg.config.schema import RefineConfig
from redoseg.data.mask_folder import match_masks
from redoseg.errors import DataError
from redoseg.files import printable
from redoseg.images.grabcut import constant_mask
from redoseg.images.masks import read_mask
from redoseg.images.read import OBJECT


@dataclass(frozen=True)
class StartMasks:
    """What `refine.start` names, for the training pictures."""

    refine: RefineConfig
    files: tuple[Path, ...] = ()
    """One a training picture; empty for a constant mask."""

    @classmethod
    def find(cls, refine: RefineConfig, names: tuple[str, ...]) -> StartMasks | None:
        """The masks for training pictures of these names; None where the run's own are to be used.

        A mask has the name of its picture, with or without the folder, and any suffix. Raises DataError for a folder
        that is not there or lacks a mask.
        """
        if refine.start == "run":
            return None
        if refine.start in ("disc", "square"):
            return cls(refine)
        folder = Path(refine.start).expanduser()
        if not folder.is_dir():
            raise DataError(
                f"refine.start is {printable(folder)}, which is not a folder; choose run, disc, square or a folder of "
                "masks"
            )
        files = match_masks(folder, names).files
        missing = [name for name, path in zip(names, files, strict=True) if path is None]
        if missing:
            raise DataError(
                f"refine.start {printable(folder)} has no mask for {len(missing):,} of {len(names):,} training "
                f"pictures ({printable(missing[0])} is the first); add them, named like the pictures"
            )
        return cls(refine, tuple(path for path in files if path is not None))

    def regions(self, indices: Int[np.ndarray, " p"], size: int) -> UInt8[np.ndarray, "p s s"]:
        """Region of each pixel, of these training pictures at `size` [pixels]: 0 is the object, 1 the ground."""
        if not self.files:
            kind = cast(Literal["disc", "square"], self.refine.start)
            one = constant_mask(size, size, kind, self.refine.start_size)
            return np.repeat(~one[None], len(indices), 0).astype(np.uint8)
        return np.stack([read_mask(self.files[i], size) != OBJECT for i in indices]).astype(np.uint8)
