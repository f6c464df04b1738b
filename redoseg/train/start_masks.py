"""Masks that start the second stage in place of the first stage's: one for all pictures, a folder of them, or what
lies on a ground that all pictures share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from redoseg.config.schema import RefineConfig
from redoseg.data import ImageSet
from redoseg.data.mask_folder import match_masks
from redoseg.errors import DataError
from redoseg.files import at_home, printable
from redoseg.images.fixed_ground import LEARNT_FROM, FixedGround
from redoseg.images.grabcut import constant_mask
from redoseg.images.masks import read_mask
from redoseg.images.read import OBJECT

FEWEST = 10  # pictures that suffice to find the ground beneath the objects
LEAST_EXPLAINED = 0.85  # by the ground; trays have 0.99, sets of photographs of one kind 0.56 to 0.72


@dataclass(frozen=True)
class StartMasks:
    """What `refine.start` names, for the training pictures."""

    refine: RefineConfig
    files: tuple[Path, ...] = ()
    """One a training picture; empty without a folder."""
    images: ImageSet | None = None
    """The training pictures, where they share a ground."""
    ground: FixedGround | None = None

    @classmethod
    def on_ground(cls, refine: RefineConfig, images: ImageSet, size: int) -> StartMasks:
        """What lies on the ground of these training pictures, looked at with `size` pixels a side.

        Raises DataError where they are too few, or have no ground in common.
        """
        if len(images) < FEWEST:
            raise DataError(
                f"refine.start ground compares the pictures of a set, but {images.name} has {len(images)}, and at "
                f"least {FEWEST} are needed; add pictures of the same ground, or choose --refine.start disc"
            )
        chosen = np.unique(np.linspace(0, len(images) - 1, LEARNT_FROM).round().astype(int))
        ground = FixedGround.of(images.take(chosen).resized(size).pixels)
        if ground.explained < LEAST_EXPLAINED:
            raise DataError(
                f"the pictures of {images.name} share no ground: the best one explains "
                f"{100 * max(ground.explained, 0):.0f} % of how their pixels vary, but {100 * LEAST_EXPLAINED:.0f} % "
                "are needed; choose pictures of one table from one camera, or --refine.start disc"
            )
        return cls(refine, images=images, ground=ground)

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
        folder = at_home(refine.start)
        if not folder.is_dir():
            raise DataError(
                f"refine.start is {printable(folder)}, which is not a folder; choose run, disc, square, ground or "
                "a folder of masks"
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
        if self.ground is not None and self.images is not None:
            side = len(self.ground.colours)
            found = self.ground.objects(self.images.take(indices).resized(side).pixels)
            return np.stack([~_at_size(mask, size) for mask in found]).astype(np.uint8)
        if not self.files:
            kind = cast(Literal["disc", "square"], self.refine.start)
            one = constant_mask(size, size, kind, self.refine.start_size)
            return np.repeat(~one[None], len(indices), 0).astype(np.uint8)
        try:
            return np.stack([read_mask(self.files[i], size) != OBJECT for i in indices]).astype(np.uint8)
        except DataError as error:  # an option that these masks do not have
            raise DataError(re.sub(r"use --mask-values [^,;]*, ", "", f"refine.start: {error}")) from None


def _at_size(mask: Bool[np.ndarray, "h w"], size: int) -> Bool[np.ndarray, "s s"]:
    """A square mask with `size` pixels a side."""
    if len(mask) == size:
        return mask
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    way = Image.Resampling.BOX if size < len(mask) else Image.Resampling.BILINEAR
    return np.asarray(grey.resize((size, size), way)) > 127
