"""Many objects on one ground, from the pictures to the counts: what docs/same-ground.md promises."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from redoseg.config.recipe import load_recipe
from redoseg.inference.segmenter import Segmenter
from redoseg.train.run import run

sys.path.append(str(Path(__file__).parents[2] / "tools"))
from measure_counts import counted
from write_trays import write_trays


@pytest.mark.slow  # some six minutes on a core
def test_trays_are_segmented_and_counted(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    write_trays(tmp_path / "trays", 240, 128, seed=11, held_out=False)
    write_trays(tmp_path / "held-out", 60, 128, seed=11, held_out=True)
    recipe = load_recipe("same-ground")
    config = replace(
        recipe,
        threads=1,
        data=replace(recipe.data, source=str(tmp_path / "trays" / "images"), split=""),
        refine=replace(recipe.refine, early_size=0, rounds=1, batch=6, steps=500),
    )
    run(config, tmp_path / "run", False, "cpu", Console(file=io.StringIO()))
    found = counted(Segmenter(tmp_path / "run", 1, "plain"), tmp_path / "held-out")
    assert found.iou >= 0.90
    assert found.off <= 0.05
    assert found.total == pytest.approx(1, abs=0.05)


def test_parts_are_counted_in_the_table(tmp_path: Path) -> None:
    """With a model that takes what is bright: on a black table all objects, on trays whatever it takes."""
    pytest.importorskip("skimage")
    import numpy as np
    from bright import write_model
    from PIL import Image

    write_trays(tmp_path / "trays", 4, 96, seed=3, held_out=True)
    for path in (tmp_path / "trays" / "masks").iterdir():
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.repeat(mask[..., None], 3, -1)).save(tmp_path / "trays" / "images" / path.name)
    model = write_model(tmp_path / "run" / "mask.onnx").parent
    found = counted(Segmenter(model, 1, "plain", tiles=32), tmp_path / "trays")
    assert found.pictures == 4
    assert found.iou > 0.8
    assert found.off < 0.05
