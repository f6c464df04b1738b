"""What a study says: a table, a dot for each run, masks side by side and over time, and the losses of both players."""

from __future__ import annotations

import io
import json
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from PIL import Image

from redoseg.files import write_atomic
from redoseg.run_folder import RunFolder
from redoseg.study.run import Result, Row, Study, StudyFolder
from redoseg.study.scores import row_scores, scores_table, splits_of
from redoseg.train.health import GREYNESS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# what became of a run's masks, in the order of the table's legend
GOOD, PARTIAL, RANDOM, GREY, ONE_REGION, DIVERGED = "good", "partial", "random", "grey", "one region", "diverged"
KINDS = {
    GOOD: "#2a9d8f",
    PARTIAL: "#e9c46a",
    RANDOM: "#9a7fb8",
    GREY: "#8d99ae",
    ONE_REGION: "#c0392b",
    DIVERGED: "#000000",
}
TIMES = 8  # columns of the figure over time, at most
SHOWN = 2  # pictures in each of its cells


def kind(study: Study, result: Result, floor: float) -> str:
    """What became of a run's masks: one of KINDS. `floor` is the best trivial IoU on the same pictures."""
    outcome = result["outcome"]
    if "sizes" not in outcome:
        return DIVERGED
    if outcome["collapsed"]:
        return ONE_REGION
    iou = outcome["scores"]["iou"]
    if iou >= study.good:
        return GOOD
    if (result["grey"] or 0) > GREYNESS:
        return GREY
    return PARTIAL if iou > floor else RANDOM


class Line(TypedDict):
    """What the finished runs of a row have reached."""

    group: str
    row: str
    runs: int
    median: float
    """Of the runs' `iou`, as `worst` and `best`."""
    worst: float
    best: float
    behind: float
    """How far a run's last weights score below its best ones, at most."""
    collapsed: float
    """Share of the runs."""
    kinds: dict[str, int]
    health: dict[str, int]
    minutes: float
    """Median of the runs."""


def summary(study: Study, results: Sequence[Result], floors: dict[str, float]) -> list[Line]:
    """A line for each row that has a finished run."""
    lines: list[Line] = []
    for row in study.rows:
        mine = [r for r in results if r["row"] == row.name]
        if not mine:
            continue
        kinds = Counter(kind(study, r, floors[row.config.data.evaluate_on]) for r in mine)
        ious = sorted(r["outcome"].get("scores", {}).get("iou", 0.0) for r in mine)
        lines.append(
            {
                "group": row.group,
                "row": row.name,
                "runs": len(mine),
                "median": statistics.median(ious),
                "worst": ious[0],
                "best": ious[-1],
                "behind": max((_behind(r["course"]) for r in mine), default=0.0),
                "collapsed": kinds[ONE_REGION] / len(mine),
                "kinds": {k: kinds[k] for k in KINDS if kinds[k]},
                "health": dict(Counter(r["outcome"].get("health", "not known") for r in mine)),
                "minutes": statistics.median(r["seconds"] for r in mine) / 60,
            }
        )
    return lines


def _behind(course: Sequence[Sequence[float]]) -> float:
    """How far the last weights score below the best scored ones of the run, which only labels can show."""
    return max((iou for _, iou in course), default=0.0) - course[-1][1] if course else 0.0


def floors_of(study: Study) -> dict[str, float]:
    """The best trivial IoU (mean mask, centred disc) on each set of pictures that rows are scored on."""
    from redoseg.data import open_data
    from redoseg.evaluation import baselines

    found = {}
    for row in study.rows:
        data = row.config.data
        if data.evaluate_on not in found:
            images = open_data(
                data.evaluate_on, data.size, regions=row.config.nets.regions, split=data.evaluate_split or None
            )
            found[data.evaluate_on] = max(s.iou for s in baselines.floors(images.labels()).values())
    return found


def write_table(study: Study, results: Sequence[Result], floors: dict[str, float], folder: StudyFolder) -> str:
    """`table.md`, `scores.json` (runs with scores of each image) and the four figures; returns the table."""
    lines = summary(study, results, floors)
    text: list[str] = [f"# {study.title}", ""]
    text += [f"Best trivial IoU on {name}: {100 * floor:.1f}. " for name, floor in floors.items()]
    head = (
        "| {} | IoU: median | worst | best | runs | collapsed | behind "
        "| what became of the masks | what training said |"
    )
    text += [
        "",
        "`behind`: how far the last weights, which are kept, score below the best of any run's log at most.",
        "",
    ]
    group: str | None = None
    for line in lines:
        if line["group"] != group:
            group = str(line["group"])
            text += ["", head.format(group or "row"), "|---|---|---|---|---|---|---|---|---|"]
        kinds, health = (
            ", ".join(f"{count} {name}" for name, count in line[key].items()) for key in ("kinds", "health")
        )
        text.append(
            f"| {line['row']} | {100 * line['median']:.1f} | {100 * line['worst']:.1f} | "
            f"{100 * line['best']:.1f} | {line['runs']} | {100 * line['collapsed']:.0f} % | "
            f"{100 * line['behind']:.1f} | {kinds} | {health} |"
        )
    text += scores_table(study, results)
    table = "\n".join(text) + "\n"
    write_atomic(folder.table, table.encode())
    scores = {split: rows for split in splits_of(study) if (rows := row_scores(study, results, split))}
    if scores:
        write_atomic(folder.scores, (json.dumps(scores, indent=1) + "\n").encode())
    _draw(study, results, floors, lines, folder.figure)
    _draw_masks(study, results, folder)
    _draw_course(study, results, folder)
    _draw_losses(study, results, folder)
    return table


def _runs(study: Study, results: Sequence[Result], folder: StudyFolder) -> list[tuple[Row, Result, Path]]:
    """Each row's run of the first seed, where it is done."""
    found = []
    for row in study.rows:
        for result in results:
            if result["row"] == row.name and result["seed"] == study.seeds[0]:
                found.append((row, result, folder.run(row.name, result["seed"], result["key"])))
    return found


def _strips(path: Path, names: Sequence[int], images: int = 0) -> list[Image.Image]:
    """Rows of a sample grid of two regions: 0 pictures, 1 object masks, 2 and 3 the regions redrawn, 4 the truth."""
    with Image.open(path) as sheet:
        height = sheet.height // 5
        width = sheet.width * images // 8 if images else sheet.width
        return [sheet.crop((0, height * name, width, height * (name + 1))) for name in names]


def _draw_masks(study: Study, results: Sequence[Result], folder: StudyFolder) -> None:
    """Pictures, and below them what each row's run of the first seed made of them."""
    strips: list[tuple[str, Image.Image]] = []
    for row, _, run in _runs(study, results, folder):
        sheet = RunFolder(run).last_sample
        if sheet.is_file() and row.config.nets.regions == 2:
            images, masks = _strips(sheet, (0, 1))
            strips += [(row.name, masks)] if strips else [("pictures", images), (row.name, masks)]
    _draw_strips(strips, folder.masks)


def _draw_strips(strips: Sequence[tuple[str, Image.Image]], path: Path, title: str = "") -> None:
    """Pictures below each other, each with its name to the left."""
    from matplotlib.figure import Figure

    if not strips:
        return
    inches = [6.1 * strip.height / strip.width for _, strip in strips]
    tall = sum(inches) * 1.05 + (0.3 if title else 0)
    figure = Figure(figsize=(9, tall))
    figure.subplots_adjust(0.32, 0, 1, 1 - 0.3 / tall if title else 1, hspace=0.05)
    axes = figure.subplots(len(strips), 1, squeeze=False, gridspec_kw={"height_ratios": inches})[:, 0]
    for axis, (name, strip) in zip(axes, strips, strict=True):
        axis.imshow(strip)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
        if title and axis is axes[0]:
            axis.set_title(title, fontsize=8)
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    _save(figure, path)


def _draw_course(study: Study, results: Sequence[Result], folder: StudyFolder) -> None:
    """Over time, from left to right: the object masks of each row's first run, and below them the object redrawn."""
    title, strips = "", list[tuple[str, Image.Image]]()
    for row, result, run in _runs(study, results, folder):
        sheets = RunFolder(run).samples_in_order()
        if not sheets or row.config.nets.regions != 2:
            continue
        if len(sheets) > TIMES:
            sheets = [sheets[round(i * (len(sheets) - 1) / (TIMES - 1))] for i in range(TIMES)]
        # where only region 0 is redrawn, it is the one to look at, whatever the masks say
        drawn = 0 if row.config.objective.redraw == "object" else result["outcome"].get("object_region", 0)
        cells = [_strips(sheet, (1, 2 + drawn), SHOWN) for sheet in sheets]
        width, height = cells[0][0].size
        whole = Image.new("RGB", ((width + 12) * len(cells), 2 * height), "white")
        for number, (masks, redrawn) in enumerate(cells):
            whole.paste(masks, (number * (width + 12), 0))
            whole.paste(redrawn, (number * (width + 12), height))
        strips.append((row.name, whole))
        title = title or f"after {', '.join(str(int(sheet.stem.split('-')[1])) for sheet in sheets)} steps"
    _draw_strips(strips, folder.course, title)


def _draw_losses(study: Study, results: Sequence[Result], folder: StudyFolder) -> None:
    """The losses of both players in each row's first run."""
    from matplotlib.figure import Figure

    runs = _runs(study, results, folder)
    if not runs:
        return
    columns = min(3, len(runs))
    height = -(-len(runs) // columns)
    figure = Figure(figsize=(9, 0.6 + 1.8 * height), layout="constrained")
    axes = figure.subplots(height, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axis, (row, _, run) in zip(axes, runs, strict=False):
        entries = [e for e in RunFolder(run).log.entries() if "critic_real" in e]
        steps = [e["step"] for e in entries]
        axis.plot(steps, [e["critic_real"] + e["critic_fake"] for e in entries], color="#c0392b", label="discriminator")
        axis.plot(steps, [e["redrawer"] for e in entries], color="#2a9d8f", label="generators and extractor")
        axis.set_title(row.name, fontsize=8)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=7)
    for axis in axes[len(runs) :]:
        axis.set_visible(False)
    axes[0].set_ylim(-3, 4)  # both losses lie there unless one has left the game
    figure.supxlabel("step", fontsize=8)
    figure.supylabel("adversarial loss", fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    _save(figure, folder.losses)


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100)
    write_atomic(path, buffer.getvalue())


def _draw(study: Study, results: Sequence[Result], floors: dict[str, float], lines: list[Line], path: Path) -> None:
    """A dot for each run, a line for each row."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(9, 1.4 + 0.32 * len(lines)), layout="constrained")
    axes = figure.subplots()
    sets = {row.name: row.config.data.evaluate_on for row in study.rows}
    for height, line in enumerate(lines):
        for result in (r for r in results if r["row"] == line["row"]):
            iou = result["outcome"].get("scores", {}).get("iou", 0.0)
            colour = KINDS[kind(study, result, floors[sets[line["row"]]])]
            axes.plot(100 * iou, height, "o", color=colour, markersize=7, alpha=0.75, markeredgewidth=0)
        axes.plot(100 * line["median"], height, "|", color="#222222", markersize=14)
    for floor in floors.values():
        axes.axvline(100 * floor, color="#999999", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(lines)), [line["row"] for line in lines])
    axes.invert_yaxis()
    axes.set(xlabel="IoU, object region fixed once without labels [%]", xlim=(-2, 102))
    figure.suptitle(study.title, fontsize=10)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    marks = [Line2D([], [], marker="o", linestyle="", color=colour, label=name) for name, colour in KINDS.items()]
    marks.append(Line2D([], [], linestyle=":", color="#999999", label="best trivial"))
    figure.legend(handles=marks, loc="outside lower center", ncols=7, frameon=False, fontsize=8)
    _save(figure, path)
