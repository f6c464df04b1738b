"""Models in int8: made from pictures alone, used as any other, nearly the same masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from redoseg.data.shapes import generate
from redoseg.errors import DataError, ModelError, RedosegError
from redoseg.inference.quantize import quantize
from redoseg.inference.segmenter import Segmenter


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of pictures, one of them broken, and the packaged model in int8."""
    place = tmp_path_factory.mktemp("int8")
    (place / "pictures").mkdir()
    images, _ = generate("shapes-hard", 12, 64, seed=3)
    for number, image in enumerate(images):
        Image.fromarray(image).save(place / "pictures" / f"{number:02}.png")
    (place / "pictures" / "05.png").write_text("broken")
    assert quantize("flowers", place / "pictures", place / "new" / "int8.onnx").pictures == 11
    return place / "pictures", place / "new" / "int8.onnx"


@pytest.mark.slow
def test_the_masks_are_nearly_the_same(flowers: tuple[Path, Path]) -> None:
    exact, small = (Segmenter(model, edges="plain") for model in ("flowers", flowers[1]))
    assert (small.name, small.size, small.object_region) == (exact.name, exact.size, exact.object_region)
    images, _ = generate("shapes-hard", 16, 64, seed=4)
    apart = np.abs(exact.batch(images) - small.batch(images))
    assert 0 < apart.mean() < 0.02
    assert ((exact.batch(images) > 0.5) == (small.batch(images) > 0.5)).mean() > 0.98


def test_convolutions_compute_in_int8(flowers: tuple[Path, Path]) -> None:
    model = onnx.load(flowers[1])
    made_by = {output: node for node in model.graph.node for output in node.output}
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    quantised = [made_by[node.input[0]].op_type == "DequantizeLinear" for node in convs if node.input[0] in made_by]
    assert sum(quantised) >= len(convs) - 1  # all but the first
    assert flowers[1].stat().st_size < 0.5 * len(model_of("flowers"))


def model_of(name: str) -> bytes:
    from redoseg.inference.model_file import find_model

    return find_model(name).content


def test_the_flowers_that_ship_in_int8_are_those_in_float32() -> None:
    images, _ = generate("shapes-hard", 8, 64, seed=0)
    exact, small = (Segmenter(name, edges="plain").batch(images) for name in ("flowers", "flowers-int8"))
    assert exact.std() > 0.2
    assert 0 < np.abs(exact - small).mean() < 0.02


def test_what_is_refused(flowers: tuple[Path, Path], tmp_path: Path) -> None:
    pictures, model = flowers
    with pytest.raises(ModelError, match="is in int8 already: choose the float32 model"):
        quantize(model, pictures, tmp_path / "again.onnx")
    with pytest.raises(RedosegError, match=r"int8\.onnx exists: choose another name"):
        quantize("flowers", pictures, model)
    with pytest.raises(RedosegError, match=r"int8\.pt does not end in \.onnx: choose a name that does"):
        quantize("flowers", pictures, tmp_path / "int8.pt")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be made .* expected a folder for the results; choose another place"):
        quantize("flowers", pictures, tmp_path / "file" / "int8.onnx")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_text("x")
    with pytest.raises(DataError, match="none of the pictures in the folder can be read"):
        quantize("flowers", tmp_path / "broken", tmp_path / "none.onnx")
    assert not (tmp_path / "none.onnx").exists()
