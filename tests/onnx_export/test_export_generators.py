"""redraw.onnx gives the drawings and latents of the PyTorch networks, under every setting of theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from redoseg.config.schema import Config
from redoseg.nets.blocks import SelfAttention
from redoseg.onnx_export.generators import export_redrawer
from redoseg.onnx_export.graph import stored_half
from redoseg.train.players import Redrawer

Tiny = Callable[..., Config]
Arrays = dict[str, NDArray[np.float32]]


def trained_like(redrawer: Redrawer) -> Redrawer:
    """As no fresh networks are: attention counts, norms have statistics, and the spectral norm has settled."""
    torch.manual_seed(1)
    for layer in redrawer.modules():
        if isinstance(layer, SelfAttention):
            nn.init.constant_(layer.weight, 0.7)
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.bias, 0.0, 0.5)
    return redrawer.eval()


def given(config: Config, count: int) -> Arrays:
    rng = np.random.default_rng(0)
    size, n, d = config.data.size, config.nets.regions, config.nets.latent
    logits = np.exp(rng.normal(size=(count, n, size, size)))
    low = -1.0 if config.data.value_range == "signed" else 0.0
    return {
        "picture": rng.uniform(low, 1, (count, 3, size, size)).astype(np.float32),
        "masks": (logits / logits.sum(1, keepdims=True)).astype(np.float32),
        "latents": rng.standard_normal((count, n, d)).astype(np.float32),
        "read": rng.integers(0, 2, (count, n)).astype(np.float32),
    }


def rounded(redrawer: Redrawer, config: Config) -> Redrawer:
    """The same networks with the spectral norm in their weights, which are rounded as the file rounds them."""
    plain = Redrawer(replace(config, nets=replace(config.nets, spectral_norm=False))).eval()
    plain.load_state_dict({name: value for name, value in redrawer.state_dict().items() if "param" not in name}, False)
    with torch.no_grad():
        for name, weight in plain.named_parameters():
            layer, _, kind = name.rpartition(".")
            value = getattr(redrawer.get_submodule(layer), kind)
            weight.copy_(value.half().float() if stored_half(value) else value)
    return plain


def by_torch(redrawer: Redrawer, inputs: Arrays) -> list[NDArray[np.float32]]:
    picture, masks, latents, read = (torch.from_numpy(values) for values in inputs.values())
    with torch.no_grad():
        chosen = read[..., None]
        used = chosen * redrawer.encoder(picture).view_as(latents) + (1 - chosen) * latents
        return [redrawer.draw(used, masks).numpy(), used.numpy()]


def by_onnx(path: Path, inputs: Arrays) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["drawings", "latents_used"], inputs)


@pytest.mark.every(3)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"data.size": 64, "nets.regions": 3, "nets.activation": "elu"},
        {"data.size": 32, "nets.regions": 4, "nets.activation": "leaky", "data.value_range": "unit"},
        {"data.size": 32, "nets.norm": "batch", "nets.generator_attention": False},
        {"data.size": 32, "nets.spectral_norm": False, "nets.initialisation": "everywhere", "nets.latent": 1},
        # the depth of the paper; nothing in it that the others lack
        pytest.param(
            {"data.size": 128, "nets.generator_width": 8, "nets.initialisation": "default"}, marks=pytest.mark.slow
        ),
    ],
    ids=lambda settings: " ".join(f"{key}={value}" for key, value in settings.items()) or "tiny",
)
@pytest.mark.parametrize("half", [True, False], ids=["float16", "float32"])
def test_same_drawings_as_pytorch(settings: dict[str, Any], half: bool, tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(settings)
    torch.manual_seed(0)
    redrawer = trained_like(Redrawer(config))
    export_redrawer(
        redrawer.generators, redrawer.encoder, config, tmp_path / "redraw.onnx", name="some", object_region=1, half=half
    )
    for count in (3, 1):
        inputs = given(config, count)
        expected = by_torch(rounded(redrawer, config) if half else redrawer, inputs)
        for ours, theirs in zip(by_onnx(tmp_path / "redraw.onnx", inputs), expected, strict=True):
            assert ours.shape == theirs.shape
            assert theirs.std() > 0.01
            assert np.abs(ours - theirs).max() < 1e-4 * max(1, np.abs(theirs).max())


def test_networks_in_training_stay_unchanged(tiny: Tiny, tmp_path: Path) -> None:
    """Reading a weight with spectral norm while training moves its vectors on: not by exporting."""
    config = tiny({"nets.norm": "batch"})
    torch.manual_seed(0)
    redrawer = trained_like(Redrawer(config)).train()
    before = {name: value.clone() for name, value in redrawer.state_dict().items()}
    for _ in range(2):
        export_redrawer(
            redrawer.generators, redrawer.encoder, config, tmp_path / "redraw.onnx", name="some", object_region=0
        )
    assert redrawer.encoder.training
    assert all(torch.equal(value, before[name]) for name, value in redrawer.state_dict().items())
    inputs = given(config, 2)
    expected = by_torch(rounded(redrawer.eval(), config), inputs)
    for ours, theirs in zip(by_onnx(tmp_path / "redraw.onnx", inputs), expected, strict=True):
        assert np.abs(ours - theirs).max() < 1e-4 * max(1, np.abs(theirs).max())


def test_the_file_is_plain_onnx_in_float16(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny({"nets.regions": 3, "nets.generator_width": 16})
    redrawer = Redrawer(config)
    paths = [tmp_path / f"{name}.onnx" for name in ("half", "whole", "again")]
    for path, half in zip(paths, (True, False, True), strict=True):
        export_redrawer(redrawer.generators, redrawer.encoder, config, path, name="some", object_region=2, half=half)
    model = onnx.load(paths[0])
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "picture": ["batch", 3, 16, 16],
        "masks": ["batch", 3, 16, 16],
        "latents": ["batch", 3, 4],
        "read": ["batch", 3],
        "drawings": ["batch", 3, 3, 16, 16],
        "latents_used": ["batch", 3, 4],
    }
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "redoseg_format": "1", "size": "16", "regions": "3", "object_region": "2", "picture_range": "-1 1",
        "name": "some", "latent": "4",
    }  # fmt: skip
    assert paths[0].stat().st_size < 0.6 * paths[1].stat().st_size
    assert paths[0].read_bytes() == paths[2].read_bytes()


def test_a_weight_beyond_float16_stays_float32(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny({"nets.spectral_norm": False})
    redrawer = trained_like(Redrawer(config))
    with torch.no_grad():
        next(iter(redrawer.generators.children())).linear.weight[0, 0] = 1e6
    export_redrawer(
        redrawer.generators, redrawer.encoder, config, tmp_path / "redraw.onnx", name="some", object_region=0
    )
    assert all(np.isfinite(values).all() for values in by_onnx(tmp_path / "redraw.onnx", given(config, 2)))
