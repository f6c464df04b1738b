"""What each stage earns: the IoU of each labelled image, row against row, from runs with `watch.picture_scores`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from redoseg.errors import DataError
from redoseg.study.run import Result, Row, Study

Floats = NDArray[np.float64]
ROUNDS = 2000  # resamples of an interval


class RowScores(TypedDict):
    """A row on one split. Figures are means over runs and images, 0 to 1."""

    group: str
    row: str
    runs: int
    """Runs with scores, and those that diverged, which have no masks and count with 0."""
    images: int
    stages: dict[str, float]
    """IoU after "first stage", "round 1" and so on, each over the runs that reached it."""
    iou: float
    """IoU of each run's last scores: a run that collapsed or has no second stage counts with those it has."""
    reference: str | None
    """The row that this one is compared with. None for the reference itself, and where there is none."""
    difference: float | None
    """Mean `iou` minus that of the reference, over the seeds that both have. None if there is no such seed."""
    interval: tuple[float, float] | None
    """95 % interval of the difference."""


def row_scores(study: Study, results: Sequence[Result], split: str) -> list[RowScores]:
    """The scores on one split of each row that has any and reports that split.

    Raises DataError if the runs of a row, or a row and its reference, were scored on different numbers of images.
    """
    last = {row.name: _last(row, results, split) for row in study.rows}
    for row in study.rows:
        images = [len(run) for other in study.rows if other.group == row.group for run in last[other.name].values()]
        if images:
            last[row.name] |= {seed: np.zeros(images[0]) for seed in _diverged(row, results)}
    found: list[RowScores] = []
    for row in study.rows:
        mine = last[row.name]
        if not mine or split not in row.report:
            continue
        reference = reference_of(study, row)
        theirs = last[reference.name] if reference else {}
        seeds = sorted(mine.keys() & theirs.keys())
        difference = interval = None
        if reference and seeds:
            differences = _stacked([mine[s] for s in seeds], row.name) - _stacked(
                [theirs[s] for s in seeds], reference.name, len(mine[seeds[0]])
            )
            difference, interval = float(differences.mean()), two_level_interval(differences)
        found.append(
            {
                "group": row.group,
                "row": row.name,
                "runs": len(mine),
                "images": len(next(iter(mine.values()))),
                "stages": _stages(row, results, split),
                "iou": float(_stacked(list(mine.values()), row.name).mean()),
                "reference": reference.name if reference else None,
                "difference": difference,
                "interval": interval,
            }
        )
    return found


def splits_of(study: Study) -> list[str]:
    """The splits that any row reports."""
    return list(dict.fromkeys(split for row in study.rows for split in row.report))


def reference_of(study: Study, row: Row) -> Row | None:
    """The row of the same group whose name ends with the study's `reference`; None if it is the row itself."""
    if not study.reference:
        return None
    found = next((r for r in study.rows if r.group == row.group and r.name.endswith(study.reference)), None)
    return None if found == row else found


def two_level_interval(differences: Floats, rounds: int = ROUNDS, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of paired differences (runs, images), by resampling runs and images.

    Each resample draws one set of images for all runs, since all runs are scored on the same images.
    `metrics.paired` resamples images alone, and would take three runs of one row for a certain result.
    """
    rng = np.random.default_rng(seed)
    runs, images = differences.shape
    means = [
        differences[rng.integers(runs, size=runs)].mean(0)[rng.integers(images, size=images)].mean()
        for _ in range(rounds)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def scores_table(study: Study, results: Sequence[Result]) -> list[str]:
    """Lines of Markdown for the splits that rows report, in per cent; none if no run has scores."""
    lines: list[str] = []
    for split in splits_of(study):
        rows = row_scores(study, results, split)
        if not rows:
            continue
        stages = list(dict.fromkeys(stage for row in rows for stage in row["stages"]))
        stages.sort(key=lambda stage: (stage != "first stage", len(stage), stage))
        lines += ["", f"## IoU of each picture, split {split}", ""]
        lines.append("Means over pictures and seeds, in %. `last`: each run's last scores.")
        if study.reference:
            lines.append(
                f'Differences are those of `last` to the row of the group that ends with "{study.reference}", picture '
                "by picture and seed by seed, with a 95 % interval (bootstrap over seeds and pictures)."
            )
        group: str | None = None
        for row in rows:
            if row["group"] != group:
                group = row["group"]
                lines += ["", _line([group or "row", *stages, "last", "difference", "runs", "pictures"])]
                lines.append(_line(["---"] * (5 + len(stages))))
            reached = [f"{100 * row['stages'][stage]:.1f}" if stage in row["stages"] else "-" for stage in stages]
            cells = [row["row"], *reached, f"{100 * row['iou']:.1f}", _difference(row), row["runs"], row["images"]]
            lines.append(_line(map(str, cells)))
    return lines


def _last(row: Row, results: Sequence[Result], split: str) -> dict[int, Floats]:
    """By seed, the last IoUs of a row's images."""
    found = {}
    for result in results:
        entries = [e for e in result.get("picture_scores", ()) if split in e]
        if result["row"] == row.name and entries:
            found[int(result["seed"])] = np.array(entries[-1][split], np.float64)
    return found


def _diverged(row: Row, results: Sequence[Result]) -> list[int]:
    """Seeds whose runs ended before they had masks."""
    return [r["seed"] for r in results if r["row"] == row.name and "sizes" not in r["outcome"]]


def _stages(row: Row, results: Sequence[Result], split: str) -> dict[str, float]:
    """The mean IoU after each stage that a run of the row reached."""
    found: dict[str, list[float]] = {}
    for result in results:
        if result["row"] == row.name:
            for entry in result.get("picture_scores", ()):
                if split in entry:
                    found.setdefault(entry["after"], []).append(float(np.mean(entry[split])))
    return {after: float(np.mean(means)) for after, means in found.items()}


def _stacked(runs: Sequence[Floats], name: str, images: int | None = None) -> Floats:
    """The runs' IoUs as one array (runs, images)."""
    counts = {len(run) for run in runs} | ({images} if images is not None else set())
    if len(counts) > 1:
        raise DataError(
            f"Runs of {name!r} were scored on {' and '.join(map(str, sorted(counts)))} images. Rows can only be "
            "compared on the same images. Run the study again in a new folder."
        )
    return np.stack(list(runs))


def _difference(row: RowScores) -> str:
    if row["difference"] is None or row["interval"] is None:
        return "-"
    low, high = row["interval"]
    return f"{100 * row['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
