"""A run whose second stage is under way: nothing says that it is finished, and what uses its masks says whose they are.

And how long it will take, which is measured before it starts.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from redoseg.cli.main import run_command
from redoseg.inference.segmenter import Segmenter
from redoseg.run_folder import Entry, RunFolder
from redoseg.train.forecast import forecast
from redoseg.train.run import Run, run
from redoseg.train.stage_data import RunData
from redoseg.train.time_left import Forecast
from redoseg.web.progress import run_progress
from tests.conftest import Tiny, Trained

SECOND = ["--refine.rounds", "2", "--refine.steps", "20", "--refine.pictures", "16", "--refine.batch", "4"]


@pytest.fixture(scope="module")
def unfinished(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run that was stopped in its second stage, and what it had said while that ran."""
    folder = tmp_path_factory.mktemp("unfinished") / "run"
    shutil.copytree(trained.folder, folder)
    files, said = RunFolder(folder), dict[str, Any]()

    def refine(*_: object, log: Any, **__: object) -> None:
        log({"refining": 1, "targets": 8})
        log({"refining": 1, "targets": 16})
        log({"refining": 1, "refine_step": 20})
        said.update(outcome=files.read_outcome(), report=files.report.read_text(), page=run_progress(folder).words)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("redoseg.train.run.draw_samples", lambda *_: None)
        patch.setattr("redoseg.train.run.refine", refine)
        assert run_command(["train", "--resume", "--out", str(folder), *SECOND]) == 130
    return folder, said


def test_nothing_says_finished_while_the_second_stage_runs(unfinished: tuple[Path, dict[str, Any]]) -> None:
    said = unfinished[1]
    assert said["outcome"]["rounds_left"] == 2
    assert "State: second stage under way" in said["report"]
    assert "The second stage is not finished" in said["report"]
    assert "second stage, round 1 of 2" in said["page"].lower()
    for words in (said["report"], said["page"]):
        assert "ended:" not in words.lower()
        assert "**finished" not in words.lower()


def test_a_stop_is_named(unfinished: tuple[Path, dict[str, Any]]) -> None:
    files = RunFolder(unfinished[0])
    assert "Ended: stopped by hand in the second stage" in files.report.read_text()
    assert "Stopped by hand in the second stage" in run_progress(files.path).words


@pytest.mark.parametrize("verb", ["segment", "export", "redraw"])
def test_who_uses_its_masks_reads_whose_they_are(
    unfinished: tuple[Path, dict[str, Any]],
    trained: Trained,
    verb: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "a.png")
    for folder, unfit in ((unfinished[0], True), (trained.folder, False)):
        photo = [] if verb == "export" else [tmp_path / "a.png"]
        out = tmp_path / f"{verb}-{unfit}"
        assert run_command([verb, str(folder), *map(str, photo), "--out", str(out)]) == 0
        assert ("is not finished (2 rounds left)" in capsys.readouterr().err) == unfit


@pytest.mark.parametrize("start", [pytest.param("run", marks=pytest.mark.slow), "disc"])
def test_each_round_leaves_masks_that_can_be_used(
    start: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"refine.rounds": 2, "refine.steps": 20, "refine.batch": 4, "refine.start": start, "refine.size": 32}
    settings |= {"refine.early_size": 16, "watch.collapse_share": 0.0}
    settings |= {"refine.least_share": 0.0}  # so short a run may find no object
    config, files = tiny(settings), RunFolder(tmp_path / "run")
    drawn: list[int] = []
    monkeypatch.setattr("redoseg.train.run.draw_samples", lambda *_: drawn.append(files.read_outcome() == {}))
    found, real = [], Run._say_round

    def said(self: Run, entry: Entry) -> None:
        real(self, entry)
        if entry["refine_round"] == 2:  # what the first round has left
            found.append((Segmenter(files.path).size, files.read_outcome()["rounds_left"]))

    monkeypatch.setattr(Run, "_say_round", said)
    run(config, files.path, False, "cpu", Console(file=io.StringIO()))
    assert found == [(16, 1)]
    assert Segmenter(files.path).size == 32
    assert "rounds_left" not in files.read_outcome()
    assert len(drawn) == (5 if start == "run" else 2)  # two of the first stage, its end, the first round, the end


def test_a_forecast_times_both_stages_and_changes_nothing(tiny: Tiny) -> None:
    config = tiny({"refine.rounds": 2, "refine.pictures": 10, "refine.steps": 30, "refine.batch": 4})
    data = RunData.open(config, torch.device("cpu"))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    found = forecast(config, data)
    assert torch.equal(torch.get_rng_state(), before)
    assert min(found.step, *found.targets, *found.refine_steps) > 0
    assert len(found.targets) == len(found.refine_steps) == 2
    alone = forecast(tiny({"refine.rounds": 1, "refine.start": "disc", "refine.steps": 20}), data)
    assert alone.step == 0
    assert alone.refine_steps[0] > 0


def test_the_whole_time_of_a_stage(tiny: Tiny) -> None:
    config = tiny({"refine.rounds": 2, "refine.pictures": 10, "refine.steps": 30})
    found = Forecast(step=2.0, targets=(0.5, 0.25), refine_steps=(1.0, 4.0))
    assert found.first_stage(config) == 12 * 2.0
    assert found.second_stage(config, 24) == 10 * 0.75 + 30 * 5.0
    assert found.second_stage(config, 4) == 4 * 0.75 + 30 * 5.0
