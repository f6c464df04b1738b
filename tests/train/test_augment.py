"""What the discriminator sees of augmented pictures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from redoseg.config.schema import Config
from redoseg.train.augment import augmented
from redoseg.train.players import Discriminator


def pictures(count: int = 3, side: int = 16) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def changes(**given: float) -> Tensor:
    names = ("brightness", "saturation", "contrast", "down", "right")
    return torch.tensor([[given.get(name, 0.5) for name in names]]).repeat(3, 1)


def test_one_half_changes_nothing() -> None:
    assert torch.allclose(augmented(pictures(), changes()), pictures(), atol=1e-6)


def test_colours_one_by_one() -> None:
    before = pictures()
    brighter = augmented(before, changes(brightness=0.9))
    assert torch.allclose(brighter, before + 0.4, atol=1e-6)
    grey = augmented(before, changes(saturation=0.0))
    assert torch.allclose(grey, before.mean(1, keepdim=True).expand_as(before), atol=1e-6)
    flat = augmented(before, changes(contrast=0.0))
    assert torch.allclose(flat.mean((1, 2, 3)), before.mean((1, 2, 3)), atol=1e-6)
    assert torch.allclose(flat.std((1, 2, 3)), before.std((1, 2, 3)) / 2, atol=1e-6)


def test_pictures_move_over_a_plain_ground() -> None:
    before = pictures()
    moved = augmented(before, changes(down=1.0, right=0.0))  # 2 of 16 pixels
    assert torch.allclose(moved[..., 2:, :-2], before[..., :-2, 2:], atol=1e-6)
    assert moved[..., :2, :].abs().max() == 0
    assert moved[..., -2:].abs().max() == 0


def test_each_picture_its_own() -> None:
    same = pictures(1).repeat(3, 1, 1, 1)
    seen = augmented(same, torch.rand(3, 5, generator=torch.Generator().manual_seed(1)))
    assert not torch.allclose(seen[0], seen[1], atol=0.05)
    assert not torch.allclose(seen[1], seen[2], atol=0.05)


def test_gradients_reach_the_pictures() -> None:
    before = pictures().requires_grad_()
    augmented(before, changes(down=0.8)).square().sum().backward()
    assert before.grad is not None
    assert before.grad[..., :8, :].abs().min() >= 0
    assert before.grad.abs().sum() > 0


def test_real_and_redrawn_are_both_augmented(tiny: Any) -> None:
    config: Config = tiny({"objective.augment": True})
    torch.manual_seed(0)
    discriminator = Discriminator(config).eval()
    real, fake = pictures(), pictures() * 0.5
    numbers = torch.rand(9, 5, generator=torch.Generator().manual_seed(1))
    judged = discriminator(real, fake, numbers)
    seen = augmented(torch.cat([real, fake]), numbers[:6])
    plain = Discriminator(tiny()).eval()
    plain.load_state_dict(discriminator.state_dict())
    expected = plain(seen[:3], seen[3:])
    for term in ("critic_real", "critic_fake"):
        assert judged[term].item() == pytest.approx(expected[term].item(), rel=1e-5)
    as_constant = discriminator.score_as_constant(fake, numbers)
    assert torch.allclose(as_constant, plain.score_as_constant(augmented(fake, numbers[:3])), atol=1e-6)
