"""mask.onnx gives the masks of the PyTorch extractor, at every size and number of regions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from redoseg.config.schema import Config
from redoseg.inference.segmenter import Segmenter
from redoseg.nets.mask_extractor import MaskExtractor
from redoseg.nets.unet import UNet
from redoseg.onnx_export.mask_extractor import export_extractor

Tiny = Callable[..., Config]
BYTES = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3)).astype(np.uint8)


def trained_like(extractor: MaskExtractor | UNet) -> MaskExtractor | UNet:
    """Norms and a head as no fresh network has them, so that masks are neither flat nor hard."""
    torch.manual_seed(1)
    for layer in extractor.modules():
        if isinstance(layer, nn.InstanceNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0.0, 0.3)
    nn.init.normal_(extractor.head.weight, std=3 / extractor.head.weight[0].numel() ** 0.5)
    return extractor.eval()


SIZES = [16, 32, 64, 128, 256]


@pytest.mark.every(3)
@pytest.mark.parametrize("regions", [2, 3, 5])
@pytest.mark.parametrize(("net", "size"), [*product(["paper"], SIZES), *product(["unet"], SIZES[1:])])
def test_same_masks_as_pytorch(net: str, size: int, regions: int, tiny: Tiny, tmp_path: Path) -> None:
    config = tiny({"data.size": size, "nets.regions": regions})
    torch.manual_seed(0)
    extractor = trained_like(MaskExtractor(config.nets) if net == "paper" else UNet(4, regions))
    export_extractor(extractor, config, tmp_path / "mask.onnx", name="some", object_region=1)
    segmenter = Segmenter(tmp_path / "mask.onnx", threads=1, edges="plain")
    assert (segmenter.name, segmenter.size, segmenter.regions, segmenter.object_region) == ("some", size, regions, 1)
    images = BYTES[:, :size, :size]
    with torch.inference_mode():
        expected = extractor(torch.from_numpy(images.transpose(0, 3, 1, 2) / np.float32(127.5) - 1)).numpy()
    assert expected.std() > 0.1
    assert np.abs(segmenter.batch(images) - expected).max() < 1e-4
    assert np.abs(segmenter.batch(images[:1]) - expected[:1]).max() < 1e-4


def test_the_published_width_in_the_unit_range(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny({"data.size": 32, "nets.extractor_width": 16, "data.value_range": "unit"})
    extractor = trained_like(MaskExtractor(config.nets))
    export_extractor(extractor, config, tmp_path / "mask.onnx", name="some", object_region=0)
    images = BYTES[:, :32, :32]
    with torch.inference_mode():
        expected = extractor(torch.from_numpy(images.transpose(0, 3, 1, 2) / np.float32(255))).numpy()
    assert np.abs(Segmenter(tmp_path / "mask.onnx", threads=1, edges="plain").batch(images) - expected).max() < 1e-4


def test_the_file_is_plain_onnx(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny()
    extractor = MaskExtractor(config.nets)
    before = {name: value.clone() for name, value in extractor.state_dict().items()}
    export_extractor(extractor, config, tmp_path / "mask.onnx", name="some", object_region=0)
    model = onnx.load(tmp_path / "mask.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"picture": ["batch", 3, 16, 16], "masks": ["batch", 2, 16, 16]}
    # two exports are the same bytes, and the extractor is unchanged
    export_extractor(extractor, config, tmp_path / "again.onnx", name="some", object_region=0)
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "mask.onnx").read_bytes()
    assert all(torch.equal(value, before[name]) for name, value in extractor.state_dict().items())
