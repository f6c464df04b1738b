"""The line on the terminal that shows how training is doing."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from redoseg.run_folder import Entry, LossName
from redoseg.train.time_left import SecondStageTime

EACH = 60.0  # seconds between two lines of the second stage where output is not a terminal

# names short enough for a terminal's width
SHORT: dict[LossName, str] = {
    "redrawer": "G",
    "latent": "z",
    "floor": "floor",
    "self_redraw": "self",
    "critic_real": "D+",
    "critic_fake": "D-",
}


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class StatusLine:
    """One line of fixed columns, refreshed in place on a terminal; elsewhere printed at each scoring, or each minute.

    Args:
        console: where to print.
        steps: length of the first stage.
    """

    second_stage = 0.0
    """Seconds that the second stage will take."""

    def __init__(self, console: Console, steps: int) -> None:
        self.console, self.steps = console, steps
        self.printed = time.monotonic()
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
        self.printed = time.monotonic()
        self.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def show(self, entry: Entry, iou: float | None, scored: bool) -> None:
        """Show a log entry; `iou` is the latest score, `scored` whether this entry brought it."""
        if self.live is None and not scored:
            return
        speed = entry["steps_per_s"]
        left = _clock((self.steps - entry["step"]) / speed + self.second_stage) if speed else "-"
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

    def show_second(self, entry: Entry, expected: SecondStageTime) -> None:
        """Show an entry of the second stage; where output is not a terminal, one a minute."""
        left = expected.left(entry)
        if self.live is None and time.monotonic() - self.printed < EACH:
            return
        kind, what = ("targets", "masks") if "targets" in entry else ("refine_step", "step")
        words = "-" if left is None else _clock(left)
        loss = f"  loss {entry['refine_loss']:.3f}" if "refine_loss" in entry else ""
        line = (
            f"second stage, round {entry['refining']}/{expected.rounds}  "
            f"{what} {entry[kind]}/{expected.wanted[kind]}  left {words:>7}{loss}"  # type: ignore[literal-required]
        )
        if self.live:
            self.live.update(Text(line, overflow="ellipsis", no_wrap=False), refresh=True)
        else:
            self.say(line)
