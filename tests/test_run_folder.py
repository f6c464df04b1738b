"""The names of a run's files, its log, and how it ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redoseg.config.recipe import to_values
from redoseg.config.schema import Config
from redoseg.errors import RunError
from redoseg.run_folder import RunFolder, read_lines, read_object


def test_a_torn_line_of_the_log_is_skipped(tmp_path: Path) -> None:
    log = RunFolder(tmp_path).log
    assert log.entries() == []
    log.append({"step": 1, "restarts": 0})
    with log.path.open("a") as file:
        file.write('{"step": 2, "rest')  # a power cut
    assert log.entries() == [{"step": 1, "restarts": 0}]


def test_rewinding_forgets_later_steps_and_the_second_stage(tmp_path: Path) -> None:
    log = RunFolder(tmp_path).log
    for restarts, step in ((0, 10), (0, 20), (1, 10), (1, 20)):
        log.append({"restarts": restarts, "step": step})
    log.append({"restarts": 1, "step": 10, "refine_round": 1})
    log.rewind(1, 10)
    assert [(e["restarts"], e["step"]) for e in log.entries()] == [(0, 10), (0, 20), (1, 10)]
    assert not any("refine_round" in e for e in log.entries())


def test_sample_grids_come_in_the_order_of_training(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.samples.mkdir()
    grids = [folder.sample(0, 900), folder.sample(0, 1000), folder.sample(1, 100)]
    for path in (folder.last_sample, *reversed(grids)):
        path.touch()
    assert folder.samples_in_order() == grids


def test_the_configuration_is_read_back(tmp_path: Path) -> None:
    folder, config = RunFolder(tmp_path), Config(seed=7)
    with pytest.raises(RunError, match="is not a run folder"):
        folder.read_config()
    folder.config.write_text(json.dumps({"config": to_values(config)}))
    assert folder.read_config() == config


@pytest.mark.parametrize("content", [None, "", "[1]", '{"step": '])
def test_a_missing_or_broken_file_reads_as_empty(content: str | None, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    if content is not None:
        folder.outcome.write_text(content)
    assert folder.read_outcome() == {}
    assert read_object(folder.outcome) == {}
    assert read_lines(tmp_path / "none.jsonl") == []
