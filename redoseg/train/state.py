"""Everything that changes while training, and how it is saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from redoseg.config.recipe import from_values, to_values
from redoseg.config.schema import Config
from redoseg.errors import DivergedError, ModelError
from redoseg.train import checkpoint, health
from redoseg.train.compute import Adam, placed
from redoseg.train.players import Discriminator, MovingAverage, Redrawer
from redoseg.train.refined import take_over

SEEDS_APART = 1_000_003  # the seed of restart r is the run's seed plus r times this


Players = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]


@dataclass
class TrainState:
    """Both players, an optimiser each, the moving average, and how far the run is."""

    config: Config
    redrawer: Redrawer
    discriminator: Discriminator
    redrawer_optimiser: torch.optim.Optimizer
    discriminator_optimiser: torch.optim.Optimizer
    average: MovingAverage
    step: int = 0
    restarts: int = 0
    ready: Players | None = None
    """Both players and what redraws as the loop calls them, once it has; never saved."""

    @property
    def seed(self) -> int:
        """Seed of the present attempt."""
        return self.config.seed + self.restarts * SEEDS_APART

    @classmethod
    def fresh(
        cls,
        config: Config,
        device: torch.device,
        restarts: int = 0,
        players: tuple[type[Redrawer], type[Discriminator]] = (Redrawer, Discriminator),
    ) -> TrainState:
        """New networks, drawn from the seed of attempt number `restarts`."""
        torch.manual_seed(config.seed + restarts * SEEDS_APART)
        # drawn on the CPU, so that every device starts from the same weights
        redrawer, discriminator = (placed(player(config), config, device) for player in players)
        if config.nets.extractor_from:
            take_over(redrawer.extractor, config.nets.extractor_from)
        redrawer.extractor.requires_grad_(not config.masks_stay)
        optim = config.optim
        groups = [
            {
                "params": list(redrawer.extractor.parameters()),
                "lr": optim.extractor_rate,
                "weight_decay": optim.extractor_decay,
            },
            {"params": list(redrawer.generators.parameters()), "lr": optim.generator_rate},
            {"params": list(redrawer.encoder.parameters()), "lr": optim.encoder_rate},
        ]
        return cls(
            config=config,
            redrawer=redrawer,
            discriminator=discriminator,
            redrawer_optimiser=_adam(groups, config),
            discriminator_optimiser=_adam(
                [{"params": list(discriminator.parameters()), "lr": optim.discriminator_rate}], config
            ),
            average=MovingAverage(redrawer, optim.average),
            restarts=restarts,
        )

    def before_step(self, step: int) -> None:
        """Let the mask extractor learn from its first step on, and not before."""
        optim = self.config.optim
        self.redrawer_optimiser.param_groups[0]["lr"] = optim.extractor_rate if step > optim.extractor_wait else 0.0

    def refuse_non_finite(self) -> None:
        """Raises DivergedError where a weight is not finite, so that it is not saved."""
        nets = (self.redrawer, self.discriminator)
        if not all(p.isfinite().all() for net in nets for p in net.parameters()):
            raise DivergedError(
                f"training has diverged: after step {self.step} a weight is infinite or not a number; "
                f"the run folder keeps the last good state; {health.NEW_RUN}"
            )

    def save(self, path: Path) -> None:
        """Write everything that a resumed run needs. Raises DivergedError rather than save what is not finite."""
        self.refuse_non_finite()
        tensors: dict[str, Tensor] = {}
        for name, state in {
            "redrawer": self.redrawer.state_dict(),
            "critic": self.discriminator.state_dict(),
            "average": self.average.nets.state_dict(),
            "redrawer_optimiser": checkpoint.optimiser_tensors(self.redrawer_optimiser),
            "critic_optimiser": checkpoint.optimiser_tensors(self.discriminator_optimiser),
        }.items():
            tensors |= checkpoint.prefixed(name, state)
        about: checkpoint.Saved = {"config": to_values(self.config), "step": self.step, "restarts": self.restarts}
        checkpoint.save_checkpoint(path, tensors, about)

    @classmethod
    def load(cls, path: Path, device: torch.device) -> TrainState:
        """The state that `save` wrote; ModelError where `path` holds something else."""
        tensors, about = checkpoint.load_saved(path)
        if not all(isinstance(about.get(key), int) for key in ("step", "restarts")):
            raise ModelError(f"{path} is damaged: it does not say its step; choose another run folder")
        config = from_values(about["config"], f"{path}")
        # its weights come from here, so the run that they once came from may be gone
        state = cls.fresh(replace(config, nets=replace(config.nets, extractor_from="")), device, about["restarts"])
        state.config, state.step = config, about["step"]
        state.redrawer.extractor.requires_grad_(not config.masks_stay)
        for name, module in (
            ("redrawer", state.redrawer),
            ("critic", state.discriminator),
            ("average", state.average.nets),
        ):
            checkpoint.restore(module, checkpoint.part(name, tensors), path)
        for name, optimiser in (
            ("redrawer_optimiser", state.redrawer_optimiser),
            ("critic_optimiser", state.discriminator_optimiser),
        ):
            checkpoint.restore_optimiser(optimiser, checkpoint.part(name, tensors))
        return state


def _adam(groups: list[dict[str, object]], config: Config) -> torch.optim.Optimizer:
    betas = (config.optim.beta1, config.optim.beta2)
    return Adam(groups, lr=0.0, betas=betas, fused=config.speed.fused_optimiser or None)
