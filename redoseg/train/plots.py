"""Pictures that a run writes of itself: curves and sample grids."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.files import write_atomic
from redoseg.images.draw import grid
from redoseg.run_folder import Entry, LossName

# blues and greens for what the redrawer minimises, reds for the discriminator
PLAYER_COLOURS: dict[LossName, str] = {
    "redrawer": "#1b6ca8",
    "latent": "#6aaed6",
    "floor": "#9a7fb8",
    "self_redraw": "#2a9d8f",
    "critic_real": "#c0392b",
    "critic_fake": "#e59866",
}

SCORES: dict[Literal["iou", "iou_oracle_flip", "iou_matched"], str] = {
    "iou": "IoU, region fixed without labels",
    "iou_oracle_flip": "IoU, oracle flip",
    "iou_matched": "IoU, regions matched",
}


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
        for key, label in SCORES.items():
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
