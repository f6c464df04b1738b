"""How long training will still take, by its speed so far. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redoseg.config.schema import Config
from redoseg.run_folder import Entry


@dataclass(frozen=True)
class Forecast:
    """Seconds that each part of a run takes; 0 for a part that it does not have."""

    step: float
    """Of a step of the first stage."""
    target: float
    """Of making one mask that the second stage learns from."""
    refine_step: float
    """Of a step of the second stage."""

    def first_stage(self, config: Config) -> float:
        """Seconds of the whole first stage."""
        return config.first_steps * self.step

    def second_stage(self, config: Config, pictures: int) -> float:
        """Seconds of the whole second stage, of a set of so many pictures."""
        refine = config.refine
        considered = min(pictures, refine.pictures)
        return refine.rounds * (considered * self.target + refine.steps * self.refine_step)


class SecondStageTime:
    """How long the second stage will take, by the seconds that its masks and its steps have taken so far.

    Args:
        rounds, targets, steps: how many rounds there are, and how many masks are made and steps done in each.
        guess: seconds that a mask and a step may take, until some have been timed.
    """

    def __init__(self, rounds: int, targets: int, steps: int, guess: Forecast | None = None) -> None:
        self.rounds, self.wanted = rounds, {"targets": targets, "refine_step": steps}
        self.guess = {"targets": guess.target, "refine_step": guess.refine_step} if guess else {}
        self.seconds = dict.fromkeys(self.wanted, 0.0)
        self.seen = dict.fromkeys(self.wanted, 0)
        self.last: Entry | None = None

    def left(self, entry: Entry) -> float | None:
        """Seconds left after this entry of the log; None while no mask, or no step, has been timed or guessed."""
        last, self.last = self.last, entry
        done = {"targets": entry.get("targets", self.wanted["targets"]), "refine_step": entry.get("refine_step", 0)}
        for kind in self.wanted:
            if last is not None and kind in last and kind in entry and last["refining"] == entry["refining"]:
                self.seen[kind] += entry[kind] - last[kind]  # type: ignore[literal-required]
                self.seconds[kind] += entry["seconds"] - last["seconds"]
        if not all(self.seen[kind] or kind in self.guess for kind in self.wanted):
            return None
        rounds = self.rounds - entry["refining"]
        return sum(
            (self.wanted[kind] * (rounds + 1) - done[kind])
            * (self.seconds[kind] / self.seen[kind] if self.seen[kind] else self.guess[kind])
            for kind in self.wanted
        )


def second_stage_left(config: Config, pictures: int, entries: Sequence[Entry]) -> float | None:
    """Seconds that the second stage of a run still takes, by its log; None where that cannot be said.

    `pictures` is the number of images that the run learns from.
    """
    refine = config.refine
    time = SecondStageTime(refine.rounds, min(pictures, refine.pictures), refine.steps)
    left = None
    for entry in entries:
        if "refining" in entry:
            left = time.left(entry)
    return left
