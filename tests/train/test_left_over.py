"""Variables of torchrun that are left over in a shell: one line instead of waiting in silence."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from redoseg.cli.main import run_command
from redoseg.errors import ConfigError, RunError
from redoseg.system import WorldInfo, world
from tests.conftest import Start

WORLD = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
MEETING = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
UNSET = "unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT"
CONTRADICT = "the numbers that torchrun sets contradict each other"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (WORLD, "MASTER_ADDR is not set"),
        (WORLD | {"MASTER_ADDR": "127.0.0.1"}, "MASTER_PORT is not set"),
        (WORLD | MEETING | {"RANK": "2"}, CONTRADICT),
        (WORLD | MEETING | {"RANK": "-1"}, CONTRADICT),
        (WORLD | MEETING | {"LOCAL_RANK": "7"}, CONTRADICT),
        (WORLD | MEETING | {"MASTER_PORT": "many"}, "the other process cannot be found"),
        (WORLD | MEETING | {"MASTER_PORT": "99999"}, "the other process cannot be found"),
        (WORLD | MEETING | {"MASTER_PORT": "9" * 5000}, "the other process cannot be found"),
        (WORLD | MEETING | {"MASTER_PORT": "1.5"}, "the other process cannot be found"),
        (WORLD | MEETING | {"MASTER_ADDR": ""}, "MASTER_ADDR is not set"),
        (WORLD | MEETING | {"WORLD_SIZE": "\x1b[2J\n"}, "WORLD_SIZE is not a whole number"),
        (WORLD | MEETING | {"MASTER_PORT": "-1"}, "the other process cannot be found"),
        (WORLD | MEETING | {"WORLD_SIZE": "0"}, CONTRADICT),
        (WORLD | MEETING | {"WORLD_SIZE": "-2"}, CONTRADICT),
        (WORLD | MEETING | {"LOCAL_WORLD_SIZE": "3"}, CONTRADICT),
        (WORLD | MEETING | {"RANK": "abc"}, "RANK is not a whole number"),
        (WORLD | MEETING | {"RANK": "\u0661"}, "RANK is not a whole number"),
        (WORLD | MEETING | {"RANK": " "}, "RANK is not set"),
        (WORLD | MEETING | {"WORLD_SIZE": "2.0"}, "WORLD_SIZE is not a whole number"),
        (WORLD | MEETING | {"WORLD_SIZE": "9" * 5000}, "WORLD_SIZE is not a whole number"),
        (WORLD | {"RANK": "1"}, "MASTER_ADDR is not set"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "LOCAL_RANK is not set"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "LOCAL_WORLD_SIZE is not set"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "LOCAL_RANK is not set"),
    ],
)
def test_variables_that_lead_nowhere(
    given: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError) as error:
        run_command(["train", "shapes", "--out", str(tmp_path / "run")])
    assert str(error.value).startswith(said)
    assert str(error.value).endswith(UNSET)
    assert f"RANK={given['RANK']}" in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "given",
    [
        {"RANK": "1"},
        {"LOCAL_RANK": "3"},
        {"RANK": "abc", "LOCAL_RANK": "", "MASTER_ADDR": "nowhere.invalid"},
        {"WORLD_SIZE": "", "RANK": "1"},
        {"WORLD_SIZE": "1"},
        {"WORLD_SIZE": "1", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
        {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "none"},
    ],
    ids=str,
)
def test_variables_that_name_no_others_do_no_harm(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process is the only one, and so the first one: it writes and prints."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert run_command(["train", "shapes", "--out", str(tmp_path / "run"), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["source"] == "shapes"
    assert world() == WorldInfo(0, 1, 0, 1)


@pytest.mark.parametrize("verb", ["segment", "prepare", "evaluate"])
def test_verbs_of_one_process_say_how_to_unset_them(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in WORLD.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE"):
        run_command([verb])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "host"),
    [
        ("0", "127.0.0.1"),
        ("1", "127.0.0.1"),
        ("1", "nowhere.invalid"),
    ],
    ids=["the first", "the second", "no such host"],
)
def test_a_process_that_waits_says_for_what_and_can_be_stopped(
    number: str, host: str, start: Start, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    code = (
        "import sys, redoseg.system\n"
        "redoseg.system.STARTED -= 60\n"
        f"sys.argv = ['redoseg', 'train', 'shapes', '--out', {str(tmp_path / 'run')!r}]\n"
        "from redoseg.cli.main import main; main()"
    )
    given = WORLD | {"RANK": number, "LOCAL_RANK": number, "MASTER_ADDR": host, "MASTER_PORT": port}
    process = start("-c", code, env=os.environ | given)
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith(f"redoseg: still waiting for the other process; RANK={number}, WORLD_SIZE=2")
    assert line.rstrip().endswith(UNSET)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == -signal.SIGINT
