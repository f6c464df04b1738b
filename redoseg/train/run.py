"""A training run: start, resume, both stages, and what it writes into its folder."""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from rich.console import Console
from torch import nn

from redoseg.config.recipe import flat, to_values
from redoseg.config.schema import Config
from redoseg.data import labelled_images
from redoseg.errors import DivergedError, ModelError, RunError
from redoseg.files import alone, at_home, describe_error, printable, write_atomic
from redoseg.nets.mask_extractor import MaskExtractor
from redoseg.nets.unet import UNet, student_extractor
from redoseg.onnx_export.generators import export_redrawer
from redoseg.onnx_export.mask_extractor import export_extractor
from redoseg.output import why_output_lost
from redoseg.run_folder import Entry, Outcome, RunFolder, read_lines, write_lines
from redoseg.system import opencv
from redoseg.train import distributed, health
from redoseg.train.checkpoint import restore
from redoseg.train.compute import computing_dtype
from redoseg.train.continuing import check_contents, check_folder, check_state, write_config
from redoseg.train.forecast import forecast_second_stage
from redoseg.train.loader import ImageStore
from redoseg.train.loop import Hooks, train
from redoseg.train.measure import LOOKED_AT, evenly_spaced, image_scores, region_of, sample_rows, soft_masks
from redoseg.train.plots import draw_curves, draw_samples
from redoseg.train.refine import refine
from redoseg.train.refine_state import RefineState
from redoseg.train.refined import load_refined, save_refined
from redoseg.train.report import write_report
from redoseg.train.stage_data import RunData, StageData, announce
from redoseg.train.state import SEEDS_APART, TrainState
from redoseg.train.status import StatusLine
from redoseg.train.stopping import asked_to_stop
from redoseg.train.third_stage import forget_drawings, learn_to_draw
from redoseg.train.time_left import Forecast, SecondStageTime


def run(
    config: Config, out: Path, resume: bool, device: str, console: Console, *, refine_again: bool = False
) -> Outcome:
    """Train `config` in the folder `out` and return how it ended.

    With `resume` it continues; with `refine_again` too, the second stage is done again, also with other settings.

    Started by torchrun, each process trains on its part of every batch. The main one writes, prints and returns the
    outcome; the others return an empty one. Raises RunError (the folder exists, changed settings, a number that is not
    finite), DataError, ConfigError.
    """
    out = at_home(out)
    folder = RunFolder(out)
    with distributed.process_group(), contextlib.ExitStack() as session:
        with distributed.all_or_none():
            if distributed.is_main():
                if resume and out.is_dir():
                    session.enter_context(alone(out))
                check_folder(folder, config, resume, console, refine_again)
            distributed.refuse_unshareable(config, distributed.world_size())
            if config.uses_grabcut:
                opencv()  # an error now rather than after the first stage
            own_device = distributed.own_device(device)
            if config.threads:
                torch.set_num_threads(config.threads)
            torch.backends.cudnn.benchmark = own_device.type == "cuda"  # every step has the same shapes
            with console.status("reading pictures"):
                data = RunData.open(config, own_device)
                if distributed.is_main() and resume:
                    check_contents(folder, config, data, refine_again)
            if distributed.is_main():
                try:
                    folder.samples.mkdir(parents=True, exist_ok=resume)
                except FileExistsError:  # made while the pictures were read
                    raise RunError(f"{printable(out)} is in use by another redoseg; choose another --out") from None
                except OSError as error:
                    raise RunError(
                        f"{printable(out)} cannot be made ({describe_error(error)}); choose another --out"
                    ) from None
                if not resume:
                    session.enter_context(alone(out))
        if not distributed.is_main():
            _follow(config, folder, data.first.store, resume)
            del data  # the first process may need the memory
            distributed.leave()
            return {}
        if not refine_again:
            write_config(folder, config, data)
        announce(config, data, console)
        session_of_run = Run(config, folder, data, StatusLine(console, config.steps))
        outcome = session_of_run.refine_again() if refine_again else session_of_run.go(resume)
        if config.redraw.steps and not (outcome["stopped"] or outcome["collapsed"]):
            session_of_run.status.say(f"third stage: drawings for these masks, in {printable(folder.drawings)}")
            outcome = learn_to_draw(config, folder, partial(run, device=device, console=console))
        return outcome | {"left_out": len(data.images.bad)}


def _follow(config: Config, folder: RunFolder, store: ImageStore, resume: bool) -> None:
    """What every process but the main one does: train, until the end of the first stage."""
    state = _begin(config, folder, store, resume)
    hooks = Hooks(
        log=lambda _: None, sample=lambda *_: None, save=TrainState.refuse_non_finite, stop=lambda: bool(asked)
    )
    with asked_to_stop() as asked:
        if config.first_steps:
            train(state, store, None, hooks).refuse_non_finite()


def _begin(config: Config, folder: RunFolder, store: ImageStore, resume: bool) -> TrainState:
    """The state to continue from: the saved one, or a new one, which is saved. The same in every process."""
    with distributed.all_or_none():
        learnt = max((e.get("step", 0) for e in folder.log.entries()), default=0) if resume else 0
        if learnt and not folder.state.exists():
            raise RunError(
                f"{printable(folder.path)} has the log of {learnt} steps, but no {folder.state.name}, from which they "
                "continue; put that file back, or start a new run"
            )
        if resume and folder.state.exists():
            state = TrainState.load(folder.state, store.device)
            check_state(state.config, config, folder)
            state.config = config
        else:
            state = TrainState.fresh(config, store.device)
    distributed.same_start(
        {f"{name}:": value for name, value in flat(to_values(config)).items()}
        | {"pictures:": len(store), "run at step": state.step, "restarts:": state.restarts}
        | {"computing in": str(computing_dtype(config.precision, store.device))}
    )
    if distributed.is_main() and not (resume and folder.state.exists()):
        state.save(folder.state)  # so that there is a good state from the start
    return state


class Run:
    """One session of a run: both stages, and what they write into the folder on the way."""

    def __init__(self, config: Config, folder: RunFolder, data: RunData, status: StatusLine) -> None:
        self.config, self.folder, self.data, self.status = config, folder, data, status
        self.latest_score: float | None = None
        self.recent: deque[Entry] = deque(maxlen=health.WINDOW)
        self.health = health.STARTING
        self.expected: Forecast | None = None
        self.again = False
        """Whether the second stage is done again. Its lines of the log are held back until it is finished."""

    def go(self, resume: bool) -> Outcome:
        """Train until the end or a stop; returns how it ended."""
        config, folder, first = self.config, self.folder, self.data.first
        state = _begin(config, folder, first.store, resume)
        damaged = folder.log.damaged()
        if damaged:
            self.status.say(f"{folder.log.path.name} has {damaged:,} damaged lines, which are ignored")
        extractor = self._refined_before(state)
        at = self._refining_before(state)
        if extractor is None:
            folder.log.rewind(state.restarts, state.step, at.entries)
        earlier = folder.log.entries()
        self.recent.extend(e for e in earlier if "sizes" in e)
        self.health = self.recent[-1].get("health", health.STARTING) if self.recent else health.STARTING
        with asked_to_stop() as asked, self.status:

            def stop() -> bool:
                return bool(asked) or why_output_lost() is not None

            if extractor is None and config.has_second_stage:
                self.expected = forecast_second_stage(config, self.data)
                self.status.second_stage = self.expected.second_stage(config, len(self.data.second.store))
            state = self._redraw(state, stop, earlier[-1].get("seconds", 0.0) if earlier else 0.0)
            learnt = state.average.nets["extractor"] if config.first_steps else None
            redrawn = self._outcome(state, learnt, first)
            if not config.has_second_stage or redrawn["stopped"] or redrawn["collapsed"]:
                self._score_images("first stage", state.average.nets["extractor"], redrawn["object_region"], first)
                return self._finish(state, state.average.nets["extractor"], first, redrawn)
            if extractor is None:
                if at.fresh and learnt is not None:
                    self._score_images("first stage", learnt, redrawn["object_region"], first)
                elif at.fresh:
                    folder.picture_scores.unlink(missing_ok=True)
                self._finish_so_far(state, at, redrawn)
                extractor = self._refine(state, at, stop, redrawn)
                if extractor is None:
                    return self._finish_so_far(state, at, redrawn | {"stopped": True})
                forget_drawings(folder)
                save_refined(folder.refined, extractor, config, state.restarts)
                at.remove(folder)
            return self._end(state, extractor, redrawn)

    def refine_again(self) -> Outcome:
        """Do the second stage again; returns how it ended. Until it has, what others read in the folder stays."""
        config, folder, first = self.config, self.folder, self.data.first
        state = _begin(config, folder, first.store, True)
        distributed.leave()
        with asked_to_stop() as asked, self.status:
            learnt = state.average.nets["extractor"] if config.first_steps else None
            redrawn = self._outcome(state, learnt, first)
            self.again = True
            self.expected = forecast_second_stage(config, self.data)
            at = self._refining_before(state)
            extractor = self._refine(state, at, lambda: bool(asked) or why_output_lost() is not None, redrawn)
            if extractor is None:
                return redrawn | {"stopped": True}
            write_config(folder, config, self.data)
            state.save(folder.state)
            forget_drawings(folder)
            save_refined(folder.refined, extractor, config, state.restarts)
            folder.log.rewind(state.restarts, state.step, at.entries)
            at.remove(folder)
            return self._end(state, extractor, redrawn)

    def _end(self, state: TrainState, extractor: nn.Module, redrawn: Outcome) -> Outcome:
        """What is written at the end of both stages."""
        outcome = self._outcome(state, extractor, self.data.second) | self.data.labels
        if "scores" in redrawn:
            outcome["scores_before_refining"] = redrawn["scores"]
        return self._finish(state, extractor, self.data.second, outcome)

    def _finish_so_far(self, state: TrainState, at: RefineState, redrawn: Outcome) -> Outcome:
        """What is written while the second stage is not finished: the masks of the last round that is, if any."""
        outcome, stage = redrawn | at.left(), self.data.first
        extractor: nn.Module | None = at.teacher
        if extractor is not None:
            stage = self.data.rounds[at.round - 2]
            found = self._outcome(state, extractor, stage)
            outcome |= {"object_region": found["object_region"], "sizes": found["sizes"]} | self.data.labels
        elif self.config.first_steps:
            extractor = state.average.nets["extractor"]
        return self._finish(state, extractor, stage, outcome)

    def _redraw(self, state: TrainState, stop: Callable[[], bool], seconds: float) -> TrainState:
        """The first stage, if the settings have one; returns the state at its end, which is saved."""
        hooks = Hooks(self._log, self._sample, self._save, stop, say=self.status.say)
        try:
            if self.config.first_steps:
                state = train(state, self.data.first.store, self.data.first.watched, hooks, seconds)
            self._save(state)
            distributed.leave()
        except DivergedError:
            reached = max((e["step"] for e in self.folder.log.entries()), default=0)
            self._write_outcome({"step": reached, "steps": self.config.steps, "health": health.DIVERGED})
            raise
        return state

    def _refine(
        self, state: TrainState, at: RefineState, stop: Callable[[], bool], redrawn: Outcome
    ) -> MaskExtractor | UNet | None:
        """The second stage, from where it is; None where it was stopped."""
        entries = [*self.folder.log.entries(), *at.entries]
        time_left = SecondStageTime(at.config, at.count, self.expected)
        since = time.monotonic() - (entries[-1].get("seconds", 0.0) if entries else 0.0)

        def log(entry: Entry) -> None:
            seconds = round(time.monotonic() - since, 2)
            begun: Entry = {"step": state.step, "restarts": state.restarts, "seconds": seconds}
            at.entries.append(begun | entry)
            if not self.again:
                self.folder.log.append(at.entries[-1])
            if "refining" in entry:
                self.status.show_second(at.entries[-1], time_left)

        def report(entry: Entry, student: nn.Module) -> None:
            log(entry | self._scores_of_round(redrawn["object_region"], entry["refine_round"], student))
            self._say_round(at.entries[-1])

        def save(also_targets: bool) -> None:
            at.save(self.folder, also_targets)
            if at.between_rounds and not self.again:
                self._finish_so_far(state, at, redrawn)

        data = self.data
        return refine(
            state,
            data.first.store,
            [stage.store for stage in data.rounds],
            report=report,
            stop=stop,
            start=data.start,
            corrections=data.corrections,
            at=at,
            log=log,
            save=save,
        )

    def _refining_before(self, state: TrainState) -> RefineState:
        """Where an earlier session has left the second stage of this very run, or its beginning."""
        config, folder, device = self.config, self.folder, self.data.second.store.device
        count = len(evenly_spaced(len(self.data.second.store), config.refine.pictures))
        labels = self.data.labels_digest
        if state.step >= config.first_steps:
            try:
                found = RefineState.load(
                    folder, config, restarts=state.restarts, count=count, device=device, labels=labels
                )
            except ModelError as error:
                self.status.say(f"the second stage starts from its beginning, since {error}")
            else:
                if found is not None:
                    return found
        return RefineState(config, state.restarts, count, device, labels)

    def _refined_before(self, state: TrainState) -> MaskExtractor | UNet | None:
        """The second stage's extractor, where an earlier session has finished both stages of this very run."""
        if state.step < self.config.first_steps:
            self.folder.refined.unlink(missing_ok=True)  # of a shorter run
        tensors = load_refined(self.folder.refined, self.config, step=state.step, restarts=state.restarts)
        if tensors is None:
            return None
        extractor = student_extractor(self.config).to(self.data.second.store.device)
        restore(extractor, tensors, self.folder.refined)
        return extractor.eval().requires_grad_(False)

    def _outcome(self, state: TrainState, extractor: nn.Module | None, stage: StageData) -> Outcome:
        """How far the run is, what `extractor` makes of training images, and its scores on the watched ones.

        Where there is no extractor yet, it describes the masks that the second stage starts from.
        """
        looked_at = evenly_spaced(len(stage.store), LOOKED_AT)
        if extractor is not None:
            masks = soft_masks(extractor, stage.store, looked_at)
            region = region_of(self.config, masks)
        elif self.data.start is not None:
            regions, region = self.data.start.regions(looked_at, stage.store.size), 0
            masks = np.stack([regions == 0, regions == 1], 1).astype(np.float32)
        else:
            raise ValueError("no extractor and no masks to start from")
        sizes = [round(float(s), 5) for s in masks.mean((0, 2, 3))]
        outcome: Outcome = {
            "step": state.step,
            "steps": self.config.first_steps,
            "stopped": state.step < self.config.first_steps,
            "computed_in": str(computing_dtype(self.config.precision, stage.store.device)).removeprefix("torch."),
            "restarts": state.restarts,
            "object_region": region,
            "sizes": sizes,
            "collapsed": health.collapsed_region(self.config.watch, sizes) is not None,
            "health": self.health,
        }
        if stage.watched is not None and extractor is not None:
            everything = np.arange(len(stage.watched.labelled))
            scores = stage.watched.scores(soft_masks(extractor, stage.watched.store, everything), everything, region)
            if scores:
                outcome["scores"] = scores
        return outcome

    def _finish(self, state: TrainState, extractor: nn.Module | None, stage: StageData, outcome: Outcome) -> Outcome:
        """Write outcome, curves, samples, report, mask.onnx and redraw.onnx, as far as learnt; returns the outcome."""
        folder, region = self.folder, outcome["object_region"]
        draw_curves(folder.log.entries(), folder.curves)
        if extractor is not None:
            draw_samples(sample_rows(state, extractor, stage.store, stage.watched, region), folder.last_sample)
            size = self.data.kept_size or stage.store.size
            export_extractor(
                extractor, self.config, folder.mask, name=folder.path.name, object_region=region, size=size
            )
        write_report(folder, self.config, outcome)
        if state.step:
            generators, encoder = state.average.nets["generators"], state.redrawer.encoder
            export_redrawer(
                generators, encoder, self.config, folder.redraw, name=folder.path.name, object_region=region
            )
        self._write_outcome(outcome)
        return outcome

    def _score_images(self, after: str, extractor: nn.Module, region: int, stage: StageData) -> None:
        """Store the IoU of each labelled image, where the settings ask for it; the first stage's come first."""
        config = self.config
        if not config.watch.picture_scores or not config.data.evaluate_on:
            return
        store, data = stage.store, config.data
        scored = labelled_images(data.evaluate_on, built_in=config.refined_size, mask_values=data.mask_values)
        scores = image_scores(extractor, scored, size=store.size, region=region, config=config, device=store.device)
        path = self.folder.picture_scores
        earlier = (
            []
            if after == "first stage"
            else [line for line in read_lines(path) if line.get("after") not in (None, after)]
        )
        write_lines(path, [*earlier, {"after": after, "size": scored.size, "edges": "plain"} | scores])

    def _write_outcome(self, outcome: Outcome) -> None:
        write_atomic(self.folder.outcome, (json.dumps(outcome, indent=1) + "\n").encode())

    def _log(self, entry: Entry) -> None:
        if self.recent and entry["restarts"] != self.recent[-1]["restarts"]:
            self.recent.clear()
        self.recent.append(entry)
        entry["health"] = health.state(self.recent, self.config)
        self.folder.log.append(entry)
        if entry["health"] != self.health and entry["health"] in health.ADVICE:
            self.status.say(f"step {entry['step']}: {entry['health']}; in a new run, {health.ADVICE[entry['health']]}")
        self.health = entry["health"]
        scored = "object_region" in entry
        self.latest_score = entry.get("iou", entry.get("iou_matched", self.latest_score))
        self.status.show(entry, self.latest_score, scored)
        if "collapsed" in entry:
            watch, number = self.config.watch, entry["restarts"] + 1
            restart = f"restarting with seed {self.config.seed + number * SEEDS_APART}, restart {number}"
            share = 100 * entry["average_sizes"][entry["collapsed"]]
            least = 100 * health.least_share(watch, len(entry["average_sizes"]))
            self.status.say(
                f"collapsed at step {entry['step']}: region {entry['collapsed']} covers {share:.1f} % of the "
                f"pictures, less than {least:g} %; {restart if number <= watch.restarts else 'continuing'}"
            )

    def _scores_of_round(self, region: int, number: int, extractor: nn.Module) -> Entry:
        """What the log says of the extractor that a round gave."""
        found, stage = Entry(), self.data.rounds[number - 1]
        watched = stage.watched
        if watched is not None:
            indices = evenly_spaced(len(watched.labelled), self.config.data.evaluate_pictures)
            masks = soft_masks(extractor, watched.store, indices)
            found = {"object_region": region} | cast(Entry, watched.scores(masks, indices, region))
        self._score_images(f"round {number}", extractor, region, stage)
        return found

    def _say_round(self, entry: Entry) -> None:
        figure = ""
        if "iou" in entry:
            figure = f"  iou {entry['iou']:.3f}"
        elif "iou_matched" in entry:
            figure = f"  iou_matched {entry['iou_matched']:.3f}"
        self.status.say(f"refining, round {entry['refine_round']}/{self.config.refine.rounds}{figure}")

    def _sample(self, state: TrainState, region: int) -> None:
        stage = self.data.first
        rows = sample_rows(state, state.average.nets["extractor"], stage.store, stage.watched, region)
        draw_samples(rows, self.folder.sample(state.restarts, state.step))
        draw_curves(self.folder.log.entries(), self.folder.curves)

    def _save(self, state: TrainState) -> None:
        state.save(self.folder.state)
