"""Every figure with a decimal point in README.md and docs/results.md names its log, and equals it.

results/logs/figures.txt lists them, a block for each section that has any, in the order in which they are printed:

    [docs/results.md: Built-in pictures]
    93.3    shapes-seed0-evaluate.json iou
    69.7    unlogged

A figure is `FILE PATH`, a log and the way to a number in it; `unlogged`, where the text beside it says "log not kept";
or `published`, where the text beside it says "paper". Code is left out. Shares in logs are per cent in the pages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
LOGS = ROOT / "results" / "logs"
PAGES = ("README.md", "docs/results.md")
NO_FIGURES = r"`[^`]*`|\]\([^)]*\)|Python \d+\.\d+|\d+\.\d+\.\d+"  # code, addresses, versions
FIGURE = re.compile(r"(?<![\w.-])[+-]?\d[\d,]*\.\d+(?!\w)")
SHARES = re.compile(r"\b(iou|accuracy|boundary_f|difference|stages|interval)")
MARKS = {"unlogged": ("log not kept", "logs not kept"), "published": ("paper",)}


class Printed(NamedTuple):
    section: str
    text: str
    beside: str  # the row of the table, the paragraph, or the list's entry


class Entry(NamedTuple):
    section: str
    text: str
    source: str


def printed(page: str, text: str) -> Iterator[Printed]:
    """The figures of a page, in order."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    section = page
    for block in re.split(r"\n\s*\n|\n(?=[-|#])|(?<=\|)\n", text):
        if heading := re.match(r"#+ (.*)", block):
            section = f"{page}: {heading[1]}"
            block = block[heading.end() :]
        words = " ".join(re.sub(NO_FIGURES, "", block).split())
        for found in FIGURE.finditer(words):
            yield Printed(section, found[0], words)


def listed(text: str) -> Iterator[Entry]:
    """The entries of figures.txt."""
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line[1:-1]
        elif line.strip() and not line.startswith("#"):
            yield Entry(section, *line.split(maxsplit=1))


def in_log(file: str, way: str) -> float:
    """The number at the end of a way: names and [positions], [key=value & key=value] the first such entry, /regex/."""
    text = (LOGS / file).read_text()
    if way.startswith("/"):
        found = re.search(way.strip("/"), text, re.S)
        assert found, f"{file} has nothing that {way} fits"
        return float(found[1])
    at: Any = [json.loads(line) for line in text.splitlines()] if file.endswith(".jsonl") else json.loads(text)
    for name, inner in re.findall(r"(\w+)|\[([^\]]*)\]", way):
        if isinstance(at, dict):
            at = at[name or inner]
        elif "=" in inner:
            wanted = [part.split("=", 1) for part in inner.split(" & ")]
            at = next(each for each in at if all(str(each.get(key)) == value for key, value in wanted))
        else:
            at = at[int(inner)]
    return float(at) * (100 if SHARES.search(way) else 1)


def check(entry: Entry, beside: str) -> None:
    if entry.source in MARKS:
        assert any(mark in beside for mark in MARKS[entry.source]), f"{entry} stands in: {beside}"
        return
    shown = entry.text.replace(",", "")
    value = in_log(*entry.source.split(maxsplit=1))
    decimals = len(shown.partition(".")[2])
    assert f"{value:.{decimals}f}" == f"{float(shown):.{decimals}f}", f"{entry}: the log has {value}"


ENTRIES = list(listed((LOGS / "figures.txt").read_text()))
PRINTED = [figure for page in PAGES for figure in printed(page, (ROOT / page).read_text())]


@pytest.mark.parametrize("section", dict.fromkeys([*(f.section for f in PRINTED), *(e.section for e in ENTRIES)]))
def test_every_figure_has_an_entry(section: str) -> None:
    on_page = [figure.text for figure in PRINTED if figure.section == section]
    assert on_page == [entry.text for entry in ENTRIES if entry.section == section]


def test_every_entry_equals_its_log() -> None:
    for entry, figure in zip(ENTRIES, PRINTED, strict=True):
        check(entry, figure.beside)


def test_pages_have_figures() -> None:
    assert len(PRINTED) > 200
    assert sum(entry.source in MARKS for entry in ENTRIES) < len(ENTRIES) / 2


def test_the_readme_fits_on_one_screen() -> None:
    assert 40 <= len((ROOT / "README.md").read_text().splitlines()) <= 80


def test_the_index_names_every_log() -> None:
    """And no log that is not there."""
    patterns = re.findall(
        r"`([^`\s]+\*?[^`\s]*)`", "".join(re.findall(r"^\| (`.*?) \|", (LOGS / "README.md").read_text(), re.M))
    )
    there = {path.name for path in LOGS.iterdir()} - {"README.md", "figures.txt"}
    named = [{name for name in there if fnmatch(name, pattern)} for pattern in patterns]
    assert [pattern for pattern, names in zip(patterns, named, strict=True) if not names] == []
    assert there - set().union(*named) == set()


PAGE = """# T
One, 0.5 of `0.7` ([x](a-1.5)), PyTorch 2.1.0.

## U
| a | 1.5 |
|---|---|
| log not kept | -2.25 |
- the paper: +3.5
  and 1,000.5
"""


def test_what_counts_as_a_figure() -> None:
    found = list(printed("p", PAGE))
    assert [(f.section, f.text) for f in found] == [
        *(("p: T", "0.5"), ("p: U", "1.5"), ("p: U", "-2.25"), ("p: U", "+3.5"), ("p: U", "1,000.5")),
    ]
    assert found[2].beside == "| log not kept | -2.25 |"
    assert found[4].beside == "- the paper: +3.5 and 1,000.5"


@pytest.mark.parametrize(
    ("text", "source", "beside"),
    [
        ("93.4", "shapes-seed0-evaluate.json iou", "93.4"),
        ("93.35", "shapes-seed0-evaluate.json beside[mean mask].iou", ""),
        ("69.7", "unlogged", "69.7 by a run"),
        ("69.7", "published", "69.7 (log not kept)"),
    ],
)
def test_a_figure_that_does_not_hold_is_found(text: str, source: str, beside: str) -> None:
    with pytest.raises(AssertionError):
        check(Entry("s", text, source), beside)


def test_ways_into_a_log() -> None:
    assert in_log("photos-flowers-seed0.jsonl", "[step=800].iou") == pytest.approx(69.621)
    assert in_log("second-stage-targets.txt", r"/photos-horses.*?cut anew ([\d.]+)/") == 67.9
    starts, disc = "grabcut-starts-dev.json", "rows[set=horses & method=grabcut:start=disc,size=0.6,side=256].iou"
    assert in_log(starts, disc) == pytest.approx(67.11)
    assert in_log("compare-shapes.json", "rows[method=otsu].iou_interval[0]") == pytest.approx(95.6, abs=0.05)
