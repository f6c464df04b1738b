"""How long a run will take on this machine, measured in a few seconds before it starts."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from redoseg.config.schema import Config, RefineConfig
from redoseg.train import distributed
from redoseg.train.loader import ImageStore
from redoseg.train.loop import Hooks, train
from redoseg.train.refine import learn_round, make_targets
from redoseg.train.refine_state import RefineState, Targets
from redoseg.train.stage_data import RunData
from redoseg.train.start_masks import StartMasks
from redoseg.train.state import TrainState
from redoseg.train.third_stage import drawing_config
from redoseg.train.time_left import Forecast

STEPS = 3  # the first is the slowest, and is left out
CUTS = 4


def forecast_second_stage(config: Config, data: RunData) -> Forecast:
    """Time a few targets and steps of each round's size. PyTorch's random state stays what it was."""
    if not config.has_second_stage or distributed.world_size() > 1:  # the main process alone has that stage
        return Forecast(0.0, (), ())
    numbers = range(1, config.refine.rounds + 1)
    kinds = [(config.refine.cut_in(number), config.round_size(number)) for number in numbers]
    timed = {kind: _time_round(config, data.rounds[kinds.index(kind)].store, kinds.index(kind) + 1) for kind in kinds}
    return Forecast(0.0, tuple(timed[kind][0] for kind in kinds), tuple(timed[kind][1] for kind in kinds))


def _time_round(config: Config, fine: ImageStore, number: int) -> tuple[float, float]:
    """Seconds of one target and of one step of that round."""
    few = np.resize(np.arange(len(fine)), CUTS)
    disc, cut = StartMasks(RefineConfig(start="disc")), config.refine.cut_in(number)
    started = time.monotonic()
    made = make_targets(disc, fine, fine, few, cut=cut, config=config.refine, stop=lambda: False)
    target = (time.monotonic() - started) / CUTS
    assert made is not None
    short = replace(
        config, refine=replace(config.refine, steps=STEPS, rate=0.0), watch=replace(config.watch, log_every=1)
    )
    at = RefineState(short, 0, CUTS, fine.device, round=number)
    at.targets = Targets(made[0], CUTS, np.arange(CUTS))
    times = [time.monotonic()]
    with torch.random.fork_rng(devices=[]):
        learn_round(
            at, 0, fine, few, stop=lambda: False, log=lambda _: times.append(time.monotonic()), save=lambda _: None
        )
    return target, (times[-1] - times[1]) / (STEPS - 1)


def forecast(config: Config, data: RunData) -> Forecast:
    """Time a few steps of each stage."""
    found = forecast_second_stage(config, data)
    if config.first_steps:
        found = replace(found, step=_time_step(config, data.first.store))
    if config.redraw.steps:
        third = drawing_config(config, "")
        store = ImageStore(data.images.resized(third.data.size), third, data.first.store.device)
        found = replace(found, drawing_step=_time_step(third, store))
    return found


def _time_step(config: Config, store: ImageStore) -> float:
    """Seconds of one step of the game."""
    never = 10**9
    watch = replace(
        config.watch,
        log_every=1,
        evaluate_every=never,
        sample_every=never,
        checkpoint_every=never,
        collapse_every=never,
    )
    still = replace(config.optim, extractor_rate=0.0, generator_rate=0.0, encoder_rate=0.0, discriminator_rate=0.0)
    short = replace(config, steps=never, watch=watch, optim=still, speed=replace(config.speed, compile="off"))
    times = [time.monotonic()]
    hooks = Hooks(
        log=lambda _: times.append(time.monotonic()),
        sample=lambda *_: None,
        save=lambda _: None,
        stop=lambda: len(times) > STEPS,
    )
    with torch.random.fork_rng(devices=[]):
        train(TrainState.fresh(short, store.device), store, None, hooks)
    return (times[-1] - times[1]) / (STEPS - 1)
