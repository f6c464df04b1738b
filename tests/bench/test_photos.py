"""`redoseg bench photos`: whole trainings of two recipes, from their timed steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redoseg.cli.main import run_command
from redoseg.config.recipe import to_toml
from redoseg.errors import DataError
from tests.conftest import Tiny


def test_more_steps_take_longer_in_proportion(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = {"refine.rounds": 1, "refine.batch": 2, "refine.start": "disc", "nets.extractor_width": 8}
    for name, steps in (("slow", 6000), ("quick", 600)):
        (tmp_path / f"{name}.toml").write_text(to_toml(tiny(second | {"refine.steps": steps})))
    recipes = [str(tmp_path / "slow.toml"), str(tmp_path / "quick.toml")]
    options = ["--data", "shapes", "--pictures", "1", "24", "--rounds", "2", "--json"]
    assert run_command(["bench", "photos", "--recipes", *recipes, *options]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["ratio"]) == {f"{recipes[1]}, 1 pictures", f"{recipes[1]}, 24 pictures"}
    assert all(len(seconds) == 2 for seconds in said["seconds"].values())
    quick, slow = said["each"][recipes[1]], said["each"][recipes[0]]
    assert quick["step"] == slow["step"] == [0.0]  # there is no first stage
    quick_seconds, slow_seconds = (said["seconds"][f"{recipe}, 24 pictures"] for recipe in reversed(recipes))
    assert min(slow_seconds) > max(quick_seconds)  # ten times the steps: on a busy machine too


@pytest.mark.parametrize("options", [["--rounds", "0"], ["--recipes", "photos"], ["--pictures", "0"]])
def test_what_cannot_be_timed(options: list[str]) -> None:
    with pytest.raises(DataError, match="expected two recipes or more"):
        run_command(["bench", "photos", *options])
