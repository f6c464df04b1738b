"""Drawings for masks that are finished: the third stage of a run, and the recipe `redraw` by itself."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from redoseg.config.recipe import check, from_values
from redoseg.config.schema import Config
from redoseg.errors import ConfigError, ModelError, RunError
from redoseg.inference.redraw import RedrawModel
from redoseg.inference.segmenter import Segmenter
from redoseg.onnx_export.generators import redrawer_bytes
from redoseg.run_folder import RunFolder
from redoseg.sharing.model_folder import export_run
from redoseg.train import run
from redoseg.train.checkpoint import load_checkpoint, part
from redoseg.train.state import TrainState

Tiny = Callable[..., Config]
# masks from a disc in one round of a small U-Net at 64 px, then drawings at 32 px
STAGES: dict[str, Any] = {
    "data.size": 32, "refine.size": 64, "refine.rounds": 1, "refine.steps": 20, "refine.batch": 4,
    "refine.start": "disc",
    "refine.student": "unet", "refine.student_width": 4, "watch.collapse_share": 0.0, "redraw.steps": 3,
}  # fmt: skip
GAME = """
batch = 4
[data]
size = 32
[nets]
latent = 5
spectral_norm = false
upsampling = "bilinear"
generator_width = 2
discriminator_width = 4
encoder_width = 4
generator_attention = false
discriminator_attention = false
[objective]
adversarial = "bce"
real_penalty = 1.0
[optim]
extractor_rate = 0.0
[watch]
log_every = 1
checkpoint_every = 1
"""


@pytest.fixture
def three(tiny: Tiny, tmp_path: Path) -> Config:
    (tmp_path / "game.toml").write_text(GAME)
    return tiny(STAGES | {"redraw.recipe": str(tmp_path / "game.toml")})


def train(config: Config, out: Path, resume: bool = False, **how: Any) -> dict[str, Any]:
    said = io.StringIO()
    outcome = run.run(config, out, resume, "cpu", Console(file=said, width=200), **how)
    return {"said": said.getvalue(), **outcome}


def noise(side: int = 32) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)
    return Image.fromarray(pixels)


def test_a_run_learns_to_draw_for_its_masks(three: Config, tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = train(three, out)
    assert "third stage: drawings for these masks, in " in found["said"]
    assert (found["redraw_steps"], found["stopped"]) == (3, False)
    files = RunFolder(out)
    assert files.read_outcome()["redraw_steps"] == 3
    drawer = RedrawModel(out)
    assert (drawer.latent, drawer.segmenter.size) == (5, 64)
    drawings = RunFolder(files.drawings)
    assert files.redraw.read_bytes() == drawings.redraw.read_bytes()
    last = drawings.log.entries()[-1]
    assert {"redrawer", "critic_real", "latent"} <= last.keys()
    assert 0 < last["texture_real"] < last["texture"]  # three steps draw nothing like a picture
    # the masks that the run ended with are those that it draws for, and they are the same afterwards
    kept, learnt = (load_checkpoint(path)[0] for path in (drawings.state, files.refined))
    assert all(torch.equal(part("redrawer.extractor", kept)[name], value) for name, value in learnt.items())

    # it is shared with these drawings
    export_run(out, tmp_path / "model")
    model = RedrawModel(tmp_path / "model")
    latents = model.random_latents(2)
    for mine, theirs in zip(drawer.draw(noise(), latents), model.draw(noise(), latents), strict=True):
        assert np.abs(np.asarray(mine, int) - np.asarray(theirs)).max() <= 1
    card = (tmp_path / "model" / "README.md").read_text()
    assert "Drawings were learnt afterwards, for these masks." in card
    assert "drawings have no more than 32 pixels a side" in card


@pytest.mark.slow
def test_it_continues_where_it_was_and_longer(three: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = train(three, tmp_path / "straight")
    asked: list[bool] = []

    def after_two(self: Any, folder: Path) -> None:
        save(self, folder)
        if self.step == 2:
            raise KeyboardInterrupt

    save = TrainState.save
    monkeypatch.setattr(TrainState, "save", after_two)
    with pytest.raises(KeyboardInterrupt):
        train(three, tmp_path / "killed")
    monkeypatch.undo()
    assert RunFolder(tmp_path / "killed").redraw.exists() is False  # the run has masks to use, and no drawings yet
    Segmenter(tmp_path / "killed")
    assert asked == []
    (tmp_path / "killed").rename(tmp_path / "moved")  # with the masks that it draws for
    continued = train(three, tmp_path / "moved", resume=True)
    assert continued["redraw_steps"] == straight["redraw_steps"]
    images = [RedrawModel(tmp_path / name).redraw(noise(), 2)[1] for name in ("straight", "moved")]
    assert np.array_equal(*map(np.asarray, images))
    longer = replace(three, redraw=replace(three.redraw, steps=5))
    assert train(longer, tmp_path / "moved", resume=True)["redraw_steps"] == 5


@pytest.mark.slow
def test_a_finished_run_learns_to_draw_later_and_again_for_other_masks(three: Config, tmp_path: Path) -> None:
    without = replace(three, redraw=replace(three.redraw, steps=0))
    out = tmp_path / "run"
    assert "redraw_steps" not in train(without, out)
    assert train(three, out, resume=True)["redraw_steps"] == 3
    first = (out / "redraw.onnx").read_bytes()
    again = replace(three, refine=replace(three.refine, steps=21))
    assert train(again, out, resume=True, refine_again=True)["redraw_steps"] == 3
    assert (out / "redraw.onnx").read_bytes() != first
    # other settings of its game are refused rather than mixed
    (tmp_path / "game.toml").write_text(GAME.replace("latent = 5", "latent = 6"))
    with pytest.raises(RunError, match=r"drawings was trained with other settings \(nets.latent"):
        train(again, out, resume=True)


@pytest.mark.slow
def test_the_recipe_by_itself(tiny: Tiny, three: Config, tmp_path: Path) -> None:
    train(replace(three, redraw=replace(three.redraw, steps=0)), tmp_path / "masks")
    alone = from_values(
        json.loads(json.dumps({
            "steps": 2, "batch": 4, "data": {"size": 32, "pictures": 32}, "optim": {"extractor_rate": 0.0},
            "nets": {"extractor": "unet", "extractor_width": 4, "extractor_from": str(tmp_path / "masks"),
                     "generator_width": 2, "discriminator_width": 4, "encoder_width": 4, "latent": 4},
        })), "here",
    )  # fmt: skip
    train(alone, tmp_path / "drawings")
    wanted, found = Segmenter(tmp_path / "masks"), Segmenter(tmp_path / "drawings")
    assert found.size == wanted.size == 64
    image = np.asarray(noise())[None]
    assert np.abs(found.batch(image, "plain") - wanted.batch(image, "plain")).max() < 1e-5
    assert len(RedrawModel(tmp_path / "drawings").redraw(noise(), 2)) == 2
    export_run(tmp_path / "drawings", tmp_path / "model")
    assert Segmenter(tmp_path / "model").size == 64
    larger = replace(alone, data=replace(alone.data, size=128))
    with pytest.raises(ModelError, match=r"data.size is 128, but the masks of nets.extractor_from have 64 pixels; set"):
        train(larger, tmp_path / "larger")
    with pytest.raises(ConfigError, match=r"optim.extractor_rate 0 keeps the masks of nets.extractor_from, which is"):
        check(replace(alone, nets=replace(alone.nets, extractor_from="")))
    with pytest.raises(ConfigError, match=r"redraw.steps needs the masks of a second stage, but refine.rounds is 0"):
        tiny({"redraw.steps": 5})


@pytest.mark.slow
def test_drawings_find_their_region_wherever_the_masks_have_the_object(tiny: Tiny, tmp_path: Path) -> None:
    """redraw.onnx of a third stage has the object first; a mask.onnx may have it second."""
    same, turned = tmp_path / "same", tmp_path / "turned"
    config = tiny({"data.size": 32})
    train(config, same)
    shutil.copytree(same, turned)
    state = TrainState.load(same / "state.safetensors", torch.device("cpu"))
    own = RedrawModel(same).segmenter.object_region
    nets, encoder = state.average.nets["generators"], state.redrawer.encoder
    latent = config.nets.latent
    with torch.no_grad():  # the same drawings with regions in the other order
        for values in (encoder.linear.weight, encoder.linear.bias):
            values.copy_(torch.cat([values[latent:], values[:latent]]))
    order = torch.nn.ModuleList(reversed(list(nets.children())))
    content = redrawer_bytes(order, encoder, config, name="turned", object_region=1 - own)
    (turned / "redraw.onnx").write_bytes(content)
    latents = RedrawModel(same).random_latents(2)
    for what in ("object", "background"):
        pairs = zip(*(RedrawModel(f).draw(noise(), latents, what) for f in (same, turned)), strict=True)  # type: ignore[arg-type]
        assert all(np.abs(np.asarray(a, int) - np.asarray(b)).max() <= 2 for a, b in pairs)
    read = [RedrawModel(f).read_latents(noise()) for f in (same, turned)]
    assert np.abs(read[0] - read[1]).max() < 1e-2
