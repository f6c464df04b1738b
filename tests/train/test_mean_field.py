"""Masks cut again by network, colours and edges together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from redoseg import metrics
from redoseg.config.schema import Config
from redoseg.images.grabcut import grabcut_from
from redoseg.train import refine
from redoseg.train.loader import ImageStore
from redoseg.train.mean_field import lab, mean_field
from redoseg.train.stage_data import open_training_images
from redoseg.train.state import TrainState

Tiny = Callable[..., Config]
SIDE = 48


def blobs(count: int) -> np.ndarray:
    """Ellipses somewhere near the middle (count, SIDE, SIDE)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    centre, radii = rng.uniform(18, 30, (2, count, 1, 1)), rng.uniform(8, 15, (2, count, 1, 1))
    found: np.ndarray = np.hypot((y - centre[0]) / radii[0], (x - centre[1]) / radii[1]) < 1
    return found


def noisy(colours: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(
        (colours + np.random.default_rng(1).normal(0, 6, colours.shape)).clip(0, 255).astype(np.uint8)
    )


def unsure(masks: np.ndarray) -> np.ndarray:
    """A network's probabilities, right in the large and blurred by eight pixels at the edge."""
    blurred = masks.astype(np.float32)
    for axis in (1, 2):
        blurred = np.mean([np.roll(blurred, shift, axis) for shift in range(-4, 5)], 0)
    return np.asarray(np.roll(0.1 + 0.8 * blurred, 3, 1), np.float32)


def test_edges_are_moved_to_those_of_the_picture() -> None:
    masks = blobs(6)
    images = noisy(np.where(masks[..., None], (200, 60, 60), (90, 120, 80)))
    said = unsure(masks)
    found = mean_field(images, torch.from_numpy(said)).numpy()
    before, after = (metrics.score(m > 0.5, masks.astype(np.int8)).iou for m in (said, found))
    assert before < 0.8
    assert after > 0.97
    turned = mean_field(images, torch.from_numpy(1 - said)).numpy()  # neither region is favoured
    assert np.abs(turned - (1 - found)).max() < 1e-3


def test_what_the_network_knows_is_kept_where_colours_do_not_tell() -> None:
    """An object of one colour, half of it like the ground: GrabCut loses that half."""
    masks = blobs(6)
    colours = np.where(masks[..., None], (200, 60, 60), (90, 120, 80))
    colours[:, :, SIDE // 2 :] = (90, 120, 80)
    images, said = noisy(colours), unsure(masks)
    labels = masks.astype(np.int8)
    field = metrics.score(mean_field(images, torch.from_numpy(said)).numpy() > 0.5, labels).iou
    cut = metrics.score(
        np.stack([grabcut_from(i.numpy(), m > 0.5, 5, 256) for i, m in zip(images, said, strict=True)]), labels
    ).iou
    assert field > cut + 0.1, (field, cut)


def test_lightness_and_colour() -> None:
    """Known values of CIELAB under D65, in hundredths."""
    images = torch.tensor([[[[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]]]], dtype=torch.uint8)
    expected = [[1.0, 0, 0], [0, 0, 0], [0.5324, 0.8009, 0.6720], [0.3230, 0.7919, -1.0786]]
    assert lab(images)[0, :, 0].T.numpy() == pytest.approx(np.array(expected), abs=2e-3)


@pytest.mark.parametrize("later", ["same", "mean-field"])
def test_the_first_round_is_cut_by_one_and_later_ones_by_another(
    later: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"refine.rounds": 3, "refine.steps": 20, "refine.batch": 4, "refine.sharpen": "grabcut"}
    config = tiny(settings | {"refine.sharpen_later": later})
    store = ImageStore(open_training_images(config), config, torch.device("cpu"))
    calls: list[str] = []

    def first_half(name: str) -> Callable[..., Any]:
        def cut(_images: Any, masks: Any, *_: Any) -> Any:
            calls.append(name)
            half = masks.clone() if isinstance(masks, torch.Tensor) else masks.copy()
            half[...] = 0
            half[..., : half.shape[-1] // 2] = 1
            return half

        return cut

    monkeypatch.setattr(refine, "grabcut_from", first_half("grabcut"))
    monkeypatch.setattr(refine, "mean_field", first_half("mean-field"))
    rounds: list[int] = []
    state = TrainState.fresh(config, torch.device("cpu"))
    refine.refine(state, store, [store] * 3, report=lambda *_: rounds.append(len(calls)), stop=lambda: False)
    per_round = [calls[i:j] for i, j in zip([0, *rounds], rounds, strict=False)]
    expected = ["grabcut"] * 3 if later == "same" else ["grabcut", "mean-field", "mean-field"]
    assert [set(names) for names in per_round] == [{name} for name in expected]
