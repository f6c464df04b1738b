"""A model in int8 gives nearly the masks of the one that it was made from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from test_export import trained_like

from redoseg.config import Config
from redoseg.data.shapes import generate
from redoseg.errors import DataError, ModelError, RedosegError
from redoseg.export import export_extractor
from redoseg.nets.mask_extractor import MaskExtractor
from redoseg.quantize import quantize
from redoseg.segmenter import Segmenter

Tiny = Callable[..., Config]


@pytest.fixture
def model(tiny: Tiny, tmp_path: Path) -> Path:
    config = tiny({"data.size": 32, "nets.extractor_width": 8})
    torch.manual_seed(0)
    export_extractor(trained_like(MaskExtractor(config.nets)), config, tmp_path / "mask.onnx", "some", 1)
    return tmp_path / "mask.onnx"


def test_nearly_the_same_masks_from_convolutions_in_int8(
    model: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert quantize(model, photos / "images", tmp_path / "int8.onnx") == 12
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "int8.onnx").stat().st_size < 0.5 * model.stat().st_size
    exact, coarse = Segmenter(model, threads=1), Segmenter(tmp_path / "int8.onnx", threads=1)
    for name in ("name", "size", "regions", "object_region"):
        assert getattr(coarse, name) == getattr(exact, name)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 4, 4, 3)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    expected, got = exact.batch(images), coarse.batch(images)
    assert expected.std() > 0.1
    assert 0 < np.abs(got - expected).mean() < 0.05
    stored = {tensor.name: tensor.data_type for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    assert list(stored.values()).count(onnx.TensorProto.INT8) > 10


def test_a_broken_picture_is_passed_over(model: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "images", tmp_path / "pictures")
    (tmp_path / "pictures" / "00.png").write_text("x")
    (tmp_path / "pictures" / "11.png").write_text("x")
    assert quantize(model, tmp_path / "pictures", tmp_path / "int8.onnx") == 10


def test_what_is_refused(model: Path, photos: Path, tmp_path: Path) -> None:
    def refused(source: Path, pictures: Path, out: str, kind: type[RedosegError]) -> str:
        with pytest.raises(kind) as caught:
            quantize(source, pictures, tmp_path / out)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "a file ending in .onnx expected: name one" in refused(model, photos, "folder", RedosegError)
    assert "does not exist" in refused(tmp_path / "none", photos, "a.onnx", ModelError)
    (tmp_path / "broken").mkdir()
    assert "no picture found" in refused(model, tmp_path / "broken", "a.onnx", DataError)
    (tmp_path / "broken" / "a.png").write_text("x")
    assert "no picture in the folder can be read" in refused(model, tmp_path / "broken", "a.onnx", DataError)
    assert not (tmp_path / "a.onnx").exists()
    quantize(model, photos / "images", tmp_path / "a.onnx")
    assert "exists: name another place" in refused(model, photos, "a.onnx", RedosegError)
    assert "is in int8 already, a float32 model expected" in refused(tmp_path / "a.onnx", photos, "b.onnx", ModelError)


def test_the_flowers_that_ship_in_int8_are_those_in_float32() -> None:
    images, _ = generate("shapes-hard", 8, 64, seed=0)
    expected, got = (Segmenter(name, threads=1).batch(images) for name in ("flowers", "flowers-int8"))
    assert expected.std() > 0.2
    assert 0 < np.abs(got - expected).mean() < 0.02
