"""Results of `evaluate` and `compare` as tables: for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from redoseg.evaluation import baselines
from redoseg.evaluation.results import (
    FIGURES,
    MEASURES,
    MISSED,
    Comparison,
    Evaluation,
    Interval,
    OwnSizeEvaluation,
    Row,
)

# ------------------------------------------------------------------------------------------------------ evaluate


def print_evaluation(result: Evaluation, console: Console) -> None:
    """Print the figures as a table, in per cent."""
    matched = "iou_matched" in result
    table = _figures_table(f"{_where(result)}, {result['pictures']} pictures at {result['size']} px, %")
    keys = (
        ["accuracy_matched", "iou_matched"]
        if matched
        else ["accuracy", "iou", "accuracy_oracle_flip", "iou_oracle_flip"]
    )
    _add_rows(table, keys, {result["model"]: result, **({} if matched else result["beside"])})
    print_table(table, console)
    if matched:  # methods for two regions: every object against the background
        others = _figures_table("any object against the background, %")
        _add_rows(others, ["accuracy", "iou"], result["beside"])
        print_table(others, console)
    else:
        low, high = result["iou_interval"]
        right = "right" if result["object_region_right"] else "WRONG: the other region scores better"
        console.print(
            f"iou 95 % interval {100 * low:.1f} to {100 * high:.1f}; choice of the object region: {right}",
            soft_wrap=True,
        )
    if "note" in result:
        console.print(result["note"], markup=False, soft_wrap=True)


def print_own_size(result: OwnSizeEvaluation, console: Console) -> None:
    """Print the figures of every kind of edges and the gain over plain ones, in per cent."""
    low, high = result["shorter_side"]["least"], result["shorter_side"]["most"]
    table = _figures_table(f"{_where(result)}, {result['pictures']} pictures at their own size ({low} to {high} px), %")
    ways: dict[str, Mapping[str, Any]]
    ways = {"plain": result["plain"], "guided": result["guided"], "grabcut": result["grabcut"]}
    _add_rows(table, MEASURES, {"plain": ways["plain"]})
    for way, gains in result["gain"].items():
        _add_rows(table, MEASURES, {way: ways[way]})
        intervals = (gains[m] for m in MEASURES)
        table.add_row("  gain, 95 % interval", *(f"{100 * low:+.1f} to {100 * high:+.1f}" for low, high in intervals))
    print_table(table, console)
    for way in ways:
        console.print(
            f"{way} edges: {ways[way]['parts_beyond_one']:.1f} parts beyond one and {ways[way]['holes']:.1f} holes a "
            f"picture; {ways[way]['haze']:.1f} half transparent pixels for each pixel of a cut-out's edge",
            soft_wrap=True,
        )
    sure = result["confidence"]
    if "rank_correlation" in sure:
        console.print(
            f"confidence and IoU: rank correlation {sure['rank_correlation']:.2f}; IoU of the least sure fifth "
            f"{100 * sure['least_sure_fifth_iou']:.1f}, of the rest {100 * sure['rest_iou']:.1f}",
            soft_wrap=True,
        )


def _where(result: Evaluation | OwnSizeEvaluation | Comparison) -> str:
    return f"{result['data']}{' ' + result['split'] if result['split'] else ''}"


def print_table(table: Table, console: Console) -> None:
    """Print a table whole, also where it is wider than the console: else figures would be cut."""
    table.width = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    console.print(table, crop=False)


def _figures_table(title: str) -> Table:
    return Table("", title=title, title_justify="left")


def _add_rows(table: Table, keys: Sequence[str], rows: Mapping[str, Mapping[str, Any]]) -> None:
    """A row for each name, in per cent; the first ones bring the columns."""
    if len(table.columns) == 1:
        for key in keys:
            table.add_column(key, justify="right")
    for name, row in rows.items():
        table.add_row(name, *(f"{100 * row[key]:.1f}" for key in keys))


# ------------------------------------------------------------------------------------------------------- compare


def markdown_table(result: Comparison) -> str:
    """The comparison as Markdown, in per cent: the table, what its columns mean, settings, and missing masks."""
    heads = ["", "kind", "accuracy", "`iou`", "median `iou`", f"`iou` under {MISSED:g}", "`iou_oracle_flip`"]
    heads += ["edge's F-score", "seconds a picture", "model [MB]", "`iou` less the best other's", "p"]
    lines = [
        f"{_where(result)}, {result['pictures']} pictures at {result['size']} px. Means in % (95 % intervals).",
        "",
        _line(heads),
        _line(["---"] * len(heads)),
        *(_line(_cells(row)) for row in result["rows"]),
        "",
        "The best other is the row with the best `iou` that is not of the same model; p is that of a paired "
        "sign-flip test, for one pair, not for the many that a table has. Seconds a picture are those of one core, "
        "over what was computed this time, and rough.",
        *_given(result),
        *_settings(result),
        *_failures(result),
    ]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> list[str]:
    values: Mapping[str, Any] = row
    mean = {f: f"{100 * values[f]:.1f} {_span(values[f + '_interval'])}" for f in FIGURES}
    given = row["kind"] == "given"
    cells = [row["method"].replace("|", "\\|"), row["kind"], mean["accuracy"], mean["iou"]]
    cells += [f"{100 * row['iou_median']:.1f}", f"{100 * row['missed']:.1f}"]
    cells += [mean["iou_oracle_flip"], mean["boundary_f"]]
    cells.append(_duration(row["seconds"]) if row["computed"] else "" if given else "cached")
    cells.append("" if given else "-" if row["megabytes"] is None else f"{row['megabytes']:.2f}")
    if row["difference"] is None or row["difference_interval"] is None:
        return [*cells, "-", "-"]
    ahead = f"{100 * row['difference']:+.1f} {_span(row['difference_interval'], '+')}"
    return [*cells, f"{ahead} ({row['against']})".replace("|", "\\|"), f"{row['p']:.4f}"]


def _given(result: Comparison) -> list[str]:
    """What is not known of given masks."""
    if not any(row["kind"] == "given" for row in result["rows"]):
        return []
    return [
        "",
        "Masks of the kind `given` are files that somebody else made: a pre-trained network, another program or a "
        "person. What they learnt from, their time and their size are not known here.",
    ]


def _settings(result: Comparison) -> list[str]:
    """The settings of the methods, and how they were chosen."""
    named = [
        f"{row['method'].partition(':')[0]} "
        f"{', '.join(f'{key} {baselines.shown_value(value)}' for key, value in row['settings'].items())}"
        for row in result["rows"]
        if row["settings"] and "edges" not in row["settings"]
    ]
    if not named:
        return []
    line = f"Settings: {'; '.join(named)}."
    tuned = result["tuned"]
    if tuned is not None and tuned["iou"]:
        where = f"{'seed' if tuned['on'].isdecimal() else 'split'} {tuned['on']}"
        line += (
            f" They have the best `iou` of {len(tuned['iou'])} settings that were tried on {tuned['pictures']} other "
            f"pictures ({where})."
        )
    return ["", line]


def _failures(result: Comparison) -> list[str]:
    failed = result["failed"]
    if not failed:
        return []
    lines = [f"- {f['method']} on {f['picture']}: {f['why']}" for f in failed[:20]]
    lines += [f"- and {len(failed) - 20} more"] * (len(failed) > 20)
    return ["", f"{len(failed)} masks are missing and count as empty:", "", *lines]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _span(interval: Interval, sign: str = "") -> str:
    return f"({100 * interval[0]:{sign}.1f} to {100 * interval[1]:{sign}.1f})"


def _duration(seconds: float | None) -> str:
    """Two significant digits: a timing on a busy machine is no more exact."""
    if seconds is None:
        return "-"
    return f"{seconds:.2g}" if seconds >= 0.001 else "under 0.001"
