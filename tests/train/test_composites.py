"""Objects on other grounds in training: what stays, what changes, and that nothing of the old ground is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from redoseg import metrics
from redoseg.config.schema import Config
from redoseg.train import refine
from redoseg.train.composites import on_other_grounds
from redoseg.train.loader import ImageStore
from redoseg.train.stage_data import open_training_images
from redoseg.train.state import TrainState


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


@pytest.mark.slow
def test_a_student_taught_on_other_grounds_finds_the_object_on_white(
    tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"data.size": 16, "data.pictures": 64, "nets.extractor_width": 8, "refine.rounds": 1}
    settings |= {"refine.steps": 120, "refine.batch": 16, "refine.rate": 1e-2, "refine.keep": 1.0}
    rng = np.random.default_rng(0)
    masks = np.stack([np.roll(disc(16, 4), rng.integers(-3, 4, 2), (0, 1)) for _ in range(64)])
    ripe = np.where(masks[..., None], (200, 60, 150), (40, 120, 40)) + rng.integers(-20, 21, (64, 16, 16, 3))
    on_white = torch.from_numpy(np.where(masks[..., None], ripe, 250)).permute(0, 3, 1, 2).float() / 127.5 - 1
    given = np.stack([masks, ~masks], 1).astype(np.float32)
    monkeypatch.setattr(refine, "soft_masks", lambda _, __, indices: given[indices])
    found = {}
    for share in (0.0, 0.4):
        config = tiny(settings | {"refine.composites": share})
        pictures = replace(open_training_images(config), pixels=ripe.clip(0, 255).astype(np.uint8))
        store = ImageStore(pictures, config, torch.device("cpu"))
        state = TrainState.fresh(config, torch.device("cpu"))
        student = refine.refine(state, store, [store] * 3, report=lambda *_: None, stop=lambda: False)
        assert student is not None
        objects = student(on_white)[:, 0].detach().numpy() > 0.5
        found[share] = metrics.score(objects, masks.astype(np.int8)).iou
    assert found[0.4] > 0.8
    assert found[0.4] > found[0.0] + 0.1
