"""docs/settings.md says what the code says."""

from __future__ import annotations

import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from redoseg.config.describe import settings_of
from redoseg.config.recipe import flat, to_values
from redoseg.config.schema import Config

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_code_would_write() -> None:
    text = runpy.run_path(str(DOCS.parent / "tools" / "make_settings.py"))["text"]()
    assert (DOCS / "settings.md").read_text() == text, "out of date: run python tools/make_settings.py"


def test_the_page_has_every_setting() -> None:
    text = (DOCS / "settings.md").read_text()
    for key in flat(to_values(Config())):
        assert f"| `{key}` |" in text


def test_what_is_read_off_a_dataclass() -> None:
    settings = {setting.field: setting for setting in settings_of(Example)}
    assert list(settings) == ["how_many", "way", "loud"]
    many, way, loud = settings.values()
    assert (many.name, many.about, many.unit, many.default, many.number) == ("how-many", "How many", "times", 3, True)
    assert (way.choices, way.flag) == (("left", "right"), False)
    assert (loud.flag, loud.number, loud.owner) == (True, False, Example)


@dataclass(frozen=True)
class Example:
    """For the test above."""

    how_many: int | None = 3
    """How many [times]"""
    way: Literal["left", "right"] = "left"
    """Where to [name]"""
    loud: bool = False
    """Say it [true/false]"""
