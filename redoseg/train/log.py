"""What a run writes to be looked at: log lines, the live status line, curves and sample grids."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.live import Live
from rich.text import Text

from redoseg.files import write_atomic
from redoseg.images.draw import grid

Entry = dict[str, Any]

# blues and greens for what the redrawer minimises, reds for the discriminator
PLAYER_COLOURS = {
    "redrawer": "#1b6ca8",
    "latent": "#6aaed6",
    "floor": "#9a7fb8",
    "self_redraw": "#2a9d8f",
    "critic_real": "#c0392b",
    "critic_fake": "#e59866",
}
# names short enough for a terminal's width
SHORT = {
    "redrawer": "G",
    "latent": "z",
    "floor": "floor",
    "self_redraw": "self",
    "critic_real": "D+",
    "critic_fake": "D-",
}


class RunLog:
    """`log.jsonl`: one JSON object a line, appended as training goes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[Entry]:
        """All whole lines; one that a kill or a power cut broke is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(errors="replace").splitlines(keepends=True)
        entries = []
        for line in lines:
            with contextlib.suppress(ValueError):
                entries.append(json.loads(line))
        return entries

    def rewind(self, restarts: int, step: int) -> None:
        """Forget what came after this step of attempt `restarts`, which is about to be done again.

        The second stage always is: it starts from the first one's end.
        """
        kept = [e for e in self.entries() if (e["restarts"], e["step"]) <= (restarts, step) and "refine_round" not in e]
        write_atomic(self.path, "".join(json.dumps(e) + "\n" for e in kept).encode())

    def append(self, entry: Entry) -> None:
        """Write one line through to the file."""
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class StatusLine:
    """One line of fixed columns, refreshed in place on a terminal, printed at each scoring elsewhere."""

    def __init__(self, console: Console, steps: int) -> None:
        self.console, self.steps = console, steps
        self.live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> StatusLine:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def say(self, message: str) -> None:
        """A line that stays."""
        self.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def show(self, entry: Entry, iou: float | None, scored: bool) -> None:
        """Show a log entry; `iou` is the latest score, `scored` whether this entry brought it."""
        if self.live is None and not scored:
            return
        speed = entry["steps_per_s"]
        left = _clock((self.steps - entry["step"]) / speed) if speed else "-"
        losses = "  ".join(f"{short} {entry[k]:6.3f}" for k, short in SHORT.items() if k in entry)
        sizes = "/".join(f"{100 * s:.0f}" for s in entry["sizes"])
        score = "" if iou is None else f"  iou {iou:.3f}"
        line = (
            f"step {entry['step']:>{len(str(self.steps))}}/{self.steps}  {speed:5.2f} steps/s  left {left:>7}  "
            f"{losses}  regions {sizes} %{score}"
        )
        if self.live:
            self.live.update(Text(line, overflow="ellipsis", no_wrap=False), refresh=True)
        else:
            self.say(line)


def _smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    if window < 2 or len(values) < window:
        return values
    padded = np.pad(values, (window // 2, window - 1 - window // 2), mode="edge")
    return np.convolve(padded, np.ones(window) / window, mode="valid")


def draw_curves(entries: Sequence[Entry], path: Path) -> None:
    """`curves.png`: losses of both players, region sizes, and scores where there are any."""
    from matplotlib.figure import Figure  # without pyplot: no window system, nothing global

    last = max((e["restarts"] for e in entries), default=0)
    rows = [e for e in entries if e["restarts"] == last and "sizes" in e]
    if not rows:
        return
    scored = [e for e in rows if "iou" in e or "iou_matched" in e]
    figure = Figure(figsize=(10, 8 if scored else 5.6), layout="constrained")
    axes = figure.subplots(3 if scored else 2, 1, sharex=True)
    window = max(1, len(rows) // 50)
    for name, colour in PLAYER_COLOURS.items():
        points = [(e["step"], e[name]) for e in rows if name in e]
        if points:
            steps, values = np.array(points, float).T
            axes[0].plot(steps, values, color=colour, alpha=0.2, linewidth=0.8)
            axes[0].plot(steps, _smooth(values, window), color=colour, label=name.replace("_", " "))
    axes[0].set_ylabel("loss")
    axes[0].legend(ncols=6, fontsize=8, frameon=False, loc="upper right")
    sizes = np.array([e["sizes"] for e in rows])
    for region in range(sizes.shape[1]):
        axes[1].plot([e["step"] for e in rows], 100 * sizes[:, region], label=f"region {region}")
    axes[1].set(ylabel="mean size [% of picture]", ylim=(0, 100))
    axes[1].legend(ncols=6, fontsize=8, frameon=False, loc="upper right")
    if scored:
        for key, label in (
            ("iou", "IoU, region fixed without labels"),
            ("iou_oracle_flip", "IoU, oracle flip"),
            ("iou_matched", "IoU, regions matched"),
        ):
            points = [(e["step"], e[key]) for e in scored if key in e]
            if points:
                axes[2].plot(*np.array(points, float).T, marker=".", label=label)
        rounds = [e for e in entries if "refine_round" in e and "iou" in e]
        if rounds:  # the second stage has steps of its own: a twentieth of the axis each round
            places = [e["step"] * (1 + e["refine_round"] / 20) for e in rounds]
            axes[2].plot(places, [e["iou"] for e in rounds], marker="^", linestyle=":", label="IoU, second stage")
        axes[2].set(ylabel="IoU", ylim=(0, 1))
        axes[2].legend(fontsize=8, frameon=False, loc="lower right")
    axes[-1].set_xlabel("step")
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100)
    write_atomic(path, buffer.getvalue())


def draw_samples(rows: Sequence[NDArray[np.uint8]], path: Path, side: int = 96) -> None:
    """A sample grid: each row is uint8 (k, H, W, 3), one picture a column, drawn at about `side` pixels."""
    images = [[Image.fromarray(image) for image in row] for row in rows]
    factor = max(1, round(side / images[0][0].width))
    images = [[i.resize((i.width * factor, i.height * factor), Image.Resampling.NEAREST) for i in r] for r in images]
    buffer = io.BytesIO()
    grid(images).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())
