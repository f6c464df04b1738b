"""A model scored on the objects of a set on other grounds."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bright import SIZE, write_model
from PIL import Image
from rich.console import Console

from redoseg.data import ImageSet
from redoseg.errors import DataError
from redoseg.evaluation.grounds import evaluate_grounds, pasted, print_grounds
from redoseg.images.grounds import OTHERS, PLAIN


def bright_objects(count: int = 4) -> ImageSet:
    """Bright squares on a dark red ground; beside each a strip that is not labelled."""
    pixels = np.full((count, SIZE, SIZE, 3), (60, 0, 0), np.uint8)
    masks = np.zeros((count, SIZE, SIZE), np.uint8)
    for i in range(count):
        pixels[i, 4 : 10 + i % 2, 4:12] = 240
        masks[i, 4 : 10 + i % 2, 4:12] = 255
        masks[i, :, 14:] = 127
    names = tuple(f"{i}" for i in range(count))
    return ImageSet(
        name="bright",
        size=SIZE,
        regions=2,
        pixels=pixels,
        masks=masks,
        names=names,
        splits=("",) * count,
        labelled=np.ones(count, bool),
    )


def test_each_pixel_is_the_object_or_the_ground() -> None:
    images = bright_objects()
    for name, colour in PLAIN.items():
        shown = pasted(images, name).astype(int)
        assert np.abs(shown[:, 6:8, 6:10] - 240).max() == 0
        assert np.abs(shown[:, :2].mean((0, 1, 2)) - colour).max() < 4
        assert np.abs(shown[:, :, 14:].mean((0, 1, 2)) - colour).max() < 4  # not labelled: left behind
    assert np.array_equal(pasted(images, "wood"), pasted(images, "wood"))  # the same pixels for every model


def test_the_ground_of_another_image_has_no_object_of_its_own() -> None:
    images = bright_objects(2)
    images.masks[1] = np.roll(images.masks[1], 5, axis=0)  # type: ignore[index]
    images.pixels[1] = np.roll(images.pixels[1], 5, axis=0)
    shown = pasted(images, OTHERS)
    assert (shown[0, 12:, 4:12] < 70).all()  # where the other object was
    assert (shown[0, 6:8, 6:10] == 240).all()


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[ImageSet], str]:
    def save(images: ImageSet) -> str:
        for folder in ("images", "masks"):
            (tmp_path / "set" / folder).mkdir(parents=True)
        assert images.masks is not None
        for name, pixels, mask in zip(images.names, images.pixels, images.masks, strict=True):
            Image.fromarray(pixels).save(tmp_path / "set" / "images" / f"{name}.png")
            Image.fromarray(mask).save(tmp_path / "set" / "masks" / f"{name}.png")
        return str(tmp_path / "set")

    return save


def test_a_model_that_finds_what_is_bright_fails_on_bright_grounds(
    saved: Callable[[ImageSet], str], tmp_path: Path
) -> None:
    model = str(write_model(tmp_path / "bright.onnx"))
    result = evaluate_grounds(model, saved(bright_objects()), size=SIZE)
    found = result["grounds"]
    assert list(found) == [*PLAIN, OTHERS]
    assert (result["pictures"], result["size"]) == (4, SIZE)
    assert result["iou"] > 0.95
    assert found["black"]["iou"] > 0.8
    assert found[OTHERS]["iou"] > 0.8
    assert found["white"]["iou"] < 0.25
    assert (found["black"]["failures"], found["white"]["failures"]) == (0, 1)
    assert result["worst_iou"] == min(row["iou"] for row in found.values())
    assert found[result["worst_ground"]]["iou"] == result["worst_iou"]
    said = io.StringIO()
    print_grounds(result, Console(file=said))
    assert f"the background with the lowest score: {result['worst_ground']}" in said.getvalue()


def test_sets_without_objects_are_refused(saved: Callable[[ImageSet], str], tmp_path: Path) -> None:
    images = bright_objects()
    images.masks[:] = 0  # type: ignore[index]
    with pytest.raises(DataError, match="no mask with an object"):
        evaluate_grounds(str(write_model(tmp_path / "bright.onnx")), saved(images), size=SIZE)
