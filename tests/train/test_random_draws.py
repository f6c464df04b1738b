"""Random draws are functions of (seed, step) alone."""

from __future__ import annotations

from dataclasses import astuple, fields

import numpy as np
import pytest
import torch

from redoseg.train.random_draws import RandomDraws, StepDraws


def same(a: StepDraws, b: StepDraws) -> list[bool]:
    return [np.array_equal(np.asarray(x), np.asarray(y)) for x, y in zip(astuple(a), astuple(b), strict=True)]


def test_a_step_depends_on_nothing_that_was_drawn_before() -> None:
    straight, jumping = RandomDraws(3, 10, 4, 2, 5), RandomDraws(3, 10, 4, 2, 5)
    drawn = {step: straight.step(step) for step in range(1, 20)}
    torch.manual_seed(99)
    np.random.seed(99)
    for step in (17, 2, 9, 19, 1):
        assert all(same(jumping.step(step), drawn[step]))


def test_another_seed_and_another_step_draw_otherwise() -> None:
    draws = RandomDraws(3, 1000, 16, 3, 5)
    assert not any(same(draws.step(1), draws.step(2)))
    assert not any(same(draws.step(1), RandomDraws(4, 1000, 16, 3, 5).step(1)))


@pytest.mark.parametrize(("pictures", "batch"), [(12, 4), (10, 4), (3, 8)])
def test_every_epoch_covers_every_picture_once(pictures: int, batch: int) -> None:
    draws = RandomDraws(0, pictures, batch, 2, 4)
    steps = 3 * pictures  # whole epochs, whatever the batch
    for name in ("redrawn", "real"):
        seen = np.concatenate([getattr(draws.step(s), name) for s in range(1, steps + 1)])
        epochs = seen.reshape(-1, pictures)
        assert len(epochs) == 3 * batch
        assert (np.sort(epochs, axis=1) == np.arange(pictures)).all()
        assert len({tuple(epoch) for epoch in epochs}) > 1  # each in an order of its own


def test_streams_differ() -> None:
    drawn = RandomDraws(0, 1000, 64, 2, 4).step(1)
    assert not np.array_equal(drawn.redrawn, drawn.real)
    assert not torch.equal(drawn.latents, drawn.fresh_latents)
    assert not np.array_equal(drawn.flips[0], drawn.flips[1])


def test_shapes_and_distributions() -> None:
    draws = RandomDraws(0, 50, 400, 3, 5)
    drawn = draws.step(7)
    assert {f.name for f in fields(drawn)} == {
        "redrawn", "real", "flips", "latents", "fresh_latents", "chosen", "changes", "shifts"
    }  # fmt: skip
    assert drawn.latents.shape == (400, 3, 5)
    assert drawn.changes.shape == (2, 400 * 5, 5)
    assert drawn.shifts.shape == (400, 2)
    assert -1 < drawn.shifts.min() < -0.9
    assert 0.9 < drawn.shifts.max() < 1
    assert 0 <= drawn.changes.min() < 0.01 < 0.99 < drawn.changes.max() < 1
    assert drawn.latents.mean().abs() < 0.05
    assert drawn.latents.std().item() == pytest.approx(1, abs=0.05)
    assert drawn.flips.mean() == pytest.approx(0.5, abs=0.1)
    assert torch.bincount(drawn.chosen, minlength=3).min() > 90
    assert drawn.chosen.max() == 2
