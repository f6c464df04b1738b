"""The table of measures: what is in it, and that it is continued and joined like other files of all pictures."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bright import write_model
from PIL import Image

from redoseg.errors import MissingError, RedosegError
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter


@pytest.fixture(params=["scikit-image", "stand-in"])
def skimage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """scikit-image where it is installed; and in its place what gives the sides of a box as axes."""
    if request.param == "scikit-image":
        pytest.importorskip("skimage")
        return "scikit-image"
    module = ModuleType("skimage.measure")

    def regionprops(labels: np.ndarray) -> list[Any]:
        sides = sorted(labels.shape)
        return [SimpleNamespace(axis_major_length=sides[1], axis_minor_length=sides[0], perimeter=2.0 * sum(sides))]

    module.regionprops = regionprops  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "skimage", ModuleType("skimage"))
    monkeypatch.setitem(sys.modules, "skimage.measure", module)
    return "stand-in"


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return Segmenter(write_model(tmp_path / "run" / "mask.onnx").parent, threads=1, edges="plain")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two boxes of known size in one photograph, nothing in the other."""
    (tmp_path / "photos").mkdir()
    image = Image.new("RGB", (160, 160), (0, 0, 0))
    image.paste((255, 245, 240), (20, 20, 60, 100))
    image.paste((240, 255, 250), (110, 20, 150, 50))
    image.save(tmp_path / "photos" / "a, b.png")
    Image.new("RGB", (40, 30)).save(tmp_path / "photos" / "black.png")
    return tmp_path / "photos"


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_measures(skimage: str, segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment_paths(segmenter, photos, out, kind="measures", parts=True, mm_per_pixel=0.5)
    large, small, none = table(out / "measures.csv")
    assert [large["picture"], small["picture"], none["picture"]] == ["a, b.png", "a, b.png", "black.png"]
    assert [large["object"], small["object"], none["object"]] == ["1", "2", "0"]
    assert none["area_px"] == "0"
    assert [large["parts"], small["parts"], none["parts"]] == ["2", "2", "0"]
    segment_paths(segmenter, photos, tmp_path / "whole", kind="measures")
    assert [(row["object"], row["parts"]) for row in table(tmp_path / "whole" / "measures.csv")] == [
        ("1", "2"),  # one row for both, and still counted
        ("0", "0"),
    ]
    width, height = float(large["width"]), float(large["height"])
    assert float(large["area_px"]) == pytest.approx(width * height, rel=0.1)
    assert float(large["share"]) == pytest.approx(float(large["area_px"]) / 160**2, rel=1e-3)
    factor = 2 / np.sqrt(3) if skimage == "scikit-image" else 1  # the ellipse with the moments of a rectangle
    assert float(large["longest_axis_px"]) == pytest.approx(factor * height, rel=0.05)
    assert float(large["shortest_axis_px"]) == pytest.approx(factor * width, rel=0.05)
    assert float(large["perimeter_px"]) == pytest.approx(2 * (width + height), rel=0.1)
    assert float(large["area_mm2"]) == pytest.approx(float(large["area_px"]) / 4)
    assert float(large["longest_axis_mm"]) == pytest.approx(float(large["longest_axis_px"]) / 2, abs=0.01)
    assert float(large["red"]) > float(large["blue"])
    assert float(small["green"]) > float(small["red"])
    assert 0 < float(large["confidence"]) <= 1


def test_a_table_is_continued(skimage: str, segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment_paths(segmenter, photos, out, kind="measures")
    before = (out / "measures.csv").read_bytes()
    assert table(out / "measures.csv")[0]["area_mm2"] == ""
    Image.new("RGB", (30, 40), (255, 255, 255)).save(photos / "c.png")
    report = segment_paths(segmenter, photos, out, kind="measures", skip_existing=True)
    assert (report.done, report.skipped) == (1, 2)
    assert (out / "measures.csv").read_bytes().startswith(before)
    report = segment_paths(segmenter, photos, out, kind="measures", skip_existing=True, mm_per_pixel=2)
    assert len(report.differing) == 3
    (out / "measures.csv").write_text("mine")
    with pytest.raises(RedosegError, match=r"measures\.csv exists"):
        segment_paths(segmenter, photos, out, kind="measures", skip_existing=True)


@pytest.mark.every(2)
def test_the_review_has_histograms(
    skimage: str, segmenter: Segmenter, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    segment_paths(segmenter, photos, out, kind=("measures", "overlay"), review=True, parts=True)
    page = out / "review-measures.png"
    before = page.read_bytes()
    with Image.open(page) as image:
        assert min(image.size) > 500
    Image.new("RGB", (60, 60), (255, 255, 255)).save(photos / "c.png")
    segment_paths(segmenter, photos, out, kind=("measures", "overlay"), review=True, parts=True, skip_existing=True)
    assert page.read_bytes() != before  # with the new object
    segment_paths(segmenter, photos, tmp_path / "plain", kind="overlay", review=True)
    assert not (tmp_path / "plain" / page.name).exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / page.name).write_bytes(b"mine")
    with pytest.raises(RedosegError, match=rf"{page.name} exists"):
        segment_paths(segmenter, photos, tmp_path / "mine", kind="measures", review=True)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingError, match="matplotlib"):
        segment_paths(segmenter, photos, tmp_path / "none", kind="measures", review=True)


def test_what_is_missing_or_cannot_be_combined(
    segmenter: Segmenter, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(MissingError, match=r'run: pip install "redoseg\[measure\]"'):
        segment_paths(segmenter, photos, tmp_path / "out", kind="measures")
    with pytest.raises(RedosegError, match="--mm-per-pixel is for measures, but the kind is mask; add --as measures"):
        segment_paths(segmenter, photos, tmp_path / "out", mm_per_pixel=1)
    with pytest.raises(RedosegError, match="--mm-per-pixel is 0, but must be more than 0"):
        segment_paths(segmenter, photos, tmp_path / "out", kind="measures", mm_per_pixel=0)
    assert not (tmp_path / "out").exists()
