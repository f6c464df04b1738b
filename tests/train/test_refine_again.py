"""`redoseg refine RUN`: the second stage again, with other settings, without touching the first."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from rich.console import Console

from redoseg.cli.main import run_command
from redoseg.config.recipe import to_values
from redoseg.config.schema import Config, RefineConfig
from redoseg.errors import RedosegError, RunError
from redoseg.run_folder import RunFolder
from redoseg.train import refine
from redoseg.train.continuing import check_folder
from tests.conftest import Trained

SHORT = ["--refine.steps", "20", "--refine.batch", "4", "--refine.pictures", "16", "--device", "cpu"]
SHORT += ["--refine.least-share", "0"]  # so short a run may find no object


@pytest.fixture
def folder(trained: Trained, tmp_path: Path) -> Path:
    """A run without a second stage."""
    shutil.copytree(trained.folder, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def refined_once(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refined") / "run"
    shutil.copytree(trained.folder, folder)
    assert run_command(["refine", str(folder), "--refine.rounds", "1", *SHORT]) == 0
    return folder


@pytest.fixture
def refined(refined_once: Path, tmp_path: Path) -> Path:
    """A run whose second stage had one round."""
    shutil.copytree(refined_once, tmp_path / "run")
    return tmp_path / "run"


def rounds(folder: Path) -> list[int]:
    return [e["refine_round"] for e in RunFolder(folder).log.entries() if "refine_round" in e]


def test_it_is_done_again_and_the_first_stage_stays(trained: Trained, refined: Path) -> None:
    folder, first = refined, RunFolder(trained.folder).log.entries()
    assert rounds(folder) == [1]
    weights = RunFolder(folder).refined.read_bytes()
    assert run_command(["refine", str(folder), "--refine.rounds", "2", "--refine.keep", "0.9"]) == 0
    assert rounds(folder) == [1, 2]
    assert RunFolder(folder).refined.read_bytes() != weights
    assert RunFolder(folder).read_config().refine.keep == 0.9
    assert RunFolder(folder).read_config().refine.steps == 20
    assert [e for e in RunFolder(folder).log.entries() if not e.keys() & {"refining", "refine_round"}] == first


@pytest.mark.slow
@pytest.mark.parametrize("how", ["a stop", "an error"])
def test_until_it_is_done_the_run_is_what_it_was(
    how: str, refined: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = refined

    def content() -> dict[str, bytes]:
        names = ("config.json", "log.jsonl", "refined.safetensors", "state.safetensors", "mask.onnx", "outcome.json")
        return {name: (folder / name).read_bytes() for name in names}

    before = content()
    real = refine.augment
    calls: list[int] = []

    def in_the_second_round(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 25:
            if how == "an error":
                raise RunError("broken")
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(refine, "augment", in_the_second_round)
    command = ["refine", str(folder), "--refine.rounds", "2", "--refine.keep", "0.9"]
    if how == "an error":
        with pytest.raises(RunError, match="broken"):
            run_command(command)
    else:
        assert run_command(command) == 130
        assert "the same command continues the new second stage" in capsys.readouterr().out
    assert len(calls) == 25
    assert content() == before
    monkeypatch.setattr(refine, "augment", real)
    assert run_command(command) == 0
    assert rounds(folder) == [1, 2]


def changed_settings(config: Config) -> list[Config]:
    """The same with one setting of the second stage changed, for each of them."""
    found = []
    for field in fields(config.refine):
        value: Any = getattr(config.refine, field.name)
        if isinstance(value, bool):
            other: Any = not value
        elif isinstance(value, int | float):
            other = value + 1
        else:
            other = next((one for one in get_args(get_type_hints(RefineConfig)[field.name]) if one != value), "square")
        found.append(replace(config, refine=replace(config.refine, **{field.name: other})))
    return found


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("how", ["resume", "refine", "give up"])
def test_which_settings_of_the_second_stage_may_change(how: str, begun: bool, folder: Path) -> None:
    """All of them on resume while it has not begun, and by `refine` at any time; none of the first stage."""
    run, quiet = RunFolder(folder), Console(quiet=True)
    before = run.read_config()
    on = replace(before, refine=replace(before.refine, rounds=2))
    run.config.write_text(json.dumps(json.loads(run.config.read_text()) | {"config": to_values(on)}))
    if begun:
        with run.log.path.open("a") as log:
            log.write('{"step": 12, "restarts": 0, "refine_round": 1}\n')
    if how == "resume":
        wanted = changed_settings(on)
    elif how == "refine":  # all at once: each call reads the weights
        changed = {field.name for field in fields(on.refine)} - {"rounds", "start", "corrected"}
        found = {
            name: getattr(config.refine, name)
            for config in changed_settings(on)
            for name in changed
            if getattr(config.refine, name) != getattr(on.refine, name)
        }
        wanted = [replace(on, refine=replace(on.refine, **found))]
    else:
        wanted = [replace(on, refine=replace(on.refine, rounds=0))]
    for config in wanted:
        if how == "resume" and begun:
            with pytest.raises(RunError, match="was trained with other settings"):
                check_folder(run, config, True, quiet, False)
        else:
            check_folder(run, config, True, quiet, how == "refine")
    for config in (replace(on, seed=on.seed + 1), replace(on, batch=2 * on.batch)):
        with pytest.raises(RunError, match=r"seed|batch"):
            check_folder(run, config, True, quiet, how == "refine")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--refine.rounds", "0"], "has no second stage; set --refine.rounds 1 or more"),
        (
            ["--refine.rounds", "1", "--seed", "3"],
            "refine can change only settings of --refine and --speed, but not seed: 0 -> 3; remove",
        ),
        (
            ["--refine.rounds", "1", "--steps", "50"],
            "refine can change only settings of --refine and --speed, but not steps: 12 -> 50; remove",
        ),
    ],
)
def test_what_it_refuses(arguments: list[str], said: str, folder: Path) -> None:
    before = RunFolder(folder).config.read_bytes()
    with pytest.raises(RedosegError) as error:
        run_command(["refine", str(folder), *arguments])
    assert said in str(error.value)
    assert RunFolder(folder).config.read_bytes() == before


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RedosegError, match="is not a run folder"):
        run_command(["refine", str(tmp_path), "--refine.rounds", "1"])
