"""Objects on other grounds in training: what stays, what changes, and that nothing of the old ground is left."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from redoseg.train.composites import on_other_grounds


def disc(side: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.hypot(x, y) < radius


def batch(count: int, side: int = 32) -> tuple[torch.Tensor, np.ndarray]:
    """Red discs on green."""
    mask = disc(side, side / 4)
    image = np.where(mask[..., None], (240, 20, 20), (20, 210, 20)).astype(np.uint8)
    return torch.from_numpy(np.repeat(image[None], count, 0)), np.repeat(mask[None], count, 0)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_about_that_share_of_a_batch_has_another_ground(share: float) -> None:
    images, masks = batch(200)
    before = images.clone()
    made = on_other_grounds(images, masks, share, np.random.default_rng(0))
    assert torch.equal(images, before)
    changed = (made != images).flatten(1).any(1).float().mean().item()
    assert changed == pytest.approx(share, abs=0.1)


def test_the_object_stays_and_the_old_ground_goes() -> None:
    images, masks = batch(101)
    images[100], masks[100] = 128, False  # a grey image without an object, the ground of some others
    made = on_other_grounds(images, masks, 1.0, np.random.default_rng(0))[:100]
    inside, outside = torch.from_numpy(disc(32, 6)), torch.from_numpy(~disc(32, 10))
    assert torch.equal(made[:, inside], images[:100, inside])
    grounds = made[:, outside].float()
    plain = (grounds - torch.tensor([20.0, 210.0, 20.0])).abs().amax((1, 2)) > 30
    assert 0.35 < plain.float().mean() < 0.65  # the others have the green of another image, without its red
    assert (grounds[~plain][..., 0] < 100).all()
    means = grounds[plain].mean(1)
    grey = means.max(1).values - means.min(1).values < 12
    assert 0.3 < grey.float().mean() < 0.75  # every second plain ground
    assert len({tuple(m.round().tolist()) for m in means}) > 30  # plain grounds differ


def test_the_same_draws_give_the_same_grounds() -> None:
    images, masks = batch(10)
    first, again = (on_other_grounds(images, masks, 0.5, np.random.default_rng(3)) for _ in "ab")
    assert torch.equal(first, again)
