"""`report.md`: what a run did and came to, in one page of its folder."""

from __future__ import annotations

import json

from redoseg import signals
from redoseg.config.recipe import flat, to_values
from redoseg.config.schema import Config
from redoseg.files import write_atomic
from redoseg.run_folder import Outcome, RunFolder, labels_in_words

NAMES = {
    "iou": "IoU, object region fixed once without labels",
    "accuracy": "pixel accuracy",
    "iou_oracle_flip": "IoU, better of mask and complement for each picture",
    "accuracy_oracle_flip": "accuracy, better of mask and complement for each picture",
    "iou_matched": "IoU, regions matched to objects with the truth",
    "accuracy_matched": "accuracy, regions matched to objects with the truth",
    "pictures": "pictures",
}


_SO_FAR = (
    "- The second stage is not finished: the masks here are those of its last finished round, or of the first stage. "
    "They should get better."
)


def is_under_way(outcome: Outcome) -> bool:
    """Whether the second stage is still running, or was killed."""
    return bool(outcome.get("rounds_left")) and not outcome["stopped"]


def ending(outcome: Outcome) -> str:
    """How the run ended, in a few words."""
    if outcome["collapsed"]:
        return "collapsed: a region has all but vanished"
    if not outcome["stopped"]:
        return "second stage under way" if is_under_way(outcome) else "finished"
    if "redraw_steps" in outcome:
        return f"stopped {signals.how()} in the third stage"
    if outcome["step"] == outcome["steps"]:
        return f"stopped {signals.how()} in the second stage"
    return f"stopped {signals.how()} at step {outcome['step']} of {outcome['steps']}"


def _labels_of(config: Config, outcome: Outcome) -> list[str]:
    """The line on what a person corrected, where the masks were learnt from that too."""
    if "corrected" not in outcome:
        return []
    found = labels_in_words({"corrected": outcome["corrected"], "refused": outcome.get("refused", 0)})
    return [f"- Labels: {found}, of {config.refine.corrected}, in each round of the second stage."]


def write_report(folder: RunFolder, config: Config, outcome: Outcome) -> None:
    """Write `report.md` into a run folder."""
    entries = folder.log.entries()
    seconds = entries[-1].get("seconds", 0.0) if entries else 0
    sizes = ", ".join(f"{100 * s:.1f} %" for s in outcome["sizes"])
    first = (
        f"{outcome['step']} steps of {config.batch} pictures in {seconds / 60:.1f} minutes, "
        f"{outcome['restarts']} restarts."
    )
    if not config.first_steps:
        first = f"{seconds / 60:.1f} minutes, second stage alone, started from {config.refine.start}."
    lines = [
        f"# {folder.path.name}",
        "",
        f"- {'State' if is_under_way(outcome) else 'Ended'}: {ending(outcome)}, {first}",
        *([_SO_FAR] if outcome.get("rounds_left") else []),
        *([f"- Health at the end: {outcome['health']}."] if config.first_steps else []),
        f"- Mean region sizes: {sizes}. The object is region {outcome['object_region']}, chosen without labels.",
        *_labels_of(config, outcome),
        "- Resume: `redoseg train --resume --out FOLDER` (add `--steps N` for more steps).",
        "- Use: `redoseg segment FOLDER photo.jpg -o out/`.",
    ]
    for title, scores in (
        ("Scores", outcome.get("scores")),
        ("Scores before refining", outcome.get("scores_before_refining")),
    ):
        if scores is None:
            continue
        lines += ["", f"## {title} on {config.data.evaluate_on}", "", "| figure | value |", "|---|---|"]
        for name, value in scores.items():
            lines.append(f"| {NAMES.get(name, name)} | {value if name == 'pictures' else f'{value:.4f}'} |")
    if "scores" in outcome:
        lines += ["", "`redoseg evaluate FOLDER DATA` gives these again, beside the baselines."]
    if config.first_steps:
        lines += ["", "## Course", "", "![losses, region sizes and scores](curves.png)"]
    redrawn = ", each region redrawn" if config.first_steps else ""
    lines += [
        "",
        f"Rows: pictures, object mask{redrawn}, and the truth where there is one.",
        "",
        "![samples](samples/last.png)",
        "",
    ]
    lines += ["## Settings", "", "| setting | value |", "|---|---|"]
    lines += [f"| {key} | {json.dumps(value)} |" for key, value in flat(to_values(config)).items()]
    write_atomic(folder.report, ("\n".join(lines) + "\n").encode())
