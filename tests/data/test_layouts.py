"""Where masks may be: every usual place is read, or a note says that it is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redoseg.cli.main import run_command
from redoseg.data import open_data, originals, prepare
from tests.bright import write_model

PICTURES = 8
# pattern of pictures, pattern of masks -> splits; {n} is a number, {s} a split
LAYOUTS = {
    "images and masks": ("images/{n}.png", "masks/{n}.png", ("",)),
    "capitals": ("Images/{n}.png", "Masks/{n}.png", ("",)),
    "images and labels": ("images/{n}.jpg", "labels/{n}.png", ("",)),
    "image and mask": ("image/{n}.jpg", "mask/{n}.png", ("",)),
    "imgs and gt": ("imgs/{n}.jpg", "gt/{n}.png", ("",)),
    "img and annotations": ("img/{n}.jpg", "annotations/{n}.png", ("",)),
    "Pascal VOC": ("JPEGImages/{n}.jpg", "SegmentationClass/{n}.png", ("",)),
    "Pascal VOC, objects": ("VOC2012/JPEGImages/{n}.jpg", "VOC2012/SegmentationObject/{n}.png", ("",)),
    "splits outside": ("{s}/images/{n}.jpg", "{s}/masks/{n}.png", ("train", "val")),
    "splits outside, labels": ("{s}/image/{n}.jpg", "{s}/label/{n}.png", ("train", "test")),
    "splits inside": ("images/{s}/{n}.jpg", "masks/{s}/{n}.png", ("train", "val", "test")),
    "splits inside, labels": ("images/{s}/{n}.jpg", "labels/{s}/{n}.png", ("training", "validation")),
    "train and train_masks": ("{s}/{n}.jpg", "{s}_masks/{n}_mask.png", ("train",)),
    "one folder around": ("data/images/{n}.jpg", "data/masks/{n}.png", ("",)),
    "names end in _mask": ("images/{n}.jpg", "masks/{n}_mask.png", ("",)),
    "ISIC": ("ISIC_Training_Input/{n}.jpg", "ISIC_Training_GroundTruth/{n}_segmentation.png", ("training",)),
    "DUTS": ("DUTS-{s}-Image/{n}.jpg", "DUTS-{s}-Mask/{n}.png", ("TR", "TE")),
    "Oxford pets": ("images/{n}.jpg", "annotations/trimaps/{n}.png", ("",)),
    "photos and photo_masks": ("photos/{n}.jpg", "photo_masks/{n}.png", ("",)),
    "leaves and leaves-gt": ("leaves/{n}.jpg", "leaves-gt/{n}.png", ("",)),
    "beside": ("{n}.jpg", "{n}_mask.png", ("",)),
    "beside, below": ("a/{n}.jpg", "a/{n}-seg.png", ("",)),
    "beside, in splits": ("{s}/{n}.jpg", "{s}/{n}_gt.png", ("train", "dev")),
}
MEANT = {"training": "train", "validation": "val", "TR": "train", "TE": "test"}


def make(folder: Path, layout: str, skip: tuple[int, ...] = ()) -> Path:
    images, masks, splits = LAYOUTS[layout]
    for number in range(PICTURES):
        split = splits[number % len(splits)]
        mask = np.zeros((24, 32), np.uint8)
        mask[6:18, 3 + number : 19 + number] = 255
        for pattern, pixels in ((images, np.stack([mask] * 3, -1)), (masks, mask)):
            path = folder / pattern.format(n=number, s=split)
            path.parent.mkdir(parents=True, exist_ok=True)
            if pattern == images or number not in skip:
                Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "bright.onnx")


@pytest.mark.every(3)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_are_found(layout: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "set", layout)
    found = open_data(folder, 16)
    assert len(found) == found.labelled.sum() == len(originals(folder).items) == PICTURES
    assert found.notes == ()
    assert {MEANT.get(s, s) for s in LAYOUTS[layout][2]} == set(found.splits)
    assert len(set(found.names)) == PICTURES
    truth = np.asarray(found.pixels[..., 0] > 127)
    assert (truth == (found.labels() == 1)).mean() > 0.98


@pytest.mark.every(7)
@pytest.mark.parametrize("layout", ["images and labels", "splits outside", "train and train_masks", "beside"])
@pytest.mark.parametrize("verb", ["evaluate", "own size", "compare", "prepare"])
@pytest.mark.usefixtures("no_cuts")
def test_every_verb_finds_them_and_says_what_is_missing(
    layout: str, verb: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path / "set", layout, skip=(3,))
    command = {
        "evaluate": ["evaluate", str(model), str(folder), "--methods", "square"],
        "own size": ["evaluate", str(model), str(folder), "--own-size"],
        "compare": ["compare", str(folder), str(model), "--methods", "square", "--edges", "plain"],
        "prepare": ["prepare", "folder", "--source", str(folder), "--out", str(tmp_path / "out"), "--size", "16"],
    }[verb]
    assert run_command(command) == 0
    said = capsys.readouterr().out
    if verb == "prepare":
        assert json.loads((tmp_path / "out" / "dataset.json").read_text())["labelled"] == PICTURES - 1
    else:
        assert f"{PICTURES - 1} pictures" in " ".join(said.split())
    if verb != "own size":
        assert "have no mask" in said


def test_voc_lists_are_the_splits(tmp_path: Path) -> None:
    folder = make(tmp_path / "set", "Pascal VOC")
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1\n2\n")
    (lists / "val.txt").write_text("3\n4\n")
    (lists / "trainval.txt").write_text("0\n1\n2\n3\n4\n")
    splits = prepare("folder", folder, tmp_path / "out", 16).notes[0]
    assert "3 train, 2 val" in splits


@pytest.mark.parametrize(
    ("files", "note"),
    [
        (["images/{n}.jpg", "labels/{n}.txt"], "labels/ has no pictures; masks are read from pictures alone"),
        (
            ["images/{n}.jpg", "annotations/{n}.json"],
            "annotations/ has no pictures; masks are read from pictures alone",
        ),
        (
            ["train2017/{n}.jpg", "stuff/{n}.png"],
            "stuff/ and train2017/ have pictures of the same names; if one has the masks, call them images/ and masks/",
        ),
        (["{n}.jpg", "{n}.png"], "each name has two pictures, one a .png; masks are only found in a folder masks/"),
    ],
)
def test_what_is_not_read_is_recognised(files: list[str], note: str, tmp_path: Path) -> None:
    for number in range(PICTURES):
        for pattern in files:
            path = tmp_path / "set" / pattern.format(n=number)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in (".jpg", ".png"):
                Image.new("RGB", (20, 20), (number, 9, 9)).save(path)
            else:
                path.write_text("{}")
    assert note in prepare("folder", tmp_path / "set", tmp_path / "out", 16).notes


def test_folders_of_pictures_alone_stay_pictures(tmp_path: Path) -> None:
    for number in range(PICTURES):
        for name in ("cats", "dogs", "left", "labels and logos"):
            path = tmp_path / "set" / name / f"{name}{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), (number, 9, 9)).save(path)
    found = open_data(tmp_path / "set", 16)
    assert len(found) == 4 * PICTURES
    assert found.notes == ()
