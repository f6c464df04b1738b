"""The second stage: which masks it learns from, what it makes of wrong ones, and how it behaves in a run."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from redoseg import metrics
from redoseg.config import Config
from redoseg.data.shapes import generate
from redoseg.train import refine, run
from redoseg.train.measure import PictureBank, soft_masks
from redoseg.train.run import open_training_pictures
from redoseg.train.state import TrainState

Tiny = Callable[..., Config]


def disc(side: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return (np.hypot(x, y) < radius).astype(np.uint8)


def test_raggedness_of_a_disc_clutter_and_a_missing_region() -> None:
    plain = disc(64, 16)
    small = disc(64, 10)
    cluttered = plain.copy()
    cluttered[2:60:6, 2:12:4] = 1
    gone = np.zeros((64, 64), np.uint8)
    figures = refine.raggedness(np.stack([plain, small, cluttered, gone, 1 - plain]), 2)
    assert figures[0] == pytest.approx(4.5, abs=0.2)
    assert figures[1] == pytest.approx(figures[0], rel=0.05)  # whatever its size
    assert figures[2] > 1.4 * figures[0]
    assert figures[3] == np.inf
    assert figures[4] == figures[0]  # either way round
    assert refine.raggedness(plain[None], 3)[0] == np.inf


@pytest.mark.parametrize("signed", [True, False])
def test_augmented_masks_stay_on_their_pictures(signed: bool) -> None:
    mask = torch.from_numpy(disc(64, 20)).float()
    white, black = 1.0, -1.0 if signed else 0.0
    picture = (mask * (white - black) + black).expand(6, 3, 64, 64).contiguous()
    masks = torch.stack([1 - mask, mask]).expand(6, 2, 64, 64).contiguous()
    seen, wanted = refine.augment(picture, masks, signed, np.random.default_rng(0))
    bright = seen.mean(1) > black + 0.3 * (white - black)
    assert (bright == (wanted[:, 1] > 0.4)).float().mean() > 0.98
    assert torch.allclose(wanted.sum(1), torch.ones(6, 64, 64), atol=1e-5)
    assert len({round(s, 3) for s in wanted[:, 1].mean((1, 2)).tolist()}) == 6  # each its own zoom and shift


def test_a_fresh_extractor_mends_what_is_wrong(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"data.size": 32, "data.pictures": 64, "nets.extractor_width": 8}
    settings |= {"refine.rounds": 1, "refine.steps": 120, "refine.batch": 16, "refine.rate": 1e-2, "refine.keep": 0.5}
    config = tiny(settings)
    bank = PictureBank(open_training_pictures(config), config, torch.device("cpu"))
    labels = generate("shapes", 64, 32)[1].astype(np.int8)
    rng = np.random.default_rng(0)
    wrong = labels.copy()  # every other mask takes in a third of the background, in specks
    wrong[::2] |= (rng.random((32, 32, 32)) < 0.35).astype(np.int8)
    given = np.stack([1 - wrong, wrong], 1).astype(np.float32)
    with monkeypatch.context() as patch:
        patch.setattr(refine, "soft_masks", lambda _, __, indices: given[indices])
        state = TrainState.fresh(config, torch.device("cpu"))
        student = refine.refine(state, bank, lambda *_: None, lambda: False)
    assert student is not None
    masks = soft_masks(student, bank, np.arange(64))
    before = metrics.score(wrong[::2] > 0, labels[::2]).iou
    after = metrics.score(masks[::2, 1] > 0.5, labels[::2]).iou
    assert after > before + 0.15


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    monkeypatch.setattr(run, "export_extractor", lambda *_: None)
    monkeypatch.setattr(run, "draw_curves", lambda *_: None)
    return lambda config, out, resume=False: run.run(config, out, resume, "cpu", Console(file=io.StringIO()))


def test_a_run_with_a_second_stage(go: Callable[..., Any], tiny: Tiny, photos: Path, tmp_path: Path) -> None:
    settings = {"data.evaluate_on": str(photos), "watch.collapse_share": 0.0}
    config = tiny(settings | {"refine.rounds": 2, "refine.steps": 20, "refine.batch": 4})
    outcome = go(config, tmp_path / "a")
    assert set(outcome["scores"]) == set(outcome["scores_before_refining"])
    lines = (tmp_path / "a" / "log.jsonl").read_text().splitlines()
    assert sum('"refine_round"' in line for line in lines) == 2
    assert "Scores before refining" in (tmp_path / "a" / "report.md").read_text()

    # the first stage is what it is without a second, and again gives the same
    go(tiny(settings), tmp_path / "b")
    first, alone = (load_file(tmp_path / name / "state.safetensors") for name in "ab")
    assert all(torch.equal(first[key], alone[key]) for key in first)
    again = go(config, tmp_path / "a", resume=True)
    assert again == outcome
    assert (tmp_path / "a" / "log.jsonl").read_text().count('"refine_round"') == 2


def test_a_stop_in_the_second_stage_leaves_the_first(
    go: Callable[..., Any], tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny({"watch.collapse_share": 0.0, "refine.rounds": 1, "refine.steps": 20})
    with monkeypatch.context() as patch:
        patch.setattr(run, "refine", lambda *_: None)  # what it gives when asked to stop
        assert go(config, tmp_path / "run")["stopped"]
    assert not (tmp_path / "run" / "refined.safetensors").exists()
    assert not go(config, tmp_path / "run", resume=True)["stopped"]
    assert (tmp_path / "run" / "refined.safetensors").exists()
