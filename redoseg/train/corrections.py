"""Masks that a person corrected, as targets of the second stage: never cut again, and in each round.

They are labels, and a run that learns from them counts them in all that it writes. A picture of the training set that
was corrected, or whose mask was refused, gives no target of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from redoseg.config.schema import RefineConfig
from redoseg.data import Corrected, ImageSet, open_corrected, same_images
from redoseg.errors import DataError
from redoseg.files import printable
from redoseg.images.read import BACKGROUND, OBJECT
from redoseg.run_folder import Labels, labels_in_words

STREAM = 102  # of random numbers, beside those of refine.py


@dataclass(frozen=True)
class Given:
    """Corrected masks and their images at the size of a round; there is at least one."""

    pixels: UInt8[np.ndarray, "c s s 3"]
    masks: UInt8[np.ndarray, "c s s"]
    """255 object, 0 background, else not labelled."""

    def in_batch(self, batch: int, kept: int, least: float) -> int:
        """How many of a `batch` they are: their share of all targets, of which `kept` are others, or `least`."""
        if not kept:
            return batch
        share = max(least, len(self.masks) / (len(self.masks) + kept))
        return min(batch, max(1, round(share * batch)))

    def draw(self, count: int, place: tuple[int, int, int]) -> Int[np.ndarray, " d"]:
        """Numbers of those in a batch; `place` is seed, round and step."""
        seed, number, step = place
        return np.random.default_rng([seed, STREAM, number, step]).integers(0, len(self.masks), count)

    def images(self, chosen: Int[np.ndarray, " d"], device: torch.device) -> UInt8[Tensor, "d s s 3"]:
        """Their images, as `ImageStore.stored` gives those of the set."""
        return torch.from_numpy(self.pixels[chosen]).to(device)

    def regions(self, chosen: Int[np.ndarray, " d"], inner: int) -> UInt8[np.ndarray, "d s s"]:
        """Region of each pixel where the object is region `inner` of two: 2 where it is not labelled."""
        masks = self.masks[chosen]
        regions = np.full(masks.shape, 2, np.uint8)
        regions[masks == OBJECT] = inner
        regions[masks == BACKGROUND] = 1 - inner
        return regions


@dataclass(frozen=True)
class Corrections:
    """What `refine.corrected` names, for the training images."""

    source: str
    corrected: Corrected
    left_out: Bool[np.ndarray, " p"]
    """Whether a training image gives no target of its own, since it was corrected or refused."""
    refused: int
    """Training images that were refused."""

    @classmethod
    def find(cls, refine: RefineConfig, size: int, names: tuple[str, ...]) -> Corrections | None:
        """Those for training images of these names, at `size` [pixels]; None where the settings name none.

        Raises DataError as `open_corrected`, and where nothing is left to learn from.
        """
        if not refine.corrected:
            return None
        corrected = open_corrected(refine.corrected, size, refine.corrected_values)
        refused = same_images(names, corrected.refused)
        left_out = np.zeros(len(names), np.bool_)
        left_out[list(refused | same_images(names, corrected.images.names))] = True
        if left_out.all() and not len(corrected.images):
            raise DataError(
                f"{printable(refine.corrected)} refuses all {len(names):,} training pictures and accepts none, so "
                "nothing is left to learn from; accept some, or add pictures"
            )
        if not left_out.any() and not len(corrected.images):
            raise DataError(
                f"{printable(refine.corrected)} accepts no picture, and those that it refuses are not among the "
                "training pictures, so it changes nothing; accept some, or check the names"
            )
        return cls(refine.corrected, corrected, left_out, len(refused))

    @property
    def labels(self) -> Labels:
        """How many there are."""
        return {"corrected": len(self.corrected.images), "refused": self.refused}

    def at(self, size: int) -> Given | None:
        """Those at `size` [pixels]; None where pictures were only refused."""
        images = self.corrected.images.resized(size)
        if not len(images) or images.masks is None:
            return None
        return Given(np.asarray(images.pixels), np.asarray(images.masks))

    def reported(self, images: ImageSet) -> ImageSet:
        """The training images with what could not be used of the corrected ones among their own problems."""
        mine = self.corrected.images
        return replace(images, bad=(*images.bad, *mine.bad), notes=(*images.notes, *mine.notes))

    def in_words(self) -> str:
        """What the run learns from beside its own masks."""
        return f"labels: {labels_in_words(self.labels)}, of {self.source}"
