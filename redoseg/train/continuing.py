"""config.json: what it says of a run, and whether that run may continue, wherever its pictures lie now."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console

from redoseg import __version__
from redoseg.config.recipe import anywhere, differences, to_values
from redoseg.config.schema import STARTS, Config
from redoseg.data import BUILT_IN, ImageSet
from redoseg.errors import RunError
from redoseg.files import at_home, in_shell, printable, write_atomic
from redoseg.inference.model_file import weights
from redoseg.run_folder import CONFIG_FILE, About, Contents, Labels, RunFolder, read_object
from redoseg.storage import Address, place_of
from redoseg.train.compute import describe_device
from redoseg.train.stage_data import RunData, open_training_images, open_watched_images
from redoseg.train.state import TrainState

FORMAT = 1
_What = Literal["pictures", "watched", "extractor", "start", "corrected"]
_READS: tuple[tuple[_What, str], ...] = (
    ("pictures", "data.source"),
    ("watched", "data.evaluate_on"),
    ("extractor", "nets.extractor_from"),
    ("start", "refine.start"),
    ("corrected", "refine.corrected"),
)
"""What a run reads, and the setting that says where it lies."""


def check_folder(folder: RunFolder, config: Config, resume: bool, console: Console, refine_again: bool) -> None:
    """Raises RunError where the run cannot start or continue in this folder."""
    if not resume:
        if folder.path.exists():
            raise RunError(
                f"{printable(folder.path)} already exists; add --resume to continue it, or choose another --out"
            )
        return
    before = folder.read_config()
    if refine_again:
        _check_refining_again(folder, before, config)
    _refuse_changes(before, config, folder, refine_again)
    _refuse_moved(before, config, folder, refine_again)
    for change in differences(replace(config, speed=before.speed), config):
        console.print(f"computing differently than before: {change}", markup=False, highlight=False, soft_wrap=True)


def contents(config: Config, data: RunData) -> Contents:
    """Hashes of what a run reads, at the larger of both stages' sizes."""
    watched = None if data.second.watched is None else data.second.watched.labelled
    return _contents(data.images, watched, data)


def check_contents(folder: RunFolder, config: Config, data: RunData, refine_again: bool) -> None:
    """Raises RunError where a run would continue with other pictures or masks than it began with.

    They are compared at the size at which it read them. A run of a version that stored no hashes is let through.
    """
    stored: Any = read_object(folder.config).get("contents")
    if not isinstance(stored, dict):
        return
    found = contents(config, data)
    if found["size"] != stored.get("size"):
        before = folder.read_config()
        there = replace(before, data=config.data, refine=replace(before.refine, start=config.refine.start))
        found = _contents(open_training_images(there), open_watched_images(there), data)
    for what, setting in _reads(config, folder, refine_again):
        if what in stored and stored[what] != found.get(what, stored[what]):
            parts = "weights" if what == "extractor" else "pictures"
            raise RunError(
                f"{setting} ({printable(_path(config, setting))}) has other {parts} now than when "
                f"{printable(folder.path)} began; put back those that it had, or start a new run"
            )


def _contents(images: ImageSet, watched: ImageSet | None, data: RunData) -> Contents:
    found: Contents = {"size": images.size, "pictures": images.digest()}
    if watched is not None:
        found["watched"] = watched.digest()
    if data.corrections is not None:
        found["corrected"] = data.labels_digest
    if data.kept:
        found["extractor"] = data.kept
    if data.start is not None and data.start.files:
        digest = hashlib.sha256()
        for path in data.start.files:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        found["start"] = digest.hexdigest()
    return found


def _reads(config: Config, folder: RunFolder, refine_again: bool) -> tuple[tuple[_What, str], ...]:
    """What must stay the same; what the second stage alone reads only once it has begun."""
    return _READS[:3] if _refining_is_free(config, folder, refine_again) else _READS


def _refining_is_free(config: Config, folder: RunFolder, refine_again: bool) -> bool:
    """Whether the settings of the second stage may change: it has not begun, is done again, or is given up."""
    begun = folder.refined.exists() or any("refine_round" in e for e in folder.log.entries())
    return refine_again or not begun or (not config.has_second_stage and not folder.refined.exists())


def _path(config: Config, setting: str) -> str:
    table, name = setting.split(".")
    return str(getattr(getattr(config, table), name))


def _refuse_moved(before: Config, config: Config, folder: RunFolder, refine_again: bool) -> None:
    """Raises RunError where pictures are gone, or lie elsewhere and nobody can say whether they are the same."""
    known = isinstance(read_object(folder.config).get("contents"), dict)
    for what, setting in _reads(config, folder, refine_again):
        if what == "extractor" and not config.masks_stay:
            continue  # read once, when the run began
        old, new = _path(before, setting), _path(config, setting)
        if old != new and not known:
            raise RunError(
                f"{printable(folder.path)} was made by an older redoseg, which kept no record of its pictures, so "
                f"those in {printable(new)} cannot be compared; move them back to {printable(old)} ({setting})"
            )
        place = place_of(new)
        names = {"start": STARTS, "extractor": tuple(weights())}.get(what, BUILT_IN)
        # what is elsewhere or has a name is looked for where it is opened
        named = not new or new in names or isinstance(place, Address)
        if not named and not os.path.exists(place):
            option = "--data" if setting == "data.source" and not refine_again else f"--{setting.replace('_', '-')}"
            raise RunError(
                f"{printable(folder.path)} reads {printable(new)} ({setting}), which does not exist; if it was moved, "
                f"add {option} FOLDER with its new path"
            )


def _check_refining_again(folder: RunFolder, before: Config, config: Config) -> None:
    """Raises RunError where the second stage cannot be done again: the first is not whole, or would be another."""
    if anywhere(replace(before, refine=config.refine, speed=config.speed)) != anywhere(config):
        changed = "; ".join(differences(replace(before, refine=config.refine, speed=config.speed), config))
        raise RunError(f"refine can change only settings of --refine and --speed, but not {changed}; remove the others")
    if not config.has_second_stage:
        raise RunError(f"{printable(folder.path)} has no second stage; set --refine.rounds 1 or more")
    reached = TrainState.load(folder.state, torch.device("cpu")).step if folder.state.exists() else 0
    if reached < config.first_steps:
        raise RunError(
            f"{printable(folder.path)} has {reached} of {config.first_steps} steps of its first stage; finish it with: "
            f"redoseg train --resume --out {in_shell(folder.path)}"
        )


def _refuse_changes(before: Config, config: Config, folder: RunFolder, refine_again: bool) -> None:
    """Raises RunError where a run cannot continue under new settings; those of a second stage to come are free."""
    free = _refining_is_free(config, folder, refine_again)
    compared = replace(before, steps=0, speed=config.speed, refine=config.refine if free else before.refine)
    compared = replace(compared, redraw=config.redraw)  # its own folder says what it was
    changes = differences(anywhere(compared), anywhere(replace(config, steps=0)))
    if changes:
        raise RunError(
            f"{printable(folder.path)} was trained with other settings ({'; '.join(changes)}); keep the settings that "
            "it has, or start a new run without --resume"
        )
    if config.steps < before.steps:
        raise RunError(
            f"{printable(folder.path)} was started for {before.steps} steps, but --steps is {config.steps}; remove "
            "--steps or raise it"
        )


def check_state(of_state: Config, config: Config, folder: RunFolder) -> None:
    """Raises RunError where the weights of a run are of other settings than its config.json."""
    # steps and later stages may change on resume
    then = replace(of_state, steps=config.steps, speed=config.speed, refine=config.refine, redraw=config.redraw)
    changes = differences(anywhere(config), anywhere(then))
    if changes:
        raise RunError(
            f"{printable(folder.path)} is damaged: {folder.state.name} is of other settings than {CONFIG_FILE} "
            f"({'; '.join(changes)[:200]}); put back the one that was changed, or start a new run without --resume"
        )


def write_config(folder: RunFolder, config: Config, data: RunData) -> None:
    """Write settings, pictures and versions, of which the first two are checked where the run continues."""
    images = data.images
    about: About = {
        "format": FORMAT,
        "config": to_values(config),
        "trained_on": {"name": images.name, "pictures": len(images), "size": images.size},
        "contents": contents(config, data),
        "made_with": {
            "redoseg": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "device": describe_device(data.first.store.device),
            "threads": torch.get_num_threads(),
        },
    }
    if data.corrections is not None:
        about["labels"] = data.corrections.labels
    earlier = _earlier_labels(config, folder)
    if earlier is not None:
        about["earlier_labels"] = earlier
    write_atomic(folder.config, (json.dumps(about, indent=2) + "\n").encode())


def _earlier_labels(config: Config, folder: RunFolder) -> Labels | None:
    """The labels behind the masks that this run began with; as it noted them, where that run is gone."""
    if not config.nets.extractor_from:
        return None
    there = RunFolder(at_home(config.nets.extractor_from))
    about = there.read_about()
    if not about:
        return folder.read_about().get("earlier_labels")
    counts = [about.get("earlier_labels"), about.get("labels") if there.refined.exists() else None]
    found = [one for one in counts if one]
    if not found:
        return None
    return {"corrected": sum(one["corrected"] for one in found), "refused": sum(one["refused"] for one in found)}
