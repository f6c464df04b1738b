"""Third stage: drawings for masks that are finished.

It is a run of its own, of the recipe `redraw`, in the folder `drawings` of the run: new generators, a new discriminator
and a new latent encoder play the first stage's game for the masks of the second, which do not change.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from redoseg.config.recipe import load_recipe
from redoseg.config.schema import Config, RedrawConfig, RefineConfig
from redoseg.files import write_atomic
from redoseg.run_folder import Outcome, RunFolder, read_object


def drawing_config(config: Config, run: str) -> Config:
    """The settings of the third stage of a run in the folder `run`. Raises ConfigError for a recipe that is not one."""
    recipe = load_recipe(config.redraw.recipe)
    nets = replace(recipe.nets, regions=config.nets.regions, extractor_from=run, extractor="paper")
    nets = replace(nets, extractor_width=config.nets.extractor_width)
    if config.refine.student == "unet":
        nets = replace(nets, extractor="unet", extractor_width=config.refine.student_width)
    size = config.redraw.size or min(recipe.data.size, config.refined_size)
    return replace(
        recipe,
        steps=config.redraw.steps,
        seed=config.seed,
        threads=config.threads,
        precision=config.precision,
        data=replace(config.data, size=size, evaluate_on=""),
        nets=nets,
        optim=replace(recipe.optim, extractor_rate=0.0),
        speed=config.speed,
        refine=RefineConfig(),
        redraw=RedrawConfig(),
    )


def learn_to_draw(config: Config, folder: RunFolder, train: Callable[[Config, Path, bool], Outcome]) -> Outcome:
    """Do the third stage, or continue it, by `train` (settings, folder, whether to resume).

    Returns the run's outcome with what came of it. redraw.onnx is the run's own until the stage has finished.
    """
    drawings = RunFolder(folder.drawings)
    wanted = drawing_config(config, str(folder.path.resolve()))
    if not drawings.config.exists():
        shutil.rmtree(folder.drawings, ignore_errors=True)
    _follow(drawings, wanted.nets.extractor_from)
    found = train(wanted, folder.drawings, drawings.config.exists())
    if not found["stopped"]:
        write_atomic(folder.redraw, drawings.redraw.read_bytes())
    outcome = folder.read_outcome() | {"redraw_steps": found["step"], "stopped": found["stopped"]}
    write_atomic(folder.outcome, (json.dumps(outcome, indent=1) + "\n").encode())
    return outcome


def _follow(drawings: RunFolder, run: str) -> None:
    """Where the run was moved since its third stage began, note the folder in which its masks lie now."""
    about = read_object(drawings.config)
    nets = about.get("config", {}).get("nets", {})
    if nets and nets.get("extractor_from") != run:
        nets["extractor_from"] = run
        write_atomic(drawings.config, (json.dumps(about, indent=2) + "\n").encode())


def forget_drawings(folder: RunFolder) -> None:
    """Remove what was learnt for masks that are about to be others."""
    shutil.rmtree(folder.drawings, ignore_errors=True)


def finished_drawings(folder: RunFolder) -> RunFolder | None:
    """The third stage of a run, if it has finished."""
    drawings = RunFolder(folder.drawings)
    return drawings if drawings.redraw.is_file() and drawings.read_outcome().get("stopped") is False else None
