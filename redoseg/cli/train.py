"""The verbs `train` and `refine`: the settings that a command means, and how a training ends."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from redoseg.cli.console import DONE, IN_PART, STOPPED, list_failed, load_torch, new_console, say
from redoseg.cli.options import Refine, Train
from redoseg.cli.parse import HELPS, parse
from redoseg.config.schema import Config
from redoseg.errors import ConfigError
from redoseg.files import check_file, check_folder, in_shell, write_atomic
from redoseg.output import why_output_lost
from redoseg.system import world, world_problem

if TYPE_CHECKING:
    from redoseg.data import ImageSet
    from redoseg.train.time_left import Forecast

# what `train --data FOLDER` runs: two cores finish it in less than an hour
DEFAULT_RECIPES = {"any": "photos", "fixed": "same-ground"}


def run_train(arguments: Sequence[str]) -> int:
    if world().size == 1 and not world_problem():
        return _train_here(arguments, contextlib.nullcontext())
    # while one process waits for another, PyTorch would print a trace for each attempt
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    load_torch()
    from redoseg.train.distributed import all_or_none, process_group

    with contextlib.ExitStack() as stack:
        if world().rank:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(process_group())
        return _train_here(arguments, all_or_none())


def _train_here(arguments: Sequence[str], in_step: contextlib.AbstractContextManager[None]) -> int:
    from redoseg.config.recipe import to_values

    with in_step:
        command, stem = _train_command(arguments)
    folder = command.out or Path("runs") / f"{stem}-seed{command.config.seed}"
    if command.dry_run and command.as_json:
        print(json.dumps(to_values(command.config), indent=2))
        return DONE
    if command.dry_run:
        return _rehearse(command, folder)
    for option, given in (("--json", command.as_json), ("--sheet", command.sheet)):
        if given:
            raise ConfigError(f"{option} was given without --dry-run. Add --dry-run, or remove {option}.")

    if world().rank == 0:
        check_folder(folder)
    return _train(command.config, folder, command.resume, command.device)


def _rehearse(command: Train, folder: Path) -> int:
    """Print what a training would learn from and how long it would take."""
    load_torch()
    import torch

    from redoseg.data import contact_sheet
    from redoseg.train.compute import describe_device
    from redoseg.train.distributed import own_device
    from redoseg.train.forecast import forecast
    from redoseg.train.stage_data import RunData

    config = command.config
    if command.sheet:
        check_file(command.sheet)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = own_device(command.device)
    data = RunData.open(config, device)
    for line in plan(config, data.images, forecast(config, data)):
        say(line)
    if data.corrections is not None:
        say(data.corrections.in_words())
    say(f"measured on {describe_device(device)} with {torch.get_num_threads()} threads, in a few seconds, so roughly")
    if command.sheet:
        buffer = io.BytesIO()
        contact_sheet(data.images).save(buffer, "PNG")
        write_atomic(command.sheet, buffer.getvalue())
        say(f"contact sheet: {command.sheet}")
    say(f"nothing was written to {folder}; --json prints the settings; without --dry-run training starts")
    return list_failed([(str(path), why) for path, why in data.images.bad], len(data.images))


def plan(config: Config, images: ImageSet, expected: Forecast) -> list[str]:
    """What a run does and how long that takes, in lines for people."""
    from redoseg.train.third_stage import drawing_config

    first, second = expected.first_stage(config), expected.second_stage(config, len(images))
    refine = config.refine
    lines = [f"would train on {len(images):,} pictures of {images.name}"]
    lines += [f"note: {note}" for note in images.notes]
    if config.first_steps:
        lines.append(
            f"first stage: {config.steps:,} steps of {config.batch} pictures at {config.data.size} px, {minutes(first)}"
        )
    if config.has_second_stage:
        cut = {"off": "", "grabcut": ", cut by GrabCut", "mean-field": ", cut by a mean field"}[refine.cut_in(1)]
        start = {
            "run": "the first stage's masks",
            "disc": "one disc for all",
            "square": "one square for all",
            "ground": "what is on the ground that all share",
        }
        early, last = config.round_size(1), config.refined_size
        sides = f"{last} px" if early == last else f"{early} px, in the last round {last} px"
        rounds = "1 round" if refine.rounds == 1 else f"{refine.rounds} rounds"
        lines.append(
            f"second stage: {rounds} from {start.get(refine.start, 'masks of ' + refine.start)}: each has masks of "
            f"{min(len(images), refine.pictures):,} pictures{cut}, then {refine.steps:,} steps of {refine.batch} "
            f"pictures at {sides}; {minutes(second)}"
        )
    if config.first_steps and config.has_second_stage:
        lines.append(f"both stages: {minutes(first + second)}")
    if config.redraw.steps:
        drawing, third = drawing_config(config, ""), config.redraw.steps * expected.drawing_step
        lines.append(
            f"third stage: {drawing.steps:,} steps of {drawing.batch} pictures at {drawing.data.size} px, for "
            f"drawings; {minutes(third)}"
        )
    return lines


def minutes(seconds: float) -> str:
    """About how long, in words."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} seconds"
    if seconds < 5400:
        return f"about {round(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours"


def _train(config: Config, folder: Path, resume: bool, device: str, refine_again: bool = False) -> int:
    load_torch()
    import matplotlib  # noqa: F401  # what only the end of a run needs should be missed before it starts
    import onnx  # noqa: F401

    from redoseg.train.report import ending
    from redoseg.train.run import run

    outcome = run(config, folder, resume, device, new_console(), refine_again=refine_again)
    if not outcome:  # the first of several processes prints how it ended
        return DONE
    scores = outcome.get("scores", {})
    figure = next((f", {k} {scores[k]:.3f}" for k in ("iou", "iou_matched") if k in scores), "")
    say(f"{ending(outcome)}{figure}; run folder: {folder}")
    if outcome["stopped"] and refine_again:
        say("the run is what it was before; the same command continues the new second stage")
        return STOPPED
    if outcome["stopped"]:
        say(f"continue with: redoseg train --resume --out {in_shell(folder)}")
        if why_output_lost() is not None:
            print(
                f"redoseg: training stopped, since standard output cannot be written; its state is saved; continue "
                f"with: redoseg train --resume --out {in_shell(folder)}",
                file=sys.stderr,
            )
        return STOPPED
    what = "a row a picture: the picture, its mask" + (", each region redrawn" if config.first_steps else "")
    say(f"look at {folder / 'samples' / 'last.png'}: {what}")
    say(f"use it: redoseg segment {in_shell(folder)} photo.jpg -o out/")
    if "redraw_steps" in outcome:
        say(f"its drawings: redoseg redraw {in_shell(folder)} photo.jpg -o drawn/")
    return IN_PART if outcome["collapsed"] or outcome["left_out"] else DONE


def _train_command(arguments: Sequence[str]) -> tuple[Train, str]:
    """The command in full, and the name of what it trains."""
    from redoseg.config.recipe import check, load_recipe

    # the recipe gives the defaults of every other setting, so it is looked for before the rest is read
    first = parse(Train, "train", [a for a in arguments if a not in HELPS], default=Train())
    recipe, given, out = first.recipe, first.data, first.out
    base = Config()
    if recipe:
        base = load_recipe(recipe)
    elif first.resume:
        if not out:
            raise ConfigError("--resume needs the run folder to continue. Add --out FOLDER.")
        from redoseg.run_folder import RunFolder

        base = RunFolder(Path(out)).read_config()
    elif given:
        base = load_recipe(DEFAULT_RECIPES[first.ground])
    elif not {*HELPS} & set(arguments):
        from redoseg.config.recipe import recipe_names

        raise ConfigError(
            f"there is nothing to train on. Add --data FOLDER, or a recipe: a TOML file or one of "
            f"{', '.join(recipe_names())}."
        )
    if given and first.resume and (not recipe or _began_with(base, out)):  # the run's pictures lie elsewhere now
        watched = given if base.data.evaluate_on == base.data.source else base.data.evaluate_on
        base = replace(base, data=replace(base.data, source=given, evaluate_on=watched))
    elif given:
        base = replace(base, data=replace(base.data, source=given, split="train", evaluate_on="", evaluate_split=""))
    if first.ground == "fixed":
        base = replace(base, refine=replace(base.refine, start="ground"))
    if first.mask_values:
        base = replace(base, data=replace(base.data, mask_values=first.mask_values))
    command = parse(Train, "train", arguments, default=Train(recipe=recipe, ground=first.ground, config=base))
    check(command.config)
    return command, Path(recipe).stem if recipe else Path(given).resolve().name


def _began_with(recipe: Config, out: Path | None) -> bool:
    """Whether the run in the folder `out` began with the pictures that its recipe names, and not with --data."""
    from redoseg.run_folder import RunFolder

    if out is None:
        return False
    began = RunFolder(out).read_config().data
    return (began.split, began.evaluate_split, bool(began.evaluate_on)) == (
        recipe.data.split,
        recipe.data.evaluate_split,
        bool(recipe.data.evaluate_on),
    )


def run_refine(arguments: Sequence[str]) -> int:
    from redoseg.config.recipe import check
    from redoseg.run_folder import RunFolder

    helping = {*HELPS} & set(arguments) or not arguments
    # the run gives the defaults of all settings, so it is looked for before the rest is read
    if not helping:
        first = parse(Refine, "refine", arguments)
        base = RunFolder(first.run).read_config()
        if first.corrected is not None:
            base = replace(base, refine=replace(base.refine, corrected=first.corrected))
    command = parse(Refine, "refine", arguments, default=None if helping else Refine(run=first.run, config=base))
    check(command.config)
    return _train(command.config, command.run, True, command.device, refine_again=True)
