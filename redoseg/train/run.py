"""A training run and the folder that explains it: start, resume, stop, report."""

from __future__ import annotations

import json
import platform
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from rich.console import Console
from torch import nn

from redoseg import __version__, metrics
from redoseg.config.recipe import differences, flat, from_values, to_values
from redoseg.config.schema import Config
from redoseg.data import BUILT_IN, ImageSet, is_prepared, labelled_images, open_data
from redoseg.errors import DivergedError, RunError
from redoseg.files import write_atomic
from redoseg.nets.mask_extractor import MaskExtractor
from redoseg.onnx_export.generators import export_redrawer
from redoseg.onnx_export.mask_extractor import export_extractor
from redoseg.system import opencv, world
from redoseg.train import distributed, health
from redoseg.train.checkpoint import load_checkpoint, restore, save_checkpoint
from redoseg.train.compute import computing_dtype
from redoseg.train.loader import ImageStore
from redoseg.train.log import Entry, RunLog, StatusLine, draw_curves, draw_samples
from redoseg.train.loop import Hooks, train
from redoseg.train.measure import LOOKED_AT, Watched, evenly_spaced, image_scores, sample_rows, soft_masks
from redoseg.train.refine import refine
from redoseg.train.report import write_report
from redoseg.train.start_masks import StartMasks
from redoseg.train.state import SEEDS_APART, TrainState

FORMAT = 1


class RunFolder:
    """Names of what a run folder holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.log = RunLog(path / "log.jsonl")
        self.curves = path / "curves.png"
        self.samples = path / "samples"
        self.state = path / "state.safetensors"
        self.refined = path / "refined.safetensors"
        self.onnx = path / "mask.onnx"
        self.redraw = path / "redraw.onnx"
        self.report = path / "report.md"
        self.outcome = path / "outcome.json"
        self.picture_scores = RunLog(path / "picture_scores.jsonl")


def read_run_config(path: Path) -> Config:
    """The configuration of a run folder. Raises RunError if there is none."""
    folder = RunFolder(path)
    try:
        values = dict(json.loads(folder.config.read_text())["config"])
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(
            f"{path} holds no run, a folder made by `redoseg train` expected: name one, or leave --resume out"
        ) from None
    return from_values(values, str(folder.config))


def pick_device(name: str) -> torch.device:
    """`auto` is cuda where there is one, else cpu. Raises RunError for a device that is not there."""
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    if torch.cuda.is_available():
        there.insert(0, "cuda")
    if name == "auto":
        return torch.device("cuda" if "cuda" in there else "cpu")
    if name not in there:
        raise RunError(f"device {name} is not available, one of {', '.join(there)} expected: name one of these")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """What to call it in files."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def own_device(name: str) -> torch.device:
    """The device of this rank: of several on a machine, each takes the GPU of its number there."""
    device, here = pick_device(name), world()
    if here.size == 1:
        return device
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if here.local_size > count:
            raise RunError(
                f"{here.local_size} processes on a machine of {count} GPUs, a GPU for each expected: "
                f"say --nproc-per-node {count}, or --device cpu"
            )
        device = torch.device("cuda", here.local_rank)
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise RunError(f"several processes on {device.type}, cpu or cuda expected: start it without torchrun")
    return device


def refuse_unshareable(config: Config, size: int) -> None:
    """Raises RunError where `size` ranks cannot share the batches of these settings."""
    if config.batch % size:
        more = -(-config.batch // size) * size
        raise RunError(
            f"a batch of {config.batch} pictures for {size} processes, a multiple of {size} expected: "
            f"set --batch {more}, or start another number of processes"
        )
    if size > 1 and config.nets.norm == "batch":
        raise RunError(
            f"nets.norm batch in {size} processes, instance expected, since each would norm by its own part of the "
            "batch: train in one process, or set --nets.norm instance"
        )


def open_training_images(config: Config) -> ImageSet:
    """What the run learns from, at the larger of both stages' sizes: never its masks."""
    data, size = config.data, _opened_size(config)
    if data.source in BUILT_IN:
        images = open_data(data.source, size, config.nets.regions, "train", count=data.pictures)
    else:
        whole = open_data(data.source, size, config.nets.regions)
        everything = not data.split or not any(whole.splits) or (data.split == "train" and "train" not in whole.splits)
        images = whole if everything else whole.subset(data.split)
    # what was left out when a set was prepared was said then
    return replace(images, masks=None, bad=() if is_prepared(data.source) else images.bad)


def open_watched_images(config: Config) -> ImageSet | None:
    """What the run is scored on, if anything, at that size too. Without masks it only watches the regions' sizes."""
    data = config.data
    if not data.evaluate_on:
        return None
    return open_data(data.evaluate_on, _opened_size(config), config.nets.regions, data.evaluate_split or None)


def _opened_size(config: Config) -> int:
    return config.refined_size if config.refine.rounds else config.data.size


@dataclass(frozen=True)
class StageData:
    """The pictures that a stage learns from and those that only watch, at the size that it sees them."""

    bank: ImageStore
    watched: Watched | None = None

    @classmethod
    def at(
        cls, size: int, images: ImageSet, watched: ImageSet | None, config: Config, device: torch.device
    ) -> StageData:
        """Both reduced to `size`. Raises DataError where they are too many for the memory."""
        bank = ImageStore(images.resized(size), config, device)
        if watched is None:
            return cls(bank)
        watched = watched.resized(size)
        return cls(bank, Watched(watched, ImageStore(watched, config, device)))


def run(config: Config, out: Path, resume: bool, device_name: str, console: Console) -> dict[str, Any]:
    """Train `config` in the folder `out`; returns how it ended: step, stopped, collapsed, scores ...

    Raises RunError (folder exists, changed settings, a number that is not finite), DataError, ConfigError. Started by
    torchrun, each process trains on its part of every batch and the first writes and prints; the others return {}.
    """
    with distributed.process_group():
        with distributed.all_or_none():
            if distributed.is_main():
                if resume:
                    before = read_run_config(out)
                    _refuse_changes(before, config, RunFolder(out))
                    for change in differences(replace(config, speed=before.speed), config):
                        console.print(f"computing otherwise than before: {change}", markup=False, highlight=False)
                elif out.exists():
                    raise RunError(
                        f"{out} exists, a new run folder expected: add --resume to go on, or name another --out"
                    )
            refuse_unshareable(config, distributed.world_size())
            if config.refine.rounds and config.refine.sharpen != "off":
                opencv()  # not found missing only when the first stage is done
            device = own_device(device_name)
            if config.threads:
                torch.set_num_threads(config.threads)
            torch.backends.cudnn.benchmark = device.type == "cuda"  # every step has the same shapes
            with console.status("reading pictures"):  # a folder is prepared on first use
                images = open_training_images(config)
                watched_images = open_watched_images(config) if distributed.is_main() else None
                start = StartMasks.find(config.refine, images.names) if config.refine.rounds else None
            seen = StageData.at(config.data.size, images, watched_images, config, device)
            fine = seen
            if distributed.is_main() and config.refine.rounds and config.refined_size != config.data.size:
                fine = StageData.at(config.refined_size, images, watched_images, config, device)
            if distributed.is_main():
                try:
                    (out / "samples").mkdir(parents=True, exist_ok=resume)
                except OSError as error:
                    raise RunError(
                        f"{out} cannot be made ({error.strerror}), a folder expected: name another --out"
                    ) from None
        if not distributed.is_main():
            _follow(config, RunFolder(out), seen.bank, resume)
            return {}
        return _lead(config, RunFolder(out), images, seen, fine, start, resume, console)


def _lead(
    config: Config,
    folder: RunFolder,
    images: ImageSet,
    seen: StageData,
    fine: StageData,
    start: StartMasks | None,
    resume: bool,
    console: Console,
) -> dict[str, Any]:
    """What the first process does: train, write and print."""
    bank = seen.bank
    _write_config(folder, config, bank.device, images)
    parts = ", ".join(sorted(set(images.splits) - {""}))
    console.print(
        f"training on {len(images):,} pictures of {images.name}{f' ({parts})' if parts else ''}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if distributed.world_size() > 1:
        share = config.batch // distributed.world_size()
        console.print(
            f"in {distributed.world_size()} processes, {share} pictures of each batch in each", highlight=False
        )
    if config.data.resident == "auto" and bank.resident is None:
        console.print("reading pictures from disk, a quarter of the free memory being too small", highlight=False)
    if config.precision == "auto":
        dtype = str(computing_dtype(config.precision, bank.device)).removeprefix("torch.")
        console.print(f"computing in {dtype}", highlight=False)
    for path, why in images.bad:
        console.print(f"left out: {path}: {why}", markup=False, highlight=False, soft_wrap=True)
    return Run(config, folder, seen, fine, start, StatusLine(console, config.steps)).go(resume) | {
        "left_out": len(images.bad)
    }


def _follow(config: Config, folder: RunFolder, bank: ImageStore, resume: bool) -> None:
    """What every other process does: train, until the first needs it no longer."""
    state = _begin(config, folder, bank, resume)
    hooks = Hooks(
        log=lambda _: None, sample=lambda *_: None, save=TrainState.refuse_non_finite, stop=lambda: bool(asked)
    )
    with _asked_to_stop() as asked:
        if config.first_steps:
            train(state, bank, None, hooks).refuse_non_finite()
        distributed.leave()


def _begin(config: Config, folder: RunFolder, bank: ImageStore, resume: bool) -> TrainState:
    """The state to go on from: the saved one, or a new one, which is saved. The same in every process."""
    with distributed.all_or_none():
        if resume and folder.state.exists():
            state = TrainState.load(folder.state, bank.device)
            state.config = config  # it differs in the number of steps at most
        else:
            state = TrainState.fresh(config, bank.device)
    distributed.same_start(
        {f"{name}:": value for name, value in flat(to_values(config)).items()}
        | {"pictures:": len(bank), "run at step": state.step, "restarts:": state.restarts}
        | {"computing in": str(computing_dtype(config.precision, bank.device))}
    )
    if distributed.is_main() and not (resume and folder.state.exists()):
        state.save(folder.state)  # so that there is a good state from the start
    return state


class Run:
    """One sitting of a run: both stages, and what they write into the folder on the way."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        seen: StageData,
        fine: StageData,
        start: StartMasks | None,
        status: StatusLine,
    ) -> None:
        """`seen` are the pictures of the first stage, `fine` those of the second, `start` other masks to start it."""
        self.config, self.folder, self.seen, self.fine, self.status = config, folder, seen, fine, status
        self.start = start
        self.latest_score: float | None = None
        self.recent: deque[Entry] = deque(maxlen=health.WINDOW)
        self.health = health.STARTING

    def go(self, resume: bool) -> dict[str, Any]:
        """Train until the end or a stop; returns how it ended."""
        config, folder = self.config, self.folder
        seen, fine = self.seen, self.fine
        state = _begin(config, folder, seen.bank, resume)
        extractor = self._refined_before(state)
        if extractor is None:
            folder.log.rewind(state.restarts, state.step)
        earlier = folder.log.entries()
        self.recent.extend(e for e in earlier if "sizes" in e)
        self.health = self.recent[-1].get("health", health.STARTING) if self.recent else health.STARTING
        seconds = earlier[-1]["seconds"] if earlier else 0.0
        with _asked_to_stop() as stop, self.status:
            hooks = Hooks(self._log, self._sample, self._save, stop=lambda: bool(stop), say=self.status.say)
            try:
                if config.first_steps:
                    state = train(state, seen.bank, seen.watched, hooks, seconds)
                self._save(state)
                distributed.leave()
            except DivergedError:
                reached = max((e["step"] for e in folder.log.entries()), default=0)
                self._write_outcome({"step": reached, "steps": config.steps, "health": health.DIVERGED})
                raise
            redrawn = self._outcome(state, state.average.nets["extractor"] if state.step else None, seen)
            if not config.refine.rounds or redrawn["stopped"] or redrawn["collapsed"]:
                self._score_images("first stage", state.average.nets["extractor"], redrawn["object_region"])
                return self._finish(state, state.average.nets["extractor"], seen, redrawn)
            if extractor is None:
                if state.step:
                    self._score_images("first stage", state.average.nets["extractor"], redrawn["object_region"])
                    self._finish(state, state.average.nets["extractor"], seen, redrawn)
                else:
                    folder.picture_scores.path.unlink(missing_ok=True)
                entries = folder.log.entries()
                since, trained = time.monotonic(), entries[-1]["seconds"] if entries else 0.0

                def report(entry: Entry, student: nn.Module) -> None:
                    self._log_round(state, redrawn["object_region"], trained + time.monotonic() - since, entry, student)

                extractor = refine(state, seen.bank, fine.bank, report, hooks.stop, self.start)
                if extractor is None:
                    stopped = redrawn | {"stopped": True}
                    return self._finish(state, state.average.nets["extractor"] if state.step else None, seen, stopped)
                about = {"config": to_values(config), "restarts": state.restarts}
                save_checkpoint(folder.refined, extractor.state_dict(), about)
            before = {"scores_before_refining": redrawn["scores"]} if "scores" in redrawn else {}
            return self._finish(state, extractor, fine, self._outcome(state, extractor, fine) | before)

    def _refined_before(self, state: TrainState) -> MaskExtractor | None:
        """The second stage's extractor, where an earlier sitting has finished both stages of just this run."""
        if state.step < self.config.first_steps or not self.folder.refined.exists():
            self.folder.refined.unlink(missing_ok=True)  # of a shorter run
            return None
        tensors, about = load_checkpoint(self.folder.refined)
        # read as a config, so that a setting that came later is no difference
        then = replace(from_values(about["config"], str(self.folder.refined)), speed=self.config.speed)
        if then != self.config or about["restarts"] != state.restarts:
            return None
        extractor = MaskExtractor(self.config.nets).to(self.fine.bank.device)
        restore(extractor, tensors, self.folder.refined)
        return extractor.eval().requires_grad_(False)

    def _outcome(self, state: TrainState, extractor: nn.Module | None, seen: StageData) -> dict[str, Any]:
        """How far the run is, what `extractor` makes of training pictures, and its scores on the watched ones.

        Where there is no extractor yet, what is told is of the masks that the second stage starts from.
        """
        looked_at = evenly_spaced(len(seen.bank), LOOKED_AT)
        if extractor is not None:
            masks = soft_masks(extractor, seen.bank, looked_at)
            region = metrics.object_region(masks)
        elif self.start is not None:
            regions, region = self.start.regions(looked_at, seen.bank.size), 0
            masks = np.stack([regions == 0, regions == 1], 1).astype(np.float32)
        else:
            raise ValueError("no extractor and no masks to start from")
        sizes = [round(float(s), 5) for s in masks.mean((0, 2, 3))]
        outcome: dict[str, Any] = {
            "step": state.step,
            "steps": self.config.first_steps,
            "stopped": state.step < self.config.first_steps,
            "restarts": state.restarts,
            "object_region": region,
            "sizes": sizes,
            "collapsed": health.collapsed_region(self.config.watch, sizes) is not None,
            "health": self.health,
        }
        if seen.watched is not None and extractor is not None:
            everything = np.arange(len(seen.watched.labelled))
            scores = seen.watched.scores(soft_masks(extractor, seen.watched.bank, everything), everything, region)
            outcome |= {"scores": scores} if scores else {}
        return outcome

    def _finish(
        self, state: TrainState, extractor: nn.Module | None, seen: StageData, outcome: dict[str, Any]
    ) -> dict[str, Any]:
        """Write outcome, curves, samples, report, mask.onnx and redraw.onnx, as far as learnt; returns the outcome."""
        folder, region = self.folder, outcome["object_region"]
        draw_curves(folder.log.entries(), folder.curves)
        if extractor is not None:
            draw_samples(sample_rows(state, extractor, seen.bank, seen.watched, region), folder.samples / "last.png")
            export_extractor(extractor, self.config, folder.onnx, folder.path.name, region, seen.bank.size)
        write_report(folder.path, self.config, outcome, folder.log.entries())
        if state.step:
            generators, encoder = state.average.nets["generators"], state.redrawer.encoder
            export_redrawer(generators, encoder, self.config, folder.redraw, folder.path.name, region)
        self._write_outcome(outcome)
        return outcome

    def _score_images(self, after: str, extractor: nn.Module, region: int) -> None:
        """Store the IoU of each labelled picture, where the settings ask for it; the first stage's come first."""
        data, device = self.config.data, self.seen.bank.device
        if not self.config.watch.picture_scores or not data.evaluate_on:
            return
        stage = self.seen if after == "first stage" else self.fine
        scored = labelled_images(data.evaluate_on, built_in=self.config.refined_size)
        scores = image_scores(extractor, scored, stage.bank.size, region, self.config, device)
        log = self.folder.picture_scores
        earlier = [] if after == "first stage" else [e for e in log.entries() if e["after"] != after]
        lines = [*earlier, {"after": after, "size": scored.size, "edges": "plain"} | scores]
        write_atomic(log.path, "".join(json.dumps(line) + "\n" for line in lines).encode())

    def _write_outcome(self, outcome: dict[str, Any]) -> None:
        write_atomic(self.folder.outcome, (json.dumps(outcome, indent=1) + "\n").encode())

    def _log(self, entry: Entry) -> None:
        if self.recent and entry["restarts"] != self.recent[-1]["restarts"]:
            self.recent.clear()
        self.recent.append(entry)
        entry["health"] = health.state(self.recent, self.config)
        self.folder.log.append(entry)
        if entry["health"] != self.health and entry["health"] in health.ADVICE:
            self.status.say(f"step {entry['step']}: {entry['health']}; {health.ADVICE[entry['health']]}")
        self.health = entry["health"]
        scored = "object_region" in entry
        self.latest_score = entry.get("iou", entry.get("iou_matched", self.latest_score))
        self.status.show(entry, self.latest_score, scored)
        if "collapsed" in entry:
            watch, number = self.config.watch, entry["restarts"] + 1
            anew = f"starting anew with seed {self.config.seed + number * SEEDS_APART}, restart {number}"
            share = 100 * entry["average_sizes"][entry["collapsed"]]
            least = 100 * health.least_share(watch, len(entry["average_sizes"]))
            self.status.say(
                f"collapsed at step {entry['step']}: region {entry['collapsed']} holds {share:.1f} % of the "
                f"pictures, at least {least:g} % expected; {anew if number <= watch.restarts else 'going on'}"
            )

    def _log_round(self, state: TrainState, region: int, seconds: float, entry: Entry, extractor: nn.Module) -> None:
        """Log a round of the second stage, `seconds` into the run."""
        entry = {"step": state.step, "restarts": state.restarts, "seconds": round(seconds, 2)} | entry
        watched = self.fine.watched
        if watched is not None:
            indices = evenly_spaced(len(watched.labelled), self.config.data.evaluate_pictures)
            masks = soft_masks(extractor, watched.bank, indices)
            entry |= {"object_region": region} | watched.scores(masks, indices, region)
        self._score_images(f"round {entry['refine_round']}", extractor, region)
        self.folder.log.append(entry)
        figure = next((f"  {k} {entry[k]:.3f}" for k in ("iou", "iou_matched") if k in entry), "")
        self.status.say(f"refining, round {entry['refine_round']}/{self.config.refine.rounds}{figure}")

    def _sample(self, state: TrainState, region: int) -> None:
        rows = sample_rows(state, state.average.nets["extractor"], self.seen.bank, self.seen.watched, region)
        draw_samples(rows, self.folder.samples / f"{state.restarts}-{state.step:06}.png")
        draw_curves(self.folder.log.entries(), self.folder.curves)

    def _save(self, state: TrainState) -> None:
        state.save(self.folder.state)


def _refuse_changes(old: Config, new: Config, folder: RunFolder) -> None:
    """Raises RunError where a run cannot go on under new settings; those of a second stage to come are free."""
    out = folder.path
    begun = folder.refined.exists() or any("refine_round" in e for e in folder.log.entries())
    compared = replace(old, steps=0, speed=new.speed, refine=old.refine if begun else new.refine)
    changes = differences(compared, replace(new, steps=0))
    if changes:
        raise RunError(
            f"{out} was trained under other settings ({'; '.join(changes)}), the same ones expected: "
            "leave those settings as they were, or start a new run without --resume"
        )
    if new.steps < old.steps:
        raise RunError(
            f"{out} was to run {old.steps} steps and is asked for {new.steps}, as many or more expected: "
            "leave --steps out or raise it"
        )


def _write_config(folder: RunFolder, config: Config, device: torch.device, images: ImageSet) -> None:
    about = {
        "format": FORMAT,
        "config": to_values(config),
        "trained_on": {"name": images.name, "pictures": len(images), "size": images.size},
        "made_with": {
            "redoseg": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "device": device_name(device),
            "threads": torch.get_num_threads(),
        },
    }
    write_atomic(folder.config, (json.dumps(about, indent=2) + "\n").encode())


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Collects Ctrl-C and SIGTERM, so that a step is never cut in half; a second Ctrl-C cuts through.

    Under torchrun it does not, since that repeats what the terminal has said already. Nor does it then end with the
    block: when one process fails torchrun stops the others, which should have said and written all by then.
    """
    asked: list[int] = []
    alone = world().size == 1 and not dist.is_torchelastic_launched()

    def ask(number: int, _: FrameType | None) -> None:
        if alone and asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    # what this process was started to ignore it goes on ignoring: nohup, background jobs of scripts
    heard = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    old = {number: signal.signal(number, ask) for number in heard}
    try:
        yield asked
    finally:
        for number, handler in old.items() if alone else ():
            signal.signal(number, handler)
