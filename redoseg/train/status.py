"""The line on the terminal that shows how training is doing."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from redoseg.run_folder import Entry, LossName

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
