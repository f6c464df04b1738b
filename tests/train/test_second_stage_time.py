"""The time left of the second stage, by what its masks and steps have taken."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from rich.console import Console

from redoseg.run_folder import Entry
from redoseg.train import distributed
from redoseg.train.forecast import forecast_second_stage
from redoseg.train.stage_data import RunData
from redoseg.train.status import StatusLine
from redoseg.train.time_left import Forecast, SecondStageTime, second_stage_left
from tests.conftest import Tiny

LONG = {"refine.steps": 100, "refine.pictures": 50}


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
def test_the_time_left(rounds: int, per_mask: float, per_step: float, tiny: Tiny) -> None:
    time, guesses = SecondStageTime(tiny(LONG | {"refine.rounds": rounds}), 50), []
    for entry, truth in entries(rounds, 50, 100, per_mask, per_step):
        if "refining" in entry:
            guesses.append((time.left(entry), truth))
    assert guesses[0][0] is None  # nothing is timed yet
    known = [(guess, truth) for guess, truth in guesses if guess is not None]
    assert len(known) >= len(guesses) - 6
    for guess, truth in known:
        assert guess == pytest.approx(truth)


def test_the_line_names_round_and_step(tiny: Tiny) -> None:
    console = Console(force_terminal=True, width=120, record=True)
    time = SecondStageTime(tiny(LONG | {"refine.rounds": 2}), 50)
    with StatusLine(console, 10) as status:
        for entry, _ in entries(2, 50, 100, 0.3, 1.0):
            if "refining" in entry:
                status.show_second(entry, time)
    shown = console.export_text()
    assert "second stage, round 2/2  step 100/100  left    0:00  loss 0.500" in shown


def test_what_is_expected_counts_until_it_is_timed(tiny: Tiny) -> None:
    expected = Forecast(step=0.0, targets=(2.0, 2.0), refine_steps=(1.0, 4.0))
    time = SecondStageTime(tiny(LONG | {"refine.rounds": 2, "refine.size": 32, "refine.early_size": 16}), 50, expected)
    whole = 2 * 50 * 2.0 + 100 * 1.0 + 100 * 4.0
    assert time.left({"refining": 1, "targets": 0, "seconds": 0.0}) == pytest.approx(whole)
    # masks take half of that: known from the second entry on, for both rounds, whose masks are timed apart
    assert time.left({"refining": 1, "targets": 10, "seconds": 10.0}) == pytest.approx(whole - 10 * 2.0 - 40 * 1.0)


def test_steps_on_larger_pictures_take_longer(tiny: Tiny) -> None:
    config = tiny(LONG | {"refine.rounds": 2, "refine.size": 32, "refine.early_size": 16})
    log: list[Entry] = [
        {"refining": 1, "targets": 25, "seconds": 5.0},
        {"refining": 1, "targets": 50, "seconds": 10.0},
        {"refining": 1, "refine_step": 50, "seconds": 100.0},
        {"refining": 1, "refine_step": 100, "seconds": 150.0},
    ]
    assert second_stage_left(config, 1000, log) == pytest.approx(50 * 0.2 + 100 * 4.0)


def test_in_several_processes_nothing_is_expected(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second stage is then not timed first, and what is left is known from its own speed."""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    config = tiny(LONG | {"refine.rounds": 1})
    time = SecondStageTime(config, 50, forecast_second_stage(config, RunData.open(config, torch.device("cpu"))))
    assert time.left({"refining": 1, "targets": 50, "seconds": 2.0}) is None
    assert time.left({"refining": 1, "refine_step": 20, "seconds": 7.0}) is None
    assert time.left({"refining": 1, "refine_step": 40, "seconds": 11.0}) == pytest.approx(60 * 0.2)
