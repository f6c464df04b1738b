"""The verbs `train` and `refine`: the settings that a command means, and how a training ends."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from redoseg.cli.console import DONE, IN_PART, STOPPED, new_console, say
from redoseg.cli.options import Refine, Train
from redoseg.cli.parse import HELPS, parse
from redoseg.config.schema import Config
from redoseg.errors import ConfigError
from redoseg.files import check_folder, printable
from redoseg.output import why_output_lost
from redoseg.system import world

DEFAULT_RECIPE = "photos"  # what `train --data FOLDER` runs: two cores finish it in less than an hour


def run_train(arguments: Sequence[str]) -> int:
    if world().size == 1:
        return _train_here(arguments, contextlib.nullcontext())
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
    if command.dry_run:
        print(json.dumps(to_values(command.config), indent=2))
        return DONE

    folder = command.out or Path("runs") / f"{stem}-seed{command.config.seed}"
    if world().rank == 0:
        check_folder(folder)
    return _train(command.config, folder, command.resume, command.device)


def _train(config: Config, folder: Path, resume: bool, device: str, refine_again: bool = False) -> int:
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
        say(f"continue with: redoseg train --resume --out {folder}")
        if why_output_lost() is not None:
            print(
                f"redoseg: training stopped, since standard output cannot be written; its state is saved; continue "
                f"with: redoseg train --resume --out {printable(folder)}",
                file=sys.stderr,
            )
        return STOPPED
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
        base = load_recipe(DEFAULT_RECIPE)
    elif not {*HELPS} & set(arguments):
        from redoseg.config.recipe import recipe_names

        raise ConfigError(
            f"there is nothing to train on. Add --data FOLDER, or a recipe: a TOML file or one of "
            f"{', '.join(recipe_names())}."
        )
    if given and first.resume and not recipe:  # the run's pictures lie elsewhere now
        watched = given if base.data.evaluate_on == base.data.source else base.data.evaluate_on
        base = replace(base, data=replace(base.data, source=given, evaluate_on=watched))
    elif given:
        base = replace(base, data=replace(base.data, source=given, split="train", evaluate_on="", evaluate_split=""))
    if first.mask_values:
        base = replace(base, data=replace(base.data, mask_values=first.mask_values))
    command = parse(Train, "train", arguments, default=Train(recipe=recipe, config=base))
    check(command.config)
    return command, Path(recipe).stem if recipe else Path(given).resolve().name


def run_refine(arguments: Sequence[str]) -> int:
    from redoseg.config.recipe import check
    from redoseg.run_folder import RunFolder

    helping = {*HELPS} & set(arguments) or not arguments
    # the run gives the defaults of all settings, so it is looked for before the rest is read
    if not helping:
        first = parse(Refine, "refine", arguments)
        base = RunFolder(first.run).read_config()
    command = parse(Refine, "refine", arguments, default=None if helping else Refine(run=first.run, config=base))
    check(command.config)
    return _train(command.config, command.run, True, command.device, refine_again=True)
