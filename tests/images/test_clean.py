"""Crumbs and holes go from masks, and what is meant stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from redoseg.errors import DataError
from redoseg.images import clean as module
from redoseg.images.clean import Cleaning, clean, count_parts, edge_length

Bools = NDArray[np.bool_]


def flooded(mask: Bools, corners: bool) -> tuple[NDArray[np.int64], int]:
    """Numbers of the connected parts by flooding, -1 outside, and how many there are."""
    number, count = np.full(mask.shape, -1), 0
    sides = [(0, 1), (1, 0), (0, -1), (-1, 0)] + [(a, b) for a in (-1, 1) for b in (-1, 1) if corners]
    for seed in zip(*np.nonzero(mask), strict=True):
        if number[seed] >= 0:
            continue
        number[seed], queue = count, [seed]
        while queue:
            y, x = queue.pop()
            for down, across in sides:
                at = y + down, x + across
                if 0 <= at[0] < mask.shape[0] and 0 <= at[1] < mask.shape[1] and mask[at] and number[at] < 0:
                    number[at] = count
                    queue.append(at)
        count += 1
    return number, count


def by_flooding(mask: Bools, cleaning: Cleaning) -> Bools:
    number, count = flooded(mask, True)
    sizes = np.array([(number == i).sum() for i in range(count)])
    result = np.isin(number, [i for i in range(count) if sizes[i] >= cleaning.smallest_part * sizes.max()])
    number, count = flooded(~result, False)
    border = {*number[0], *number[-1], *number[:, 0], *number[:, -1]}
    pixels = result.sum()
    for i in set(range(count)) - border:
        if (number == i).sum() < cleaning.largest_hole * pixels:
            result = result | (number == i)
    return result


@pytest.mark.parametrize("seed", range(60))
def test_noise_is_cleaned_as_by_flooding(seed: int) -> None:
    draw = np.random.default_rng(seed)
    mask = draw.random((draw.integers(1, 24), draw.integers(1, 24))) < draw.random()
    cleaning = Cleaning(*draw.choice([0, 0.01, 0.05, 0.3, 1], 2))
    before = mask.copy()
    assert np.array_equal(clean(mask, cleaning), by_flooding(mask, cleaning))
    assert np.array_equal(mask, before)
    assert count_parts(mask)[0] == flooded(mask, True)[1]


def disc(side: int, radius: float, x: float = 0.5, y: float = 0.5) -> Bools:
    rows, columns = np.ogrid[:side, :side]
    return np.hypot(columns / side - x, rows / side - y) < radius


def crumbs() -> tuple[Bools, Bools]:
    object_, mask = disc(200, 0.3), disc(200, 0.3)
    mask[5:8, 5:8] = mask[190, 3:40] = mask[60, 195] = True
    return mask, object_


def holes() -> tuple[Bools, Bools]:
    object_, mask = disc(200, 0.3), disc(200, 0.3)
    mask[100:106, 100:106] = mask[90, 80:90] = False
    return mask, object_


def crumb_in_a_hole() -> tuple[Bools, Bools]:
    object_, mask = disc(200, 0.3), disc(200, 0.3)
    mask[100:108, 100:108] = False
    mask[103:105, 103:105] = True
    return mask, object_


def car_behind_a_post() -> tuple[Bools, Bools]:
    mask = np.zeros((100, 300), bool)
    mask[40:80, 20:280] = True
    mask[:, 190:200] = False
    return mask, mask


def thin_parts() -> tuple[Bools, Bools]:
    """Legs of one pixel, one of them along a diagonal."""
    mask = disc(200, 0.2)
    mask[100:199, 100] = True
    mask[np.arange(120, 180), np.arange(120, 180)] = True
    return mask, mask


def ring() -> tuple[Bools, Bools]:
    mask = disc(200, 0.4) & ~disc(200, 0.3)
    return mask, mask


def notch_at_the_border() -> tuple[Bools, Bools]:
    mask = np.ones((200, 200), bool)
    mask[:5, 100:105] = False
    return mask, mask


def flock() -> tuple[Bools, Bools]:
    mask = np.zeros((200, 200), bool)
    for x in (0.2, 0.5, 0.8):
        for y in (0.2, 0.5, 0.8):
            mask |= disc(200, 0.05, x, y)
    return mask, mask


def nothing() -> tuple[Bools, Bools]:
    return np.zeros((9, 9), bool), np.zeros((9, 9), bool)


def everything() -> tuple[Bools, Bools]:
    return np.ones((1, 7), bool), np.ones((1, 7), bool)


@pytest.mark.parametrize(
    "case",
    [
        crumbs,
        holes,
        crumb_in_a_hole,
        car_behind_a_post,
        thin_parts,
        ring,
        notch_at_the_border,
        flock,
        nothing,
        everything,
    ],
)
@pytest.mark.parametrize("turn", [0, 1])
def test_what_is_cleaned_and_what_stays(
    case: Callable[[], tuple[Bools, Bools]], turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_A_TIME", 500)  # rows and runs go by in several bands
    mask, expected = (np.rot90(one, turn) for one in case())
    assert np.array_equal(clean(mask, Cleaning()), expected)
    assert np.array_equal(clean(mask, Cleaning(0, 0)), mask)


def test_a_mask_of_noise_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_RUNS", 100)
    mask = np.random.default_rng(0).random((50, 50)) < 0.5
    assert np.array_equal(clean(mask, Cleaning()), mask)
    with pytest.raises(DataError, match="noise"):
        count_parts(mask)


@pytest.mark.parametrize("shares", [(-0.1, 0), (0, 1.5), (float("nan"), 0), (0, float("inf"))])
def test_shares_out_of_range(shares: tuple[float, float]) -> None:
    with pytest.raises(DataError, match="must be from 0 to 1"):
        Cleaning(*shares)


def test_the_length_of_an_edge() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:6, 2:6] = True
    assert edge_length(mask) == 12
    assert edge_length(np.ones((4, 4), bool)) == 0  # the picture's border is none
