"""A run folder with damaged files: every verb that reads it works, or says in one line what is wrong."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from redoseg.errors import FullError, RedosegError, RunError
from redoseg.run_folder import About, Outcome, RunFolder
from redoseg.sharing.model_card import Statements, write_card
from redoseg.sharing.model_folder import export_run
from redoseg.train.checkpoint import load_checkpoint
from redoseg.train.report import write_report
from redoseg.train.run import run
from redoseg.web.progress import run_progress
from tests.conftest import Trained

DEEP = "[" * 100_000
GOOD = '{"step": 1, "restarts": 0, "seconds": 1.0'
LOG_LINES = {
    "a list": "[1, 2]",
    "a number": "7",
    "null": "null",
    "no step": '{"restarts": 0}',
    "a step in words": '{"step": "one", "restarts": 0, "seconds": 1}',
    "nested deeply": DEEP,
    "nested deeply within": f'{GOOD}, "sizes": {DEEP}',
    "sizes in words": f'{GOOD}, "sizes": "half"}}',
    "sizes of another number": f'{GOOD}, "sizes": [0.1, 0.2, 0.7]}}',
    "a list of lists": f'{GOOD}, "sizes": [[0.5], [0.5]]}}',
    "a score that is a list": f'{GOOD}, "iou": [1]}}',
    "a step beyond all numbers": f'{{"step": {10**400}, "restarts": 0, "seconds": 1}}',
    "infinite seconds": '{"step": 1, "restarts": 0, "seconds": Infinity}',
    "true as a step": '{"step": true, "restarts": 0, "seconds": 1}',
    "no text": "\0\0\xff",
}
FILES = {
    "config.json": ["", "[]", "{}", '{"config": 3}', '{"config": {"steps": "many"}}', DEEP, '{"config": {"nets": []}}'],
    "outcome.json": ["", "[]", '{"step": "x"}', '{"scores": 3, "step": 12}', DEEP, '{"object_region": 99}'],
    "picture_scores.jsonl": ["[1]\n", "{}\n", DEEP],
    "state.safetensors": ["", "x" * 100],
}


@pytest.fixture
def folder(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("redoseg.train.run.export_redrawer", lambda *_, **__: None)
    shutil.copytree(trained.folder, tmp_path / "run")
    return tmp_path / "run"


def resume(trained: Trained, folder: Path) -> None:
    with open("/dev/null", "w") as nowhere:
        run(trained.config, folder, True, "cpu", Console(file=nowhere))


def export(trained: Trained, folder: Path) -> None:
    export_run(folder, folder.parent / "model")


def page(trained: Trained, folder: Path) -> None:
    run_progress(folder)


VERBS: list[Callable[[Trained, Path], None]] = [resume, export, page]


# all verbs read the log by RunFolder; to resume and to export take part of a second
RESUMED = ("a list", "sizes in words", "no text")
LINES = [
    pytest.param(name, verb, marks=pytest.mark.slow if verb is not page and name not in RESUMED else ())
    for name in LOG_LINES
    for verb in VERBS
]


@pytest.mark.every(4)
@pytest.mark.parametrize(("name", "verb"), LINES)
def test_a_damaged_line_of_the_log(
    name: str, verb: Callable[[Trained, Path], None], trained: Trained, folder: Path
) -> None:
    log = folder / "log.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("\n".join([lines[0], LOG_LINES[name], *lines[1:], LOG_LINES[name], ""]), errors="replace")
    assert len(RunFolder(folder).log.entries()) == len(lines)
    assert RunFolder(folder).log.damaged() == 2
    verb(trained, folder)


CONTENTS = [
    pytest.param(name, content, verb, marks=pytest.mark.slow if verb is resume and content is not all_[-1] else ())
    for name, all_ in FILES.items()
    for content in all_
    for verb in VERBS
]


@pytest.mark.every(3)
@pytest.mark.parametrize(("name", "content", "verb"), CONTENTS)
def test_a_damaged_file(
    name: str, content: str, verb: Callable[[Trained, Path], None], trained: Trained, folder: Path
) -> None:
    (folder / name).write_text(content)
    said = ""
    try:
        verb(trained, folder)
    except RedosegError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 500


ODD = [None, -1, "1", [], {}, [1], {"iou": "x"}, True, 1e300, "\x1b[2J\n"]
KEYS = {
    "config.json": ["format", "trained_on", "made_with", "contents", "labels", "earlier_labels", "scores", "refined"],
    "outcome.json": ["step", "steps", "stopped", "collapsed", "health", "rounds_left", "restarts", "scores"],
}
ENCODINGS = ["utf-16", "utf-8-sig", "utf-32", "cp037"]


def read(folder: Path, trained: Trained) -> None:
    """What the page and a model card make of the two files."""
    run_progress(folder)
    files = RunFolder(folder)
    about = {**files.read_about(), "step": 1, "restarts": 0, "mask_size": 16, "object_region": 0, "refined": True}
    write_card("x", trained.config, cast(About, about), {}, Statements())
    write_report(files, trained.config, cast(Outcome, trained.outcome | files.read_outcome()))


@pytest.mark.every(3)
@pytest.mark.parametrize(("name", "key"), [(name, key) for name in KEYS for key in KEYS[name]])
def test_a_value_of_another_type(name: str, key: str, trained: Trained, tmp_path: Path) -> None:
    for file in ("config.json", "outcome.json", "log.jsonl"):
        shutil.copy(trained.folder / file, tmp_path / file)
    values = json.loads((tmp_path / name).read_text())
    within = [{**values[key], one: odd} for one in values.get(key, {}) for odd in ODD] if key == "trained_on" else []
    for odd in [*ODD, *within]:
        (tmp_path / name).write_text(json.dumps({**values, key: odd}))
        read(tmp_path, trained)
    values.pop(key, None)
    (tmp_path / name).write_text(json.dumps(values))
    read(tmp_path, trained)


@pytest.mark.parametrize("name", ["config.json", "outcome.json", "log.jsonl"])
def test_a_file_in_another_encoding_or_cut(name: str, trained: Trained, tmp_path: Path) -> None:
    for file in ("config.json", "outcome.json", "log.jsonl"):
        shutil.copy(trained.folder / file, tmp_path / file)
    text = (tmp_path / name).read_text()
    whole = text.encode()
    damaged = [text.encode(encoding) for encoding in ENCODINGS]
    for content in (*damaged, b"", whole[: len(whole) // 2], bytes(100), whole + whole, b"NaN", b'{"a":' * 100_000):
        (tmp_path / name).write_bytes(content)
        read(tmp_path, trained)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    """Which nobody writes into: to read it takes for ever."""
    path.unlink()
    os.mkfifo(path)


def as_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.every(5)
@pytest.mark.parametrize("damage", [as_folder, as_pipe, as_link])
@pytest.mark.parametrize("name", ["config.json", "outcome.json", "log.jsonl", "state.safetensors"])
def test_what_is_not_a_file(name: str, damage: Callable[[Path], None], trained: Trained, tmp_path: Path) -> None:
    for file in ("config.json", "outcome.json", "log.jsonl", "state.safetensors"):
        shutil.copy(trained.folder / file, tmp_path / file)
    damage(tmp_path / name)
    for reader in (
        lambda: read(tmp_path, trained),
        lambda: RunFolder(tmp_path).read_config(),
        lambda: RunFolder(tmp_path).log.damaged(),
        lambda: load_checkpoint(tmp_path / "state.safetensors"),
    ):
        with contextlib.suppress(RedosegError):
            reader()


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(FullError, match=r"log\.jsonl: cannot be written"):
        RunFolder(tmp_path).log.append({"step": 1})


@pytest.mark.every(3)
@pytest.mark.parametrize("change", [{"latent": 8}, {"extractor_width": 5}, {"norm": "batch"}], ids=str)
def test_weights_of_other_settings_are_one_line(change: dict[str, Any], trained: Trained, folder: Path) -> None:
    about = json.loads((folder / "config.json").read_text())
    about["config"]["nets"] |= change
    (folder / "config.json").write_text(json.dumps(about))
    config = replace(trained.config, steps=13, nets=replace(trained.config.nets, **change))
    with (
        pytest.raises(RunError, match="is of other settings than config") as caught,
        open("/dev/null", "w") as nowhere,
    ):
        run(config, folder, True, "cpu", Console(file=nowhere))
    assert "\n" not in str(caught.value)


def test_an_unknown_key_is_no_damage(folder: Path) -> None:
    log = RunFolder(folder).log
    before = len(log.entries())
    with log.path.open("a") as file:
        file.write(json.dumps({"step": 12, "restarts": 0, "seconds": 2, "of_another_version": [{}]}) + "\n")
    assert len(log.entries()) == before + 1
