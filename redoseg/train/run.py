"""A training run and the folder that explains it: start, resume, stop, report."""

from __future__ import annotations

import json
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from redoseg import __version__, metrics
from redoseg.checkpoint import save_checkpoint
from redoseg.config import Config
from redoseg.data import BUILT_IN, PictureSet, open_data
from redoseg.errors import DataError, RunError
from redoseg.export import export_extractor
from redoseg.pictures import write_atomic
from redoseg.recipe import differences, from_values, to_values
from redoseg.report import write_report
from redoseg.train.log import Entry, RunLog, StatusLine, draw_curves, draw_samples
from redoseg.train.loop import Hooks, train
from redoseg.train.measure import LOOKED_AT, PictureBank, Watched, sample_rows, soft_masks, spread
from redoseg.train.precision import has_fast_bfloat16
from redoseg.train.refine import refine
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
        self.report = path / "report.md"


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
    """`auto` is the first of cuda, mps, cpu that is there. Raises RunError for one that is not."""
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    if torch.cuda.is_available():
        there.insert(0, "cuda")
    if name == "auto":
        return torch.device(there[0])
    if name not in there:
        raise RunError(f"device {name} is not available, one of {', '.join(there)} expected: name one of these")
    return torch.device(name)


def open_training_pictures(config: Config) -> PictureSet:
    """What the run learns from: never its masks."""
    data = config.data
    if data.source in BUILT_IN:
        pictures = open_data(data.source, data.size, config.nets.regions, "train", count=data.pictures)
    else:
        whole = open_data(data.source, data.size, config.nets.regions)
        pictures = whole.subset(data.split) if data.split and data.split in whole.splits else whole
    return replace(pictures, masks=None)


def open_watched_pictures(config: Config) -> PictureSet | None:
    """What the run is scored on, if anything: labelled pictures only. Raises DataError if none is."""
    data = config.data
    if not data.evaluate_on:
        return None
    watched = open_data(data.evaluate_on, data.size, config.nets.regions, data.evaluate_split or None)
    labelled = np.flatnonzero(watched.labelled)
    if not len(labelled):
        raise DataError(
            f"{data.evaluate_on} has no masks, pictures with masks expected: name others in data.evaluate_on"
        )
    return watched if len(labelled) == len(watched) else watched.take(labelled)


def run(config: Config, out: Path, resume: bool, device_name: str, console: Console) -> dict[str, Any]:
    """Train `config` in the folder `out`; returns how it ended: step, stopped, collapsed, iou ...

    Raises RunError (folder exists, changed settings, non-finite loss), DataError, ConfigError.
    """
    folder = RunFolder(out)
    if resume:
        _refuse_changes(read_run_config(out), config, out)
    elif out.exists():
        raise RunError(f"{out} exists, a new run folder expected: add --resume to go on, or name another --out")
    device = pick_device(device_name)
    if config.threads:
        torch.set_num_threads(config.threads)

    pictures = open_training_pictures(config)
    watched_pictures = open_watched_pictures(config)
    bank = PictureBank(pictures, config, device)
    watched = None
    if watched_pictures is not None:
        watched = Watched(watched_pictures, PictureBank(watched_pictures, config, device))

    folder.samples.mkdir(parents=True, exist_ok=resume)
    _write_config(folder, config, device, pictures)
    if resume and folder.state.exists():
        state = replace_config(TrainState.load(folder.state, device), config)
    else:
        state = TrainState.fresh(config, device)
        state.save(folder.state)  # so that there is a good state from the start
    folder.log.rewind(state.restarts, state.step)
    earlier = folder.log.entries()
    seconds = earlier[-1]["seconds"] if earlier else 0.0
    latest = next((e for e in reversed(earlier) if "iou" in e or "iou_matched" in e), {})

    def log(entry: Entry) -> None:
        nonlocal latest
        folder.log.append(entry)
        scored = "object_region" in entry
        latest = entry if "iou" in entry or "iou_matched" in entry else latest
        status.show(entry, latest.get("iou", latest.get("iou_matched")), scored)
        if "collapsed" in entry:
            again = entry["restarts"] < config.watch.restarts
            number = entry["restarts"] + 1
            anew = f"starting anew with seed {config.seed + number * SEEDS_APART}, restart {number}"
            after = anew if again else "going on"
            share = 100 * entry["average_sizes"][entry["collapsed"]]
            status.say(
                f"collapsed at step {entry['step']}: region {entry['collapsed']} holds {share:.1f} % of the "
                f"pictures, at least {100 * config.watch.collapse_share:g} % expected; {after}"
            )
        if scored:
            draw_curves(folder.log.entries(), folder.curves)

    def sample(state: TrainState, region: int) -> None:
        rows = sample_rows(state, state.average.nets["extractor"], bank, watched, region)
        draw_samples(rows, folder.samples / f"{state.restarts}-{state.step:06}.png")

    def save(state: TrainState) -> None:
        state.save(folder.state)

    if config.precision == "auto":
        console.print(f"computing in {'bfloat16' if has_fast_bfloat16(device) else 'float32'}", highlight=False)
    status = StatusLine(console, config.steps)

    def refined_so_far(entry: Entry, extractor: nn.Module) -> None:
        trained = next(e for e in reversed(folder.log.entries()) if "refine_round" not in e)
        passed = round(trained["seconds"] + time.monotonic() - refining_since, 2)
        entry = {"step": state.step, "restarts": state.restarts, "seconds": passed} | entry
        if watched is not None:
            indices = spread(len(watched.pictures), config.data.evaluate_pictures)
            masks = soft_masks(extractor, watched.bank, indices)
            region = trained["object_region"]
            entry |= {"object_region": region} | watched.scores(masks, indices, region)
        folder.log.append(entry)
        figure = next((f"  {k} {entry[k]:.3f}" for k in ("iou", "iou_matched") if k in entry), "")
        status.say(f"refining, round {entry['refine_round']}/{config.refine.rounds}{figure}")

    with _asked_to_stop() as stop, status:
        hooks = Hooks(log=log, sample=sample, save=save, stop=lambda: bool(stop))
        state = train(state, bank, watched, hooks, seconds)
        state.save(folder.state)
        redrawn = finish(folder, state, state.average.nets["extractor"], bank, watched)
        if not config.refine.rounds or redrawn["stopped"] or redrawn["collapsed"]:
            return redrawn
        refining_since = time.monotonic()
        extractor = refine(state, bank, refined_so_far, hooks.stop)
        if extractor is None:
            return redrawn | {"stopped": True}
        save_checkpoint(folder.refined, extractor.state_dict(), {"config": to_values(config)})
        return finish(folder, state, extractor, bank, watched, redrawn.get("scores"))


def finish(
    folder: RunFolder,
    state: TrainState,
    extractor: nn.Module,
    bank: PictureBank,
    watched: Watched | None,
    before: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write mask.onnx, curves and report for `extractor`; returns how the run ended.

    `before` are the scores of the first stage, where `extractor` is that of the second.
    """
    config = state.config
    masks = soft_masks(extractor, bank, spread(len(bank), LOOKED_AT))
    region = metrics.object_region(masks)
    export_extractor(extractor, config, folder.onnx, folder.path.name, region)
    draw_curves(folder.log.entries(), folder.curves)
    sizes = [round(float(s), 5) for s in masks.mean((0, 2, 3))]
    outcome: dict[str, Any] = {
        "step": state.step,
        "steps": config.steps,
        "stopped": state.step < config.steps,
        "restarts": state.restarts,
        "object_region": region,
        "sizes": sizes,
        "collapsed": min(sizes) < config.watch.collapse_share,
    }
    if watched is not None:
        everything = np.arange(len(watched.pictures))
        masks = soft_masks(extractor, watched.bank, everything)
        outcome["scores"] = watched.scores(masks, everything, region)
    if before is not None:
        outcome["scores_before_refining"] = before
    rows = sample_rows(state, extractor, bank, watched, region)
    draw_samples(rows, folder.samples / "last.png")
    write_report(folder.path, config, outcome, folder.log.entries())
    return outcome


def replace_config(state: TrainState, config: Config) -> TrainState:
    """The same state under `config`, which differs from its own in the number of steps alone."""
    state.config = config
    return state


def _refuse_changes(old: Config, new: Config, out: Path) -> None:
    changes = differences(replace(old, steps=0), replace(new, steps=0))
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


def _write_config(folder: RunFolder, config: Config, device: torch.device, pictures: PictureSet) -> None:
    about = {
        "format": FORMAT,
        "config": to_values(config),
        "trained_on": {"name": pictures.name, "pictures": len(pictures), "size": pictures.size},
        "made_with": {
            "redoseg": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
            "threads": torch.get_num_threads(),
        },
    }
    write_atomic(folder.config, (json.dumps(about, indent=2) + "\n").encode())


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Collects Ctrl-C and SIGTERM, so that a step is never cut in half; a second Ctrl-C cuts through."""
    asked: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
