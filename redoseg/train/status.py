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


class SecondStageTime:
    """How long the second stage will take, by the seconds that its masks and its steps have taken so far.

    Args:
        rounds, targets, steps: how many rounds there are, and how many masks are made and steps done in each.
    """

    def __init__(self, rounds: int, targets: int, steps: int) -> None:
        self.rounds, self.wanted = rounds, {"targets": targets, "refine_step": steps}
        self.seconds = dict.fromkeys(self.wanted, 0.0)
        self.seen = dict.fromkeys(self.wanted, 0)
        self.last: Entry | None = None

    def left(self, entry: Entry) -> float | None:
        """Seconds left after this entry of the log; None while no mask, or no step, has been timed."""
        last, self.last = self.last, entry
        done = {"targets": entry.get("targets", self.wanted["targets"]), "refine_step": entry.get("refine_step", 0)}
        for kind in self.wanted:
            if last is not None and kind in last and kind in entry and last["refining"] == entry["refining"]:
                self.seen[kind] += entry[kind] - last[kind]  # type: ignore[literal-required]
                self.seconds[kind] += entry["seconds"] - last["seconds"]
        if not all(self.seen.values()):
            return None
        rounds = self.rounds - entry["refining"]
        return sum(
            (self.wanted[kind] * (rounds + 1) - done[kind]) * self.seconds[kind] / self.seen[kind]
            for kind in self.wanted
        )


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

    def show_second(self, entry: Entry, time: SecondStageTime) -> None:
        """Show an entry of the second stage on a terminal; elsewhere its rounds are enough."""
        left = time.left(entry)
        if self.live is None:
            return
        kind, what = ("targets", "masks") if "targets" in entry else ("refine_step", "step")
        words = "-" if left is None else _clock(left)
        loss = f"  loss {entry['refine_loss']:.3f}" if "refine_loss" in entry else ""
        line = (
            f"second stage, round {entry['refining']}/{time.rounds}  {what} {entry[kind]}/{time.wanted[kind]}  "  # type: ignore[literal-required]
            f"left {words:>7}{loss}"
        )
        self.live.update(Text(line, overflow="ellipsis", no_wrap=False), refresh=True)
