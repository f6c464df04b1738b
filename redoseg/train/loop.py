"""The training loop: one function that reads from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from redoseg.errors import DivergedError
from redoseg.run_folder import Entry
from redoseg.train import distributed, health
from redoseg.train.compute import Compiler, autocast, begin_step
from redoseg.train.loader import BatchLoader, ImageStore
from redoseg.train.measure import Watched, evaluate_now
from redoseg.train.players import PENALTY_EVERY
from redoseg.train.state import Players, TrainState


@dataclass
class Hooks:
    """What the loop calls in the run around it."""

    log: Callable[[Entry], None]
    """A log line is due."""
    sample: Callable[[TrainState, int], None]
    """A sample grid is due; the number is the object region."""
    save: Callable[[TrainState], None]
    """A checkpoint is due."""
    stop: Callable[[], bool]
    """Asked after each step: has someone asked to stop?"""
    say: Callable[[str], None] = lambda _: None
    """Something that the user should know, in one line."""


def train(
    state: TrainState,
    store: ImageStore,
    watched: Watched | None,
    hooks: Hooks,
    seconds: float = 0.0,
) -> TrainState:
    """Train until the configured step, a stop, or a non-finite loss (DivergedError); returns the state reached.

    `seconds` is what earlier sessions of this run took [s]. The returned state is another object than the one given
    where the run collapsed and restarted. With several ranks each is asked to stop, and all do after the same step; the
    main one alone evaluates, logs and samples, and decides whether to restart.
    """
    config, watch, device = state.config, state.config.watch, store.device
    objective = config.objective
    precision = autocast(config.precision, device)
    started, since, counted = time.monotonic() - seconds, time.monotonic(), state.step
    redrawer, discriminator, redraw = _ready(state, hooks)
    with BatchLoader(store, config) as feed:
        feed.begin(state.seed, state.step + 1)
        while state.step < config.steps and not distributed.any_rank(hooks.stop()):
            step = state.step + 1
            begin_step(config.speed.compile, device)
            batch = feed.take()
            drawn, images = batch.drawn, batch.images
            latents, chosen = drawn.latents.to(device), drawn.chosen.to(device)
            changes, centre = drawn.changes.to(device), state.redrawer.centre_pull(step)
            colours = state.redrawer.self_redraw_colours(images)
            shifts = drawn.shifts.to(device) if objective.move else None
            state.before_step(step)

            # the redrawer's step, against a constant discriminator
            with precision:
                redrawn = redrawer(
                    images,
                    latents,
                    chosen,
                    state.discriminator,
                    changes=changes[0],
                    centre=centre,
                    colours=colours,
                    shifts=shifts,
                    masks=batch.masks,
                )
            refuse_non_finite(redrawn["total"], "redrawer", step)
            state.redrawer_optimiser.zero_grad()
            redrawn["total"].backward()
            state.redrawer_optimiser.step()

            # the discriminator's step, on fakes of the networks just updated
            fakes = redrawn["fakes"]
            if objective.fresh_fakes:
                fresh = redrawn["latents"] if objective.same_latents else drawn.fresh_latents.to(device)
                with torch.no_grad(), precision:
                    fakes = redraw(images, fresh, chosen, shifts, batch.masks)[0]
            penalised = bool(objective.real_penalty) and step % PENALTY_EVERY == 0
            with precision:
                judged = discriminator(batch.real, fakes, changes[1], penalised=penalised)
            refuse_non_finite(judged["total"], "discriminator", step)
            state.discriminator_optimiser.zero_grad()
            judged["total"].backward()
            state.discriminator_optimiser.step()

            state.average.update(state.redrawer, step)
            state.step = step

            # what is due after this step
            last = step == config.steps
            sample_due = last or step % watch.sample_every == 0  # it shows the object region, so look first
            look_due = sample_due or step % watch.evaluate_every == 0 or health.looks_due(step, watch)
            if not (look_due or step % watch.log_every == 0 or step % watch.checkpoint_every == 0):
                continue

            now = time.monotonic()
            redrawn, judged = _of_batch(redrawn), _of_batch(judged)
            entry: Entry = {
                "step": step,
                "pictures": step * config.batch,
                "restarts": state.restarts,
                "seconds": round(now - started, 2),
                "steps_per_s": round((step - counted) / max(now - since, 1e-9), 3),
                "waited": round(feed.waited_share(), 5),
                "sizes": [round(s, 5) for s in redrawn["sizes"].tolist()],
            }
            for losses in (redrawn, judged):
                figures = {k: round(v.item(), 5) for k, v in losses.items() if k != "total" and v.ndim == 0}
                entry |= cast(Entry, figures)
            if look_due and distributed.is_main():
                entry |= evaluate_now(state, store, watched, config.data.evaluate_pictures)
            if sample_due and distributed.is_main():
                hooks.sample(state, entry["object_region"])

            # has a region collapsed?
            if look_due and health.looks_due(step, watch):
                seen = [entry["average_sizes"]] if "average_sizes" in entry else []
                seen += [entry["watched_sizes"]] if "watched_sizes" in entry else []
                region = distributed.broadcast(health.collapsed_region(watch, *seen) if distributed.is_main() else None)
                if region is not None:
                    entry["collapsed"] = region
                    if state.restarts < watch.restarts:
                        hooks.log(entry)
                        state = TrainState.fresh(config, device, state.restarts + 1)
                        redrawer, discriminator, redraw = _ready(state, hooks)
                        feed.begin(state.seed, 1)
                        since, counted = time.monotonic(), 0
                        hooks.save(state)
                        continue
            hooks.log(entry)
            if step % watch.checkpoint_every == 0:
                hooks.save(state)
            since += time.monotonic() - now  # looking is not training
    return state


def _ready(state: TrainState, hooks: Hooks) -> Players:
    """Both players, with gradients over all ranks' pictures, and what redraws; compiled if the settings ask for it."""
    if state.ready is None:
        mode = state.config.speed.compile
        if mode != "off" and distributed.world_size() > 1:
            hooks.say("computing without torch.compile, which is not known to work in several processes")
            mode = "off"
        compiler = Compiler(mode, hooks.say)
        redrawer = distributed.wrap_ddp(state.redrawer, all_learn=state.redrawer.reads)
        discriminator = distributed.wrap_ddp(state.discriminator)
        state.ready = compiler(redrawer), compiler(discriminator), compiler(state.redrawer.redraw)
    return state.ready


def _of_batch(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """The means among what a player gave, over all ranks' pictures; the rest is left out."""
    return {name: distributed.mean(term) for name, term in terms.items() if term.ndim == 0 or name == "sizes"}


def refuse_non_finite(total: Tensor, player: str, step: int) -> None:
    """Raise DivergedError where a loss is not finite on any rank, before an optimiser moves."""
    loss = distributed.mean(total).item()
    if not math.isfinite(loss):
        remedy = health.REFINE_AGAIN if player == "second stage" else health.NEW_RUN
        raise DivergedError(
            f"training has diverged: the {player}'s loss is {loss} at step {step}; "
            f"the run folder keeps the last good state; {remedy}"
        )
