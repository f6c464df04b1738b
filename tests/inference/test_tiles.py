"""Large pictures tile by tile: the same mask wherever the tiles meet, and flat memory for large TIFF files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bright import write_model
from PIL import Image

from redoseg.cli.main import run_command
from redoseg.errors import DataError
from redoseg.inference.segmenter import Segmenter
from redoseg.inference.tiles import starts


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "run" / "mask.onnx").parent


def spots(height: int, width: int, radius: int = 6, apart: int = 40) -> np.ndarray:
    """White discs on black."""
    y, x = np.mgrid[:height, :width]
    inside = np.hypot(y % apart - apart / 2, x % apart - apart / 2) < radius
    return np.repeat(np.where(inside, 250, 5).astype(np.uint8)[..., None], 3, -1)


def test_tiles_cover_a_side_evenly() -> None:
    assert starts(100, 128) == starts(128, 128) == [0]
    for length in (129, 500, 1000):
        found = starts(length, 128)
        assert (found[0], found[-1]) == (0, length - 128)
        assert np.diff(found).max() <= 96 + 1


@pytest.mark.parametrize("edges", ["plain", "guided"])
def test_what_is_too_small_for_the_whole_is_found_in_tiles(model: Path, edges: str) -> None:
    picture = spots(600, 440)
    truth = picture[..., 0] > 128

    def iou(segmenter: Segmenter) -> float:
        mask = segmenter(picture)
        return float((mask & truth).sum() / (mask | truth).sum())

    whole = Segmenter(model, 1, edges)  # type: ignore[arg-type]
    tiled = Segmenter(model, 1, edges, tiles=whole.size * 2)  # type: ignore[arg-type]
    assert iou(tiled) > max(0.75, iou(whole))
    assert tiled.identity != whole.identity  # --skip-existing makes other results again


def test_the_option_of_the_command_line(model: Path, tmp_path: Path) -> None:
    Image.fromarray(spots(300, 240)).save(tmp_path / "a.png")
    words = ["segment", str(model), str(tmp_path / "a.png"), "--edges", "plain", "--no-clean", "-o"]
    assert run_command([*words, str(tmp_path / "tiled.png"), "--tiles", "64"]) == 0
    with Image.open(tmp_path / "tiled.png") as mask:
        found = np.asarray(mask) > 0
    assert np.array_equal(found, Segmenter(model, 1, "plain", tiles=64)(tmp_path / "a.png", cleaning=None))
    assert not np.array_equal(found, Segmenter(model, 1, "plain")(tmp_path / "a.png", cleaning=None))


def test_no_seams_and_no_gaps(model: Path) -> None:
    """A gradient comes out as one: neighbours differ by little also where tiles meet, and all is covered."""
    ramp = np.linspace(0, 255, 300).astype(np.uint8)
    picture = np.repeat(np.repeat(ramp[None], 200, 0)[..., None], 3, -1)
    whole, tiled = (Segmenter(model, 1, "plain", tiles=tiles).soft(picture) for tiles in (0, 64))
    assert np.isfinite(tiled).all()
    assert np.abs(np.diff(tiled, axis=1)).max() < 3 * np.abs(np.diff(whole, axis=1)).max() + 0.02
    assert np.abs(np.diff(tiled, axis=0)).max() < 0.02


def test_parts_and_the_whole_agree_in_a_picture_that_is_not_kept(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter, picture = Segmenter(model, 1, "guided", tiles=64), Image.fromarray(spots(230, 210))
    at_once = segmenter.soft(picture)
    for module in ("redoseg.images.photo.LARGE", "redoseg.images.guided.LARGE"):
        monkeypatch.setattr(module, 100)
    monkeypatch.setattr("redoseg.images.photo.PART", 1000)
    monkeypatch.setattr("redoseg.inference.tiles._IN_MEMORY", 100)
    assert np.abs(segmenter.soft(picture) - at_once).max() < 0.02


def test_a_small_picture_is_seen_whole(model: Path) -> None:
    picture = spots(60, 50)
    assert np.array_equal(Segmenter(model, 1, tiles=64).soft(picture), Segmenter(model, 1).soft(picture))
    with pytest.raises(DataError, match="the side of tiles is 8, but must be 16 pixels or more"):
        Segmenter(model, tiles=8)
