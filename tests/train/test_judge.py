"""Targets that are chosen by how well the run's own generators redraw a picture under them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from redoseg.config.schema import Config
from redoseg.errors import ConfigError
from redoseg.train import refine
from redoseg.train.loader import ImageStore
from redoseg.train.stage_data import open_training_images
from redoseg.train.state import TrainState

Tiny = Callable[..., Config]
COLOURS = (-0.8, 0.8)  # of the regions, all three channels alike except for noise


class OneColour(nn.Module):
    """A generator that has learnt one colour."""

    def __init__(self, colour: float) -> None:
        super().__init__()
        self.colour = colour

    def forward(self, _: Tensor, mask: Tensor) -> Tensor:
        return torch.full_like(mask, self.colour).expand(-1, 3, -1, -1)


def learnt(config: Config, truth: np.ndarray) -> tuple[TrainState, ImageStore]:
    """A state whose generators draw what the pictures show, and the pictures."""
    rng = np.random.default_rng(0)
    values = np.where(truth[..., None] == 0, COLOURS[0], COLOURS[1]) + rng.normal(0, 0.05, (*truth.shape, 3))
    images = open_training_images(config)
    pixels = ((values + 1) * 127.5).clip(0, 255).astype(np.uint8)
    store = ImageStore(images, config, torch.device("cpu"))
    store.pixels, store.resident = pixels, torch.from_numpy(pixels)
    state = TrainState.fresh(config, torch.device("cpu"))
    state.step = 1
    state.average.nets["generators"] = nn.ModuleList(OneColour(colour) for colour in COLOURS)
    return state, store


def squares(count: int, side: int, shift: int = 0) -> np.ndarray:
    found = np.ones((count, side, side), np.uint8)
    for k in range(count):
        start = 3 + k % 4 + shift
        found[k, start : start + 6, 3 : 3 + 6] = 0
    return found


def test_the_mask_under_which_a_picture_is_redrawn_best_is_chosen(tiny: Tiny) -> None:
    config = tiny({})
    side = config.data.size
    truth, wrong = squares(8, side), squares(8, side, shift=3)
    state, store = learnt(config, truth)
    before = {name: value.clone() for name, value in state.redrawer.state_dict().items()}
    first = np.where(np.arange(8)[:, None, None] % 2 == 0, truth, wrong)
    second = np.where(np.arange(8)[:, None, None] % 2 == 0, wrong, truth)
    found, errors = refine.best_redrawn(state, store, np.arange(8), (first, second))
    assert np.array_equal(found, truth)
    _, worse = refine.best_redrawn(state, store, np.arange(8), (wrong, wrong))
    assert (errors < 0.9 * worse).all()  # whitening makes the most of the noise
    assert all(torch.equal(value, before[name]) for name, value in state.redrawer.state_dict().items())


def test_a_mask_without_a_region_is_never_chosen(tiny: Tiny) -> None:
    config = tiny({})
    truth = squares(4, config.data.size)
    state, store = learnt(config, truth)
    found, errors = refine.best_redrawn(state, store, np.arange(4), (np.ones_like(truth), truth))
    assert np.array_equal(found, truth)
    assert np.isfinite(errors).all()
    assert (refine.best_redrawn(state, store, np.arange(4), (np.ones_like(truth),))[1] == np.inf).all()


@pytest.mark.parametrize("judge", ["agreement", "redraw"])
def test_the_judge_decides_what_teaches(judge: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts that are wrong all alike: agreement knows no better; redrawing keeps the masks from before."""
    settings = {"refine.rounds": 1, "refine.steps": 20, "refine.batch": 4, "refine.keep": 1.0}
    config = tiny(settings | {"refine.sharpen": "mean-field", "refine.judge": judge, "data.pictures": 8})
    truth, wrong = squares(8, config.data.size), squares(8, config.data.size, shift=3)
    state, store = learnt(config, truth)
    soft = np.stack([truth == 0, truth == 1], 1).astype(np.float32)
    monkeypatch.setattr(refine, "soft_masks", lambda _, __, indices: soft[indices])
    monkeypatch.setattr(refine, "mean_field", lambda *_: torch.from_numpy(wrong.astype(np.float32)))
    taught: list[Any] = []

    def look(images: Tensor, masks: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        taught.append(masks[:, 0].numpy())
        return images, masks

    monkeypatch.setattr(refine, "augment", look)
    refine.refine(state, store, [store] * 3, report=lambda *_: None, stop=lambda: False)
    expected = {tuple(mask.ravel()) for mask in ((wrong if judge == "agreement" else truth) == 0).astype(np.float32)}
    assert {tuple(mask.ravel()) for batch in taught for mask in batch} <= expected


def test_without_a_first_stage_nobody_can_judge(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match=r"--refine\.judge redraw cannot be combined with --refine\.start disc"):
        tiny({"refine.rounds": 1, "refine.judge": "redraw", "refine.start": "disc"})
