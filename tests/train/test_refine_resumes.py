"""A second stage that was killed continues where it was, and ends with the bits of one that was not."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from redoseg.config.recipe import to_toml
from redoseg.config.schema import Config
from redoseg.run_folder import RunFolder
from redoseg.system import cores
from redoseg.train import refine
from redoseg.train.corrections import Corrections
from redoseg.train.loader import ImageStore
from redoseg.train.refine_state import RefineState
from redoseg.train.stage_data import open_training_images
from redoseg.train.start_masks import StartMasks
from redoseg.train.state import TrainState
from tests.conftest import Start

Tiny = Callable[..., Config]
CPU = torch.device("cpu")
SECOND = {
    "refine.start": "disc",
    "refine.rounds": 2,
    "refine.least_share": 0.0,  # so short a run may find no object
    "refine.steps": 20,
    "refine.batch": 4,
    "refine.keep": 0.8,
    "refine.sharpen": "grabcut",
    "refine.sharpen_size": 16,
    "refine.composites": 0.5,
}


class Killed(BaseException):
    """What nothing catches."""


class Stage:
    """A second stage in a folder, in one session or several; `done` counts cuts and steps of this session."""

    def __init__(self, config: Config, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.config, self.files = config, RunFolder(folder)
        self.store = ImageStore(open_training_images(config), config, CPU)
        self.state = TrainState.fresh(config, CPU)
        names = tuple(f"picture-{number}" for number in range(24))
        self.corrections = Corrections.find(config.refine, config.largest_size, names)
        self.labels = self.corrections.corrected.digest() if self.corrections is not None else ""
        self.done: list[str] = []

    def go(self, end: Callable[[str], bool] | None = None, kill: bool = True) -> torch.nn.Module | None:
        """Go until the end, or until `end` is true of what was just done: a stop, or a kill.

        What is to be stopped saves what it can at each moment.
        """
        at = RefineState.load(self.files, self.config, restarts=0, count=24, device=CPU, labels=self.labels)
        at = at or RefineState(self.config, 0, 24, CPU, self.labels)
        asked = False

        def did(what: str) -> None:
            nonlocal asked
            self.done.append(what)
            if end is not None and end(what):
                if kill:
                    raise Killed
                asked = True

        def save(also_targets: bool) -> None:
            at.save(self.files, also_targets)
            did("save")

        with pytest.MonkeyPatch.context() as patch:
            cut, augment = refine.grabcut_from, refine.augment

            def cutting(*arguments: Any) -> Any:
                did("cut")
                return cut(*arguments)

            def augmenting(*arguments: Any) -> Any:
                did("step")
                return augment(*arguments)

            patch.setattr(refine, "grabcut_from", cutting)
            patch.setattr(refine, "augment", augmenting)
            patch.setattr(refine, "SAVE_EVERY", refine.SAVE_EVERY if end is None else 0.0)
            return refine.refine(
                self.state,
                self.store,
                [self.store] * 2,
                report=lambda entry, _: did(f"round {entry['refine_round']}"),
                stop=lambda: asked,
                start=StartMasks.find(self.config.refine, ()),
                corrections=self.corrections,
                at=at,
                save=save,
            )


@pytest.fixture(scope="module")
def straight(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of a second stage in one session."""
    network = Stage(tiny(SECOND), tmp_path_factory.mktemp("straight")).go()
    assert network is not None
    return network.state_dict()


def at_number(what: str, number: int) -> Callable[[str], bool]:
    seen = []

    def end(done: str) -> bool:
        seen.append(done)
        return done == what and seen.count(what) == number

    return end


MOMENTS = [
    ("cut", 10, 39 + cores(), 40),  # cuts are made in threads: when the tenth begins, so many may be under way
    ("step", 7, 24, 34),
    ("round 1", 1, 24, 21),
    ("cut", 30, 24, 20),
    ("step", 33, 0, 8),
    ("round 2", 1, 0, 1),
]
QUICK = {("killed", "cut", 10), ("stopped", "step", 7)}


@pytest.mark.parametrize(
    ("how", "what", "number", "most_cuts", "most_steps"),
    [
        pytest.param(how, *moment, marks=[] if (how, *moment[:2]) in QUICK else pytest.mark.slow)
        for how, moment in product(("killed", "stopped"), MOMENTS)
    ],
)
def test_it_continues_with_the_same_bits(
    how: str,
    what: str,
    number: int,
    most_cuts: int,
    most_steps: int,
    tiny: Tiny,
    straight: dict[str, torch.Tensor],
    tmp_path: Path,
) -> None:
    stage = Stage(tiny(SECOND), tmp_path / "run")
    if how == "killed":
        with pytest.raises(Killed):
            stage.go(at_number(what, number))
    else:
        stage.go(at_number(what, number), kill=False)
    stage.done.clear()
    network = stage.go()
    assert network is not None
    weights = network.state_dict()
    assert all(torch.equal(weights[key], straight[key]) for key in straight)
    assert stage.done.count("cut") <= most_cuts
    assert stage.done.count("step") <= most_steps


def test_a_kill_between_the_two_files(tiny: Tiny, straight: dict[str, torch.Tensor], tmp_path: Path) -> None:
    stage = Stage(tiny(SECOND), tmp_path / "run")
    with pytest.raises(Killed):
        stage.go(at_number("step", 5))
    stage.files.targets.unlink()
    network = stage.go()
    assert network is not None
    assert all(torch.equal(value, straight[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("change", [{"refine.keep": 0.7}, {"seed": 1}])
def test_what_other_settings_made_is_not_taken(change: dict[str, Any], tiny: Tiny, tmp_path: Path) -> None:
    stage = Stage(tiny(SECOND), tmp_path / "run")
    stage.go(at_number("step", 5), kill=False)
    given = {"restarts": 0, "count": 24, "device": CPU}
    assert RefineState.load(stage.files, stage.config, **given) is not None
    assert RefineState.load(stage.files, tiny(SECOND | change), **given) is None
    assert RefineState.load(stage.files, stage.config, **(given | {"restarts": 1})) is None


@pytest.mark.slow
@pytest.mark.parametrize("steps", [20, 33, 900])
def test_the_learning_rate_is_that_of_one_cycle(steps: int) -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.Adam([weight])
    schedule = OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1, cycle_momentum=False)
    for step in range(1, steps + 1):
        assert refine.one_cycle(step, steps, 2e-3) == optimiser.param_groups[0]["lr"]
        optimiser.step()
        schedule.step()


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_a_process_that_is_killed_within_a_round(number: int, start: Start, tiny: Tiny, tmp_path: Path) -> None:
    """SIGKILL to the command itself; the next one continues within that round, and ends with the same bits."""
    settings = SECOND | {"refine.steps": 400, "refine.size": 32, "refine.early_size": 16, "watch.log_every": 1}
    settings |= {"watch.collapse_share": 0.0}
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(tiny(settings)))
    command = ["-m", "redoseg", "train", recipe, "--device", "cpu", "--out"]
    killed, whole = RunFolder(tmp_path / "killed"), RunFolder(tmp_path / "whole")
    training = start(*command, killed.path)
    under_way = f'"refining": {number}, "refine_step": 40'
    deadline = time.monotonic() + 120
    while not (killed.log.path.exists() and under_way in killed.log.path.read_text()):
        assert training.poll() is None, training.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    training.kill()
    training.communicate(timeout=60)
    assert not killed.refined.exists()
    for arguments in (
        ["-m", "redoseg", "train", "--resume", "--device", "cpu", "--out", killed.path],
        [*command, whole.path],
    ):
        process = start(*arguments)
        assert process.wait(timeout=300) == 0, process.communicate()
    assert killed.refined.read_bytes() == whole.refined.read_bytes()
