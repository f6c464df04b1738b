"""How long training will still take, by its speed so far. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redoseg.config.schema import Config
from redoseg.run_folder import Entry


@dataclass(frozen=True)
class Forecast:
    """Seconds that each part of a run takes; nothing for a part that it does not have."""

    step: float
    """Of a step of the first stage."""
    targets: tuple[float, ...]
    """Of making one mask that the second stage learns from, in each of its rounds."""
    refine_steps: tuple[float, ...]
    """Of a step of the second stage, in each of its rounds."""
    drawing_step: float = 0.0
    """Of a step of the third stage."""

    def first_stage(self, config: Config) -> float:
        """Seconds of the whole first stage."""
        return config.first_steps * self.step

    def second_stage(self, config: Config, images: int) -> float:
        """Seconds of the whole second stage, of a set of so many pictures."""
        refine = config.refine
        return min(images, refine.pictures) * sum(self.targets, 0.0) + refine.steps * sum(self.refine_steps, 0.0)


class SecondStageTime:
    """How long the second stage will take, by the seconds that its masks and its steps have taken so far.

    Args:
        config: of the run.
        targets: how many masks a round makes.
        expected: what they may take, until some have been timed.
    """

    def __init__(self, config: Config, targets: int, expected: Forecast | None = None) -> None:
        self.rounds, self.wanted = config.refine.rounds, {"targets": targets, "refine_step": config.refine.steps}
        self.sizes = [config.round_size(number) for number in range(1, self.rounds + 1)]
        given = {"targets": expected.targets, "refine_step": expected.refine_steps} if expected else {}
        self.expected = {kind: seconds for kind, seconds in given.items() if seconds}
        self.timed: dict[tuple[str, int], tuple[float, int]] = {}
        """Seconds and count of what was timed, by kind and by the size of the images."""
        self.last: Entry | None = None

    def left(self, entry: Entry) -> float | None:
        """Seconds left after this entry of the log; None while nothing has been timed, or is expected."""
        last, self.last = self.last, entry
        number = entry["refining"]
        done = {"targets": entry.get("targets", self.wanted["targets"]), "refine_step": entry.get("refine_step", 0)}
        for kind in self.wanted:
            if last is not None and kind in last and kind in entry and last["refining"] == number:
                seconds, count = self.timed.get((kind, self.sizes[number - 1]), (0.0, 0))
                count += entry[kind] - last[kind]  # type: ignore[literal-required]
                self.timed[kind, self.sizes[number - 1]] = seconds + entry["seconds"] - last["seconds"], count
        left = 0.0
        for kind, wanted in self.wanted.items():
            for later in range(number, self.rounds + 1):
                count = wanted - (done[kind] if later == number else 0)
                each = self._seconds_of_one(kind, later) if count else 0.0
                if each is None:
                    return None
                left += count * each
        return left

    def _seconds_of_one(self, kind: str, number: int) -> float | None:
        """Of one mask or step of that round: as timed at its size, else as expected, else as timed at another size."""
        size = self.sizes[number - 1]
        timed = {at: seconds / count for (of, at), (seconds, count) in self.timed.items() if of == kind and count}
        if size in timed:
            return timed[size]
        if kind in self.expected:
            return self.expected[kind][number - 1]
        for at, seconds in timed.items():
            return seconds * (size / at) ** 2 if kind == "refine_step" else seconds
        return None


def second_stage_left(config: Config, images: int, entries: Sequence[Entry]) -> float | None:
    """Seconds that the second stage of a run still takes, by its log; None where that cannot be said.

    `images` is the number of images that the run learns from.
    """
    time, left = SecondStageTime(config, min(images, config.refine.pictures)), None
    for entry in entries:
        if 1 <= entry.get("refining", 0) <= config.refine.rounds and "seconds" in entry:
            left = time.left(entry)
    return left
