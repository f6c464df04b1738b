"""A run folder in words and images, whether the run is training or has ended."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from redoseg.errors import ConfigError, DataError, RunError
from redoseg.files import describe_error, printable
from redoseg.images.read import read_image
from redoseg.run_folder import Entry, Outcome, RunFolder
from redoseg.train.health import ADVICE
from redoseg.train.report import ending, is_under_way
from redoseg.train.time_left import second_stage_left


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    words: str
    """Markdown."""
    curves: Image.Image | None
    samples: Image.Image | None


def run_progress(folder: Path) -> Progress:
    """How far the run in a folder is. Raises DataError if there is no folder, or its log is not that of a run."""
    if not folder.is_dir():
        raise DataError(f"{printable(folder)} does not exist. Choose a run folder with --run.")
    files = RunFolder(folder)
    images = []
    grids = [p for p in files.samples.glob("*.png") if not p.name.startswith(".")]
    latest = max(grids, key=lambda p: p.stat().st_mtime, default=None)
    for path in (files.curves, latest):
        image = None
        with contextlib.suppress(DataError):  # not there yet
            image = read_image(path) if path else None
        images.append(image)
    try:
        words = _words(files)
    except RunError as error:
        raise DataError(str(error)) from error
    except (KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        raise DataError(
            f"The log of {printable(folder)} cannot be read ({describe_error(error)}). Choose the folder of a run of "
            "redoseg with --run."
        ) from error
    if latest:
        rows = "photographs, their masks, each region redrawn, and the true mask where there is one"
        words += f"\n\nSamples in `{printable(latest.name)}`: {rows}."
    return Progress(words, *images)


def run_names(runs: Sequence[Path]) -> dict[str, Path]:
    """Run folders by unique names: the folder's name, or its whole path where two have the same name."""
    names = [run.resolve().name for run in runs]
    return {
        (printable(name) if names.count(name) == 1 else printable(run.resolve())): run
        for name, run in zip(names, runs, strict=True)
    }


def _words(files: RunFolder) -> str:
    entries = files.log.entries()
    if not entries:
        return "`log.jsonl` has no line yet. The run is starting, or the folder is not a run folder."
    outcome, last = files.read_outcome(), entries[-1]
    trained = next((e for e in reversed(entries) if "sizes" in e), last)
    sentences = [_reached(files, outcome, entries, trained)]
    if "steps_per_s" in trained and "sizes" in trained:
        sizes = " and ".join(f"{100 * share:.0f} %" for share in trained["sizes"])
        sentences.append(f"{trained['steps_per_s']:.2f} steps a second. The regions cover {sizes} of the photographs.")
    scored = next((e for e in reversed(entries) if "iou" in e or "iou_matched" in e), None)
    if scored:
        kind, figure = ("IoU", scored["iou"]) if "iou" in scored else ("matched IoU", scored["iou_matched"])
        sentences.append(f"Last score, at step {scored['step']:,}: {kind} {figure:.3f}.")
    if last.get("restarts"):
        sentences.append(f"Restarted {last['restarts']} times after a collapse.")
    health = outcome.get("health") if outcome.get("health") == "diverged" else trained.get("health")
    if health:
        advice = f": in a new run, {ADVICE[health]}" if health in ADVICE else ""
        sentences.append(f"\n\nHealth: **{health}**{advice}.")
    return " ".join(sentences)


def _reached(files: RunFolder, outcome: Outcome, entries: Sequence[Entry], trained: Entry) -> str:
    """How the run has ended, or its step and the time left."""
    last = entries[-1]
    if outcome.get("health") == "diverged":
        return f"**Diverged** at step {outcome['step']:,}."
    if outcome and outcome["step"] >= last["step"] and not is_under_way(outcome):
        return f"**{ending(outcome).capitalize()}**, {last['step']:,} steps in {_minutes(last.get('seconds', 0.0))}."
    try:
        config = files.read_config()
    except (ConfigError, RunError):  # the log alone says enough
        return f"**Step {last['step']:,}**, {_minutes(last.get('seconds', 0.0))} so far."
    trained_on = files.read_about().get("trained_on")
    number = last.get("refining", last.get("refine_round"))
    if number:
        images = trained_on["pictures"] if trained_on else config.refine.pictures
        seconds = second_stage_left(config, images, entries)
        stage, of_what = f"second stage, round {number} of {config.refine.rounds}", ""
    else:
        speed = trained.get("steps_per_s")
        seconds = (config.steps - last["step"]) / speed if speed else None
        stage = f"step {last['step']:,} of {config.steps:,} ({100 * last['step'] / config.steps:.0f} %)"
        of_what = " of the first stage" if config.has_second_stage else ""
    left = "" if seconds is None else f", about {_minutes(seconds)}{of_what} left"
    return f"**{stage.capitalize()}**, {_minutes(last.get('seconds', 0.0))} so far{left}."


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
