"""Files for labelling tools and several kinds of results: where they go, whose names meet, what cannot be combined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from bright import bright_square, tree, write_model
from PIL import Image

from redoseg.cli.main import run_command
from redoseg.config.kinds import DRAWN, KINDS, LABELS, MEASURES
from redoseg.errors import RedosegError
from redoseg.inference.labelling import FORMATS
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return Segmenter(write_model(tmp_path / "run" / "mask.onnx").parent, threads=2)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.png", "sub/a.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        bright_square().save(tmp_path / "photos" / name)
    Image.new("RGB", (40, 30)).save(tmp_path / "photos" / "black.png")
    return tmp_path / "photos"


def test_every_kind_is_known_everywhere() -> None:
    assert set(FORMATS) == {*LABELS, MEASURES}
    assert set(KINDS) == {*DRAWN, *FORMATS}
    page = (ROOT / "docs" / "segmenting.md").read_text()
    assert [kind for kind in KINDS if f"| `{kind}` |" not in page] == []


def test_a_set_for_yolo(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    report = segment_paths(segmenter, photos, out, kind="yolo", label="lamp")
    assert report.failed == ()
    assert report.done == 4
    labels = ["labels/a.txt", "labels/b.txt", "labels/black.txt", "labels/sub/a.txt"]
    assert tree(out) == [".redoseg-keys", "data.yaml", *labels]
    assert (out / "labels/black.txt").read_bytes() == b""
    number, *corners = (out / "labels/sub/a.txt").read_text().split()
    points = np.array(corners, float).reshape(-1, 2) * (96, 64)
    rows, columns = np.nonzero(segmenter(photos / "sub/a.png"))
    assert number == "0"
    assert points.min(0).tolist() == pytest.approx([columns.min() + 0.5, rows.min() + 0.5], abs=1e-3)
    assert points.max(0).tolist() == pytest.approx([columns.max() + 0.5, rows.max() + 0.5], abs=1e-3)
    assert '  0: "lamp"' in (out / "data.yaml").read_text()
    bright_square().save(photos / "a.png")
    report = segment_paths(segmenter, photos, tmp_path / "other", kind="yolo")
    assert report.done == 3
    assert {path.name for path, _ in report.failed} == {"a.jpg", "a.png"}
    assert "another picture differs from it in its suffix alone, which yolo does not allow" in report.failed[0][1]


def test_labelme_finds_the_photographs(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment_paths(segmenter, photos, out, kind="labelme")
    assert tree(out) == ["a.json", "b.json", "black.json", "sub/a.json"]
    for path in out.rglob("*.json"):
        whole = json.loads(path.read_text())
        assert (path.parent / whole["imagePath"]).resolve().relative_to(photos).stem == path.stem
        assert [shape["label"] for shape in whole["shapes"]] == ([] if path.stem == "black" else ["bright"])
    assert not json.loads((out / "black.json").read_text())["shapes"]


def test_tasks_for_label_studio(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment_paths(segmenter, photos, out, kind="labelstudio", label="lamp & shade")
    assert tree(out) == ["labelstudio.json", "labelstudio.xml"]
    tasks = json.loads((out / "labelstudio.json").read_bytes())
    for task in tasks:
        assert (photos.parent / unquote(task["data"]["image"].partition("?d=")[2])).is_file()
    view = ElementTree.parse(out / "labelstudio.xml").getroot()
    assert [label.get("value") for label in view.iter("Label")] == ["lamp & shade"]
    brush = next(view.iter("BrushLabels"))
    (result,) = tasks[0]["predictions"][0]["result"]
    assert (brush.get("name"), brush.get("toName")) == (result["from_name"], result["to_name"])


def test_several_kinds_each_have_a_folder(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = segment_paths(segmenter, photos, out, kind=["mask", "coco", "yolo", "mask"], review=True)
    assert report.failed == ()
    assert report.done == 4
    assert {name.split("/")[0] for name in tree(out)} == {
        ".redoseg-keys", "coco", "mask", "yolo", "review-1.jpg", "review.csv",
    }  # fmt: skip
    assert (out / "coco/coco.json").is_file()
    assert (out / "yolo/labels/sub/a.txt").is_file()
    assert sorted(report.written) == sorted(out / name for name in tree(out) if name != ".redoseg-keys")
    segment_paths(segmenter, photos, tmp_path / "alone", kind="mask")
    for name in tree(tmp_path / "alone"):
        assert (out / "mask" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    (out / "mask/b.png").unlink()
    report = segment_paths(segmenter, photos, out, kind=["mask", "coco", "yolo"], skip_existing=True)
    assert (report.done, report.skipped, report.written) == (1, 3, (out / "mask/b.png",))
    one = segment_paths(segmenter, photos / "b.png", tmp_path / "one", kind=["mask", "labelme"])
    assert tree(tmp_path / "one") == ["labelme/b.json", "mask/b.png"]
    assert one.done == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--as yolo --crop", "crop cannot be combined with kind yolo, whose masks and boxes are of whole pictures"),
        ("--as mask --polygons", "polygons are a form of coco.json, but the kind is mask; choose coco"),
        ("--as mask --as soft -o x.png", "is the name of one file, but --as asks for mask, soft; choose a folder"),
        ("--as mask --as soft -o -", "-o - takes one result, but --as asks for mask, soft; choose one of them"),
        ("--as yolo -o x.json", "the result is a .txt file; choose a name that ends in .txt"),
        ("--as mask --label lamp", "--label is for coco, yolo, labelme, labelstudio, but the kind is mask"),
        ("--as jolo", "--as is 'jolo', but must be one of mask, soft, cutout, overlay, coco, yolo"),
    ],
)
def test_what_cannot_be_combined(
    options: str, said: str, segmenter: Segmenter, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    more = [] if " -o " in options else ["-o", "out"]
    with pytest.raises(RedosegError) as caught:
        run_command(["segment", str(tmp_path / "run"), str(photos / "b.png"), *options.split(), *more])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert tree(Path()) == []


def test_the_command_takes_several(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    words: list[Any] = ["segment", tmp_path / "run", "--as", "mask", photos / "a.jpg", photos / "b.png", "--as", "yolo"]
    assert run_command([*map(str, words), "-o", str(tmp_path / "out")]) == 0
    assert tree(tmp_path / "out/yolo") == ["data.yaml", "labels/a.txt", "labels/b.txt"]
    assert tree(tmp_path / "out/mask") == ["a.png", "b.png"]


def test_a_foreign_file_beside_is_not_replaced(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "data.yaml").write_text("mine")
    with pytest.raises(RedosegError, match=r"data\.yaml exists"):
        segment_paths(segmenter, photos, tmp_path / "out", kind="yolo")
    assert tree(tmp_path / "out") == ["data.yaml"]
