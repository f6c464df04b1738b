"""One meaning of the threshold: mask, cut-out, overlay's mask, COCO, review, page and library have the same pixels."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from bright import write_model
from PIL import Image

from redoseg.cli.main import run_command
from redoseg.errors import DataError
from redoseg.images.clean import clean
from redoseg.images.photo import Photo, SoftMask
from redoseg.inference.object_mask import CLEANING, cleaned, object_share
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter
from redoseg.web.cuts import Cuts


def gradient(mode: str, folder: Path) -> Path:
    """From dark to bright, as one of several kinds of files."""
    ramp = np.tile(np.linspace(0, 255, 160).astype(np.uint8), (90, 1))
    image = Image.fromarray(np.stack([ramp] * 3, 2))
    if mode == "RGBA":
        image.putalpha(Image.fromarray(np.where(np.arange(90)[:, None] < 45, 255, 0).astype(np.uint8).repeat(160, 1)))
    path = folder / ("x.jpg" if mode == "JPEG" else "x.png")
    (image.convert("L") if mode == "L" else image).save(path)
    return path


@pytest.mark.every(5)
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.37, 0.5, 0.8, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("mode", ["RGB", "JPEG", "L", "RGBA"])
@pytest.mark.parametrize("edges", ["guided", "plain"])
def test_all_have_the_same_pixels(edges: str, mode: str, threshold: float, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    photo = gradient(mode, tmp_path / "in")
    segmenter = Segmenter(write_model(tmp_path / "run" / "mask.onnx").parent, edges=edges)  # type: ignore[arg-type]
    expected = segmenter(photo, threshold=threshold)
    assert np.array_equal(expected, segmenter.soft(photo) > threshold)
    for kind in ("mask", "cutout", "coco"):
        segment_paths(segmenter, tmp_path / "in", tmp_path / kind, kind=kind, threshold=threshold, review=True)  # type: ignore[arg-type]
    with Image.open(tmp_path / "mask" / "x.png") as mask, Image.open(tmp_path / "cutout" / "x.png") as cut:
        assert np.array_equal(np.asarray(mask) == 255, expected)
        alpha = np.asarray(cut)[..., 3]
    assert np.array_equal(alpha > 0, expected)
    assert np.array_equal(alpha > 127, expected)
    (image,) = [
        entry["area"] for entry in json.loads((tmp_path / "coco" / "coco.json").read_text())["annotations"]
    ] or [0]
    assert image == expected.sum()
    with open(tmp_path / "mask" / "review.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["object_share"]) == pytest.approx(expected.mean(), abs=1e-4)
    cuts = Cuts(segmenter, 10**9)
    for path, kind in zip(cuts.files(photo, threshold, tmp_path), ("mask", "cutout"), strict=False):
        assert path.read_bytes() == (tmp_path / kind / "x.png").read_bytes()
    assert f"covers {100 * expected.mean():.1f} %" in cuts.previews(photo, threshold)[1]


def test_a_sure_object_is_opaque_at_any_threshold(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (255, 255, 255)).save(tmp_path / "x.png")
    model = write_model(tmp_path / "run" / "mask.onnx").parent
    for threshold in (0.1, 0.9, 0.99):
        out = tmp_path / f"{threshold}.png"
        code = run_command(
            [
                "segment",
                str(model),
                str(tmp_path / "x.png"),
                "-o",
                str(out),
                "--as",
                "cutout",
                f"--threshold={threshold}",
            ]
        )
        assert code == 0
        assert np.asarray(Image.open(io.BytesIO(out.read_bytes())))[..., 3].min() == 255


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), float("inf"), True, "0.5", None])
def test_what_is_no_threshold(threshold: object, tmp_path: Path) -> None:
    photo = gradient("RGB", tmp_path)
    segmenter = Segmenter(write_model(tmp_path / "run" / "mask.onnx").parent)
    with pytest.raises(DataError, match="must be a number from 0 to 1"):
        segmenter(photo, threshold=threshold)  # type: ignore[call-overload]
    with pytest.raises(DataError, match="must be a number from 0 to 1"):
        segment_paths(segmenter, photo, tmp_path / "out", threshold=threshold)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [1, 7, 8, 9, 37])
def test_a_cleaned_mask_is_the_same_part_by_part(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is kept in bits: parts begin and end anywhere in a byte."""
    soft = np.random.default_rng(0).random((40, width), np.float32)
    soft[10:30, : width // 2] = 1
    photo, mask = Photo(Image.new("RGB", (width, 40))), SoftMask.of(soft)
    wanted = clean(soft > 0.5, CLEANING)
    monkeypatch.setattr("redoseg.images.photo.LARGE", 1)
    found = cleaned(photo, mask, 0.5)
    for left in range(width):
        for right in range(left + 1, width + 1):
            part = found.part((left, 3, right, 31)) > 0.5
            assert np.array_equal(part, wanted[3:31, left:right])
    assert object_share(photo, found, 0.5) == pytest.approx(wanted.mean())
