"""Every random draw of a run, a pure function of (seed, step) and the place in the batch.

So a resumed run sees what a straight one sees, and several devices can each take their part of one batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# one independent stream of random numbers for each purpose
REDRAWN, REAL, LATENTS, FRESH_LATENTS, CHOSEN, FLIPS, CHANGES, SHIFTS, MORE_CHANGES = range(9)


@dataclass(frozen=True)
class StepDraws:
    """What one step draws: picture numbers and flips of both players' batches, latents, one region a picture."""

    redrawn: Int[np.ndarray, " b"]
    real: Int[np.ndarray, " b"]
    flips: Bool[np.ndarray, "2 b"]
    latents: Float[Tensor, "b n d"]
    fresh_latents: Float[Tensor, "b n d"]
    chosen: Int[Tensor, " b"]
    changes: Float[Tensor, "2 k 5"]
    """Numbers in 0..1 that say how what the discriminator sees is augmented, in each player's step; k = b (n + 2)."""
    shifts: Float[Tensor, "b 2"]
    """How far each object moves, from -1 to 1 of what the settings allow."""

    def part(self, rank: int, size: int) -> StepDraws:
        """What rank `rank` of `size` takes of this batch: one of `size` equal parts, in order."""
        if size == 1:
            return self
        own = slice(rank * len(self.redrawn) // size, (rank + 1) * len(self.redrawn) // size)
        by_region = self.changes.view(2, -1, len(self.redrawn), 5)  # real and redrawn pictures go batch by batch
        return StepDraws(
            redrawn=self.redrawn[own],
            real=self.real[own],
            flips=self.flips[:, own],
            latents=self.latents[own],
            fresh_latents=self.fresh_latents[own],
            chosen=self.chosen[own],
            changes=by_region[:, :, own].flatten(1, 2),
            shifts=self.shifts[own],
        )


class RandomDraws:
    """The draws of a run over `pictures` pictures."""

    def __init__(self, seed: int, images: int, batch: int, regions: int, latent: int) -> None:
        self.seed, self.images, self.batch = seed, images, batch
        self.regions, self.latent = regions, latent
        self._orders: dict[tuple[int, int], Int[np.ndarray, " p"]] = {}

    def _generator(self, stream: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, number])

    def _order(self, stream: int, epoch: int) -> Int[np.ndarray, " p"]:
        if (stream, epoch) not in self._orders:
            self._orders = {k: v for k, v in self._orders.items() if k[0] != stream or k[1] == epoch - 1}
            self._orders[stream, epoch] = self._generator(stream, epoch).permutation(self.images)
        return self._orders[stream, epoch]

    def _indices(self, stream: int, step: int) -> Int[np.ndarray, " b"]:
        """Epoch after epoch, each in an order of its own; a batch may span two."""
        places = (step - 1) * self.batch + np.arange(self.batch)
        return np.array([self._order(stream, int(p) // self.images)[int(p) % self.images] for p in places])

    def _normal(self, stream: int, step: int) -> Float[Tensor, "b n d"]:
        shape = (self.batch, self.regions, self.latent)
        return torch.from_numpy(self._generator(stream, step).standard_normal(shape, dtype=np.float32))

    def step(self, step: int) -> StepDraws:
        """The draws of step number `step`, counted from 1."""
        # two streams, so that runs which move no object are what they were
        changes = [(CHANGES, self.regions + 1), (MORE_CHANGES, 1)]
        parts = [self._generator(s, step).random((2, self.batch * n, 5), dtype=np.float32) for s, n in changes]
        return StepDraws(
            redrawn=self._indices(REDRAWN, step),
            real=self._indices(REAL, step),
            flips=self._generator(FLIPS, step).random((2, self.batch)) < 0.5,
            latents=self._normal(LATENTS, step),
            fresh_latents=self._normal(FRESH_LATENTS, step),
            chosen=torch.from_numpy(self._generator(CHOSEN, step).integers(0, self.regions, self.batch)),
            changes=torch.from_numpy(np.concatenate(parts, 1)),
            shifts=torch.from_numpy(self._generator(SHIFTS, step).uniform(-1, 1, (self.batch, 2)).astype(np.float32)),
        )
