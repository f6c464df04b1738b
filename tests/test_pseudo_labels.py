"""The worked example of pseudo-labels: it runs to the end, continues where it stopped, and learns without labels."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from redoseg.errors import DataError, RunError
from redoseg.train.checkpoint import load_checkpoint

SCRIPT = Path(__file__).parent.parent / "examples" / "pseudo_labels.py"


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("pseudo_labels", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pseudo_labels"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def settings(example: Any, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A training of 20 steps on the 12 built-in pictures of `photos`, scored on them; already run in `out`."""
    out = tmp_path_factory.mktemp("pseudo") / "straight"
    small = {"size": 32, "width": 4, "steps": 20, "batch": 4, "every": 10, "precision": "float32"}
    chosen = example.Settings(unlabelled=str(photos), labelled=str(photos), out=out, **small)
    example.main(chosen)
    return chosen


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "unet.safetensors")[0]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_results_have_both_figures_of_the_same_pictures(settings: Any) -> None:
    result = json.loads((settings.out / "results.json").read_text())
    assert result["pictures"] == 12
    for side in ("before", "after"):
        low, high = result[side]["interval"]
        assert 0 <= low <= result[side]["iou"] <= high <= 1
    assert result["gain"]["iou"] == pytest.approx(result["after"]["iou"] - result["before"]["iou"])
    low, high = result["gain"]["interval"]
    assert low <= result["gain"]["iou"] <= high
    changes = list(result["shown"].values())
    assert changes == sorted(changes, reverse=True)
    assert len(changes) == 9
    with Image.open(settings.out / "examples.png") as sheet:
        assert sheet.width > 9 * 32
        assert sheet.height > 4 * 32


@pytest.mark.slow
def test_a_resumed_training_ends_as_a_straight_one(
    example: Any, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = replace(settings, out=tmp_path / "stopped")
    save = example.save_checkpoint

    def save_and_stop(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(example, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            example.main(stopped)
    assert load_checkpoint(stopped.out / "unet.safetensors")[1]["step"] == 10
    assert not same(weights(stopped.out), weights(settings.out))
    with pytest.raises(RunError, match="--resume"):  # nothing is written over unasked
        example.main(stopped)
    with pytest.raises(RunError, match="other settings"):
        example.main(replace(stopped, resume=True, seed=1))
    example.main(replace(stopped, resume=True))
    assert same(weights(stopped.out), weights(settings.out))
    straight, resumed = (json.loads((s.out / "results.json").read_text()) for s in (settings, stopped))
    assert straight["after"] == resumed["after"]


@pytest.mark.slow
def test_labels_never_enter_the_training(example: Any, settings: Any, photos: Path, tmp_path: Path) -> None:
    garbled = tmp_path / "garbled"
    shutil.copytree(photos, garbled)
    rng = np.random.default_rng(0)
    for mask in (garbled / "masks").iterdir():
        Image.fromarray(rng.integers(0, 2, (32, 32), np.uint8) * 255).save(mask)
    example.main(replace(settings, unlabelled=str(garbled), labelled=str(garbled), out=tmp_path / "one"))
    assert same(weights(tmp_path / "one"), weights(settings.out))
    results = [json.loads((out / "results.json").read_text()) for out in (tmp_path / "one", settings.out)]
    assert results[0]["after"]["iou"] != results[1]["after"]["iou"]  # while the scores do see them

    bare = tmp_path / "bare"
    shutil.copytree(photos / "images", bare)
    with pytest.raises(DataError, match="no masks"):
        example.main(replace(settings, unlabelled=str(bare), labelled=str(bare), out=tmp_path / "two"))
    assert same(weights(tmp_path / "two"), weights(settings.out))


def test_the_surest_masks_are_kept_and_the_empty_and_full_ones_left_out(example: Any) -> None:
    masks = np.zeros((6, 16, 16), np.uint8)
    masks[1] = 255
    for number, level in zip(range(2, 6), (255, 160, 230, 190), strict=True):
        masks[number, 4:12, 4:12] = level
    masks[3:, 12:] = 90  # unsure ground
    assert example.chosen(masks, 1.0).tolist() == [2, 3, 4, 5]
    assert example.chosen(masks, 0.5).tolist() == [2, 4, 5]
    with pytest.raises(DataError, match="empty or full"):
        example.chosen(masks[:2], 1.0)


def test_masks_move_with_their_pictures(example: Any) -> None:
    masks = torch.zeros(8, 1, 32, 32)
    masks[:, :, 8:20, 10:25] = 1
    pictures = masks.expand(-1, 3, -1, -1) * 0.5 + 0.1
    seen, wanted = example.augment(pictures, masks, np.random.default_rng(0))
    inside, outside = wanted > 0.99, wanted < 0.01
    assert (wanted != masks).any()
    for picture, i, o in zip(seen, inside, outside, strict=True):
        assert picture[:, i[0]].min(1).values.gt(picture[:, o[0]].max(1).values).all()


@pytest.mark.slow
def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--unlabelled", str(tmp_path / "no"), "--labelled", "x", "--out"]
    done = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "does not exist" in done.stderr
