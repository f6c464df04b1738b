"""tyro's drawn box: what is read from it, in both of its drawings. This file fails first when tyro's box changes."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

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


def test_mistakes_are_one_line() -> None:
    with pytest.raises(ConfigError) as unknown:
        parse(Example, "example", ["--colur", "3"])
    assert str(unknown.value) == (
        "Unrecognized options: --colur, 3. Did you mean --colour INT? See `redoseg example --help`."
    )
    with pytest.raises(ConfigError) as wrong:
        parse(Example, "example", ["--colour", "red"])
    assert str(wrong.value) == (
        "Error parsing --colour: invalid literal for int() with base 10: 'red'. See `redoseg example --help`."
    )
    assert parse(Example, "example", ["--colour", "4"]) == Example(4)
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
