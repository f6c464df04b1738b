"""The plain version of a training step: what is timed against.

As it is written first: float32, PyTorch's own memory layout, Adam as it ships, upsampling and pooling as layers of
their own, real and redrawn pictures in two passes, a spectral norm at every use of a weight, and gradients of the
discriminator's weights in the redrawer's step too, where nobody needs them.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from redoseg.config.schema import Config, SpeedConfig
from redoseg.train import losses
from redoseg.train.players import PENALTY_EVERY, Discriminator, Redrawer
from redoseg.train.state import TrainState

PLAIN_WAYS = SpeedConfig(channels_last=False, rewrite_convs=False, fused_optimiser=False)


def plain_settings(config: Config, **ways: Any) -> Config:
    """The same training, computed the plain way; `ways` are fields of `speed` that are not."""
    return replace(config, precision="float32", speed=replace(PLAIN_WAYS, **ways))


class PlainRedrawer(Redrawer):
    """Computes the spectral norm of a weight at each use."""

    norms = nullcontext


class PlainDiscriminator(Discriminator):
    """Gradients for every weight in both steps, and a pass each for real and redrawn pictures."""

    def score_as_constant(
        self, images: Float[Tensor, "m 3 h w"], changes: Float[Tensor, "k 5"] | None = None
    ) -> Float[Tensor, "m 1"]:
        return self.discriminator(self._seen(images, changes))

    def forward(
        self,
        real: Float[Tensor, "b 3 h w"],
        fake: Float[Tensor, "m 3 h w"],
        changes: Float[Tensor, "k 5"] | None = None,
        *,
        penalised: bool = False,
    ) -> dict[str, Tensor]:
        count = len(real)
        of_fakes = None if changes is None else changes[count:]
        seen = self._seen(real, changes).detach().requires_grad_(penalised)
        scores = self.discriminator(seen), self.discriminator(self._seen(fake, of_fakes))
        on_real, on_fake = losses.discriminator_adversarial(*scores, self.config.adversarial)
        total = on_real + on_fake
        if penalised:
            penalty = losses.gradient_penalty(scores[0], seen)
            total = total + PENALTY_EVERY * self.config.real_penalty * penalty
        return {"critic_real": on_real, "critic_fake": on_fake, "total": total}


def plain_state(config: Config, device: torch.device) -> TrainState:
    """A training by the plain players, with the weights that `TrainState.fresh` draws for these settings."""
    return TrainState.fresh(config, device, players=(PlainRedrawer, PlainDiscriminator))
