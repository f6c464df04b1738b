"""A run that starts with what another run has learnt, and objects that are moved onto redrawn grounds."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from redoseg.config.schema import Config
from redoseg.errors import ConfigError, ModelError
from redoseg.inference.segmenter import Segmenter
from redoseg.run_folder import RunFolder
from redoseg.sharing.model_folder import export_run
from redoseg.train import losses, run
from redoseg.train.refined import take_over
from redoseg.train.state import TrainState

Tiny = Callable[..., Config]
# both regions there within a few steps
FIRST: dict[str, Any] = {"steps": 4, "objective.border_weight": 5.0, "optim.extractor_rate": 1e-2}


def train(config: Config, out: Path, resume: bool = False) -> None:
    run.run(config, out, resume, "cpu", Console(file=io.StringIO()))


def masks(folder: Path) -> np.ndarray:
    segmenter = Segmenter(folder, threads=1, edges="plain")
    images = np.random.default_rng(0).integers(0, 256, (4, segmenter.size, segmenter.size, 3)).astype(np.uint8)
    return np.asarray(segmenter.batch(images)[:, segmenter.object_region])


@pytest.mark.parametrize(
    ("second_stage", "region"),
    [("none", 0), pytest.param("paper", 1, marks=pytest.mark.slow), pytest.param("unet", 0, marks=pytest.mark.slow)],
)
def test_a_run_starts_with_the_masks_of_another(
    second_stage: str, region: int, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "export_redrawer", lambda *_, **__: None)
    first = FIRST | ({"data.size": 32} if second_stage == "unet" else {})  # the least for a U-Net
    settings = first
    if second_stage != "none":
        settings = settings | {"refine.rounds": 1, "refine.steps": 20, "refine.batch": 4, "watch.collapse_share": 0.0}
        settings = settings | {"refine.student": second_stage, "refine.student_width": 4, "refine.start": "disc"}
    monkeypatch.setattr("redoseg.metrics.object_region", lambda _: region)
    train(tiny(settings), tmp_path / "first")
    wanted = masks(tmp_path / "first")
    assert wanted.std() > 0.003

    # while the extractor waits, its masks are those of the other run, the object in region 0
    monkeypatch.setattr("redoseg.metrics.object_region", lambda _: 0)
    net = {"nets.extractor": "unet", "nets.extractor_width": 4} if second_stage == "unet" else {}
    taken = first | net | {"nets.extractor_from": str(tmp_path / "first"), "optim.extractor_wait": 4}
    train(tiny(taken), tmp_path / "waiting")
    assert np.abs(masks(tmp_path / "waiting") - wanted).max() < 1e-5
    export_run(tmp_path / "first", tmp_path / "model")
    train(tiny(taken | {"nets.extractor_from": str(tmp_path / "model")}), tmp_path / "from-model")
    assert np.abs(masks(tmp_path / "from-model") - wanted).max() < 1e-5

    # then it learns; and such a run continues without the other one
    train(tiny(taken | {"steps": 6}), tmp_path / "learning")
    assert np.abs(masks(tmp_path / "learning") - wanted).max() > 1e-3
    shutil.rmtree(tmp_path / "first")
    train(tiny(taken | {"steps": 8}), tmp_path / "learning", resume=True)
    assert RunFolder(tmp_path / "learning").read_outcome()["step"] == 8


def test_masks_of_a_model_in_the_package_are_taken_over(tiny: Tiny) -> None:
    taken = {"data.size": 64, "nets.extractor": "unet", "nets.extractor_width": 12, "nets.extractor_from": "flowers"}
    extractor = TrainState.fresh(tiny(taken), torch.device("cpu")).redrawer.extractor.eval()
    pictures = [Image.effect_noise((128, 128), spread).convert("RGB") for spread in (20, 60)]
    model = Segmenter("flowers")
    with torch.no_grad():
        found = extractor(torch.from_numpy(model.network_input(pictures))).numpy()
    assert np.abs(found - model.masks(pictures)).max() < 1e-4
    for net in ({"nets.extractor_width": 8}, {"nets.extractor": "paper"}):
        with pytest.raises(ModelError, match="is flowers, an ONNX file of another network than the settings'; choose"):
            TrainState.fresh(tiny(taken | net), torch.device("cpu"))


def test_what_cannot_be_taken_over(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny(FIRST), tmp_path / "first")
    fresh = TrainState.fresh(tiny(FIRST), torch.device("cpu")).redrawer.extractor
    (tmp_path / "empty").mkdir()
    for folder in ("gone", "empty"):
        with pytest.raises(ModelError, match=f"nets.extractor_from is .*{folder}, which is not a run folder; choose"):
            take_over(fresh, str(tmp_path / folder))
    wider = tiny(FIRST | {"nets.extractor_width": 6, "nets.extractor_from": str(tmp_path / "first")})
    with pytest.raises(ModelError, match="do not fit the networks that its settings describe"):
        train(wider, tmp_path / "wider")
    (tmp_path / "first" / "outcome.json").unlink()
    with pytest.raises(ModelError, match="first, which has no masks yet; choose a run that has finished"):
        take_over(fresh, str(tmp_path / "first"))
    for key, value in (("nets.extractor_from", "somewhere"), ("objective.move", 0.1)):
        with pytest.raises(ConfigError, match=f"{key} needs two regions, but nets.regions is 3"):
            tiny({key: value, "nets.regions": 3})


def test_an_object_is_moved_and_its_old_place_shows_ground() -> None:
    images = torch.zeros(1, 3, 16, 16)
    objects = torch.zeros(1, 1, 16, 16)
    images[..., 4:8, 6:10], objects[..., 4:8, 6:10] = 1.0, 1.0
    grounds = torch.full((1, 3, 16, 16), -0.5)
    found = losses.moved(images, objects, grounds, torch.tensor([[3 / 16, -2 / 16]]))  # three pixels right, two up
    expected = grounds.clone()
    expected[..., 2:6, 9:13] = 1.0
    assert torch.allclose(found, expected, atol=1e-5)
    outside = losses.moved(images, objects, grounds, torch.tensor([[1.0, 0.0]]))
    assert torch.allclose(outside, grounds)


def test_ground_that_a_mask_takes_along_is_seen() -> None:
    """A mask that is too large shows once its object has moved, where the ground is not plain; a right one does not."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    ground = x[None, None].expand(1, 3, 32, 32)
    inside, larger = ((torch.hypot(x, y) < radius).float()[None, None] for radius in (0.4, 0.7))
    images = torch.where(inside > 0, torch.ones(()), ground)
    shift = torch.tensor([[0.15, 0.0]])
    truth = losses.moved(torch.ones_like(images), inside, ground, shift)
    right, wrong = ((losses.moved(images, mask, ground, shift) - truth).abs().mean() for mask in (inside, larger))
    assert right < 0.01 < 0.02 < wrong
