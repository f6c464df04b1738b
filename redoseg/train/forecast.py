"""How long a run will take on this machine, measured in a few seconds before it starts."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from redoseg.config.schema import Config, RefineConfig
from redoseg.train import distributed
from redoseg.train.loop import Hooks, train
from redoseg.train.refine import learn_round, make_targets
from redoseg.train.refine_state import RefineState, Targets
from redoseg.train.stage_data import RunData
from redoseg.train.start_masks import StartMasks
from redoseg.train.state import TrainState
from redoseg.train.time_left import Forecast

STEPS = 3  # the first is the slowest, and is left out
CUTS = 4


def forecast_second_stage(config: Config, data: RunData) -> Forecast:
    """Time a few targets and steps of the second stage. PyTorch's random state stays what it was."""
    if not config.has_second_stage or distributed.world_size() > 1:  # the main process alone has that stage
        return Forecast(0.0, 0.0, 0.0)
    fine = data.second.bank
    few = np.resize(np.arange(len(fine)), CUTS)
    disc = StartMasks(RefineConfig(start="disc"))
    started = time.monotonic()
    made = make_targets(disc, fine, fine, few, cut=config.refine.cut_in(1), config=config.refine, stop=lambda: False)
    target = (time.monotonic() - started) / CUTS
    assert made is not None
    short = replace(config, refine=replace(config.refine, steps=STEPS), watch=replace(config.watch, log_every=1))
    at = RefineState(short, 0, CUTS, fine.device)
    at.targets = Targets(made[0], CUTS, np.arange(CUTS))
    times = [time.monotonic()]
    with torch.random.fork_rng(devices=[]):
        learn_round(
            at, 0, fine, few, stop=lambda: False, log=lambda _: times.append(time.monotonic()), save=lambda _: None
        )
    return Forecast(0.0, target, (times[-1] - times[1]) / (STEPS - 1))


def forecast(config: Config, data: RunData) -> Forecast:
    """Time a few steps of both stages."""
    second = forecast_second_stage(config, data)
    if not config.first_steps:
        return second
    never = 10**9
    watch = replace(
        config.watch,
        log_every=1,
        evaluate_every=never,
        sample_every=never,
        checkpoint_every=never,
        collapse_every=never,
    )
    short = replace(config, steps=never, watch=watch, speed=replace(config.speed, compile="off"))
    times = [time.monotonic()]
    hooks = Hooks(
        log=lambda _: times.append(time.monotonic()),
        sample=lambda *_: None,
        save=lambda _: None,
        stop=lambda: len(times) > STEPS,
    )
    with torch.random.fork_rng(devices=[]):
        bank = data.first.bank
        train(TrainState.fresh(short, bank.device), bank, None, hooks)
    return replace(second, step=(times[-1] - times[1]) / (STEPS - 1))
