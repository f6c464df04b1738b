"""The time left of the second stage, by what its masks and steps have taken."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rich.console import Console

from redoseg.run_folder import Entry
from redoseg.train.status import StatusLine
from redoseg.train.time_left import SecondStageTime


def entries(rounds: int, targets: int, steps: int, per_mask: float, per_step: float) -> Iterator[tuple[Entry, float]]:
    """The lines of a log, each with the seconds that are really left."""
    seconds, whole = 100.0, rounds * (targets * per_mask + steps * per_step)
    for number in range(1, rounds + 1):
        for made in range(10, targets + 1, 10):
            seconds += 10 * per_mask
            yield {"refining": number, "targets": made, "seconds": seconds}, 100 + whole - seconds
        for step in range(20, steps + 1, 20):
            seconds += 20 * per_step
            yield (
                {"refining": number, "refine_step": step, "refine_loss": 0.5, "seconds": seconds},
                100 + whole - seconds,
            )
        yield {"refine_round": number, "seconds": seconds}, 100 + whole - seconds


@pytest.mark.parametrize(("per_mask", "per_step"), [(0.3, 1.0), (0.001, 0.5), (2.0, 0.01)])
@pytest.mark.parametrize("rounds", [1, 3])
def test_the_time_left(rounds: int, per_mask: float, per_step: float) -> None:
    time, guesses = SecondStageTime(rounds, 50, 100), []
    for entry, truth in entries(rounds, 50, 100, per_mask, per_step):
        if "refining" in entry:
            guesses.append((time.left(entry), truth))
    assert guesses[0][0] is None  # nothing is timed yet
    known = [(guess, truth) for guess, truth in guesses if guess is not None]
    assert len(known) >= len(guesses) - 6
    for guess, truth in known:
        assert guess == pytest.approx(truth)


def test_the_line_names_round_and_step() -> None:
    console = Console(force_terminal=True, width=120, record=True)
    time = SecondStageTime(2, 50, 100)
    with StatusLine(console, 10) as status:
        for entry, _ in entries(2, 50, 100, 0.3, 1.0):
            if "refining" in entry:
                status.show_second(entry, time)
    shown = console.export_text()
    assert "second stage, round 2/2  step 100/100  left    0:00  loss 0.500" in shown
