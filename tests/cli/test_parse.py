"""tyro's drawn box: what is read from it, in both of its drawings. This file fails first when tyro's box changes."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import tyro

from redoseg.cli.parse import parse, read_box
from redoseg.errors import ConfigError

ROOT = Path(__file__).parents[2]
ASCII_BOX = """\
+- Parsing error -----------------------+
| Unrecognized options: --colur, 3      |
| ------------------------------------- |
| Perhaps you meant:                    |
|     --colour INT (required)           |
|         in example --help             |
+---------------------------------------+
"""
DRAWN_BOX = ASCII_BOX.translate(str.maketrans("|", "│")).replace("+-", "╭─").replace("-+", "─╮").replace("- |", "─ |")


@dataclass(frozen=True)
class Example:
    """An example."""

    colour: int = 3
    """A number [number]"""
    share: float = 0.5
    """A share [0 to 1]"""
    counts: tuple[int, ...] = ()
    """Numbers [numbers]"""
    kind: Literal["soft", "hard"] = "soft"
    """A kind [kind]"""


@dataclass(frozen=True)
class Needs:
    """What has no default."""

    name: tyro.conf.Positional[str]
    """A name [name]"""
    out: str
    """A path [path]"""


@pytest.mark.parametrize("box", [ASCII_BOX, DRAWN_BOX], ids=["ascii", "drawn"])
def test_a_box(box: str) -> None:
    assert read_box(box) == ("Unrecognized options: --colur, 3", "--colour INT")


def test_a_box_of_one_part_names_no_similar_option() -> None:
    assert read_box("+- Error -+\n| No --colour |\n| here. |\n+---------+\n") == ("No --colour here", "")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_tyro_draws_today_is_read(encoding: str) -> None:
    code = (
        "import tyro\nfrom dataclasses import dataclass\n@dataclass\nclass Example:\n    colour: int = 3\n"
        "tyro.cli(Example, args=['--colur', '3'])"
    )
    drawn = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        env={"PYTHONIOENCODING": encoding, "COLUMNS": "80"},
    )
    assert drawn.returncode == 2
    assert ("╭" in drawn.stderr) == (encoding == "utf-8")
    assert read_box(drawn.stderr) == ("Unrecognized options: --colur, 3", "--colour INT"), drawn.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--colur 3", "There is no option --colur. Did you mean --colour INT?"),
        ("--colour 3 --nothing --none", "There is no option --nothing or --none."),
        ("--colour 3 4 5", "There are more values than expected (4, 5)."),
        ("--colour red", "--colour is 'red', but must be a whole number."),
        ("--colour 1.5", "--colour is '1.5', but must be a whole number."),
        ("--share half", "--share is 'half', but must be a number."),
        ("--counts 1 x", "--counts is '1', 'x', but must be numbers."),
        ("--colour", "--colour needs a value."),
        ("--kind softt", "--kind is 'softt', but must be one of soft, hard. Did you mean soft?"),
    ],
)
def test_a_mistake_says_what_was_given_and_what_is_expected(arguments: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(Example, "example", arguments.split())
    assert str(error.value) == f"{said} See `redoseg example --help`."


@pytest.mark.parametrize(("arguments", "needed"), [("", "NAME and --out PATH"), ("me", "--out PATH")])
def test_what_is_missing_is_named(arguments: str, needed: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(Needs, "example", arguments.split())
    assert str(error.value) == f"`redoseg example` needs {needed}. See `redoseg example --help`."


def test_what_is_right_is_read() -> None:
    assert parse(Example, "example", ["--colour", "4", "--counts", "1", "2"]) == Example(4, counts=(1, 2))
    assert parse(Example, "example", [], default=Example(5)) == Example(5)


def test_the_version_of_tyro_is_bounded() -> None:
    (needed,) = (
        line
        for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        if line.startswith("tyro")
    )
    bound = re.fullmatch(r"tyro>=[\d.]+,<(\d+)\.(\d+)", needed)
    assert bound is not None
    assert tuple(map(int, tyro.__version__.split(".")[:2])) < tuple(map(int, bound.groups()))


@pytest.mark.parametrize(
    ("words", "named"), [(["", "--out", "x"], "NAME"), (["a", "--out", ""], "--out"), (["a", "--out="], "--out")]
)
def test_an_empty_word_is_no_path(words: list[str], named: str) -> None:
    """As of a variable of the shell that is not set: it would be the current folder."""
    with pytest.raises(ConfigError) as caught:
        parse(Needs, "test", words)
    assert str(caught.value).startswith(f"{named} is empty, but must name something")
