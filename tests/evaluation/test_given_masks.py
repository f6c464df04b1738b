"""Masks that somebody else made, in the table of `compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from redoseg import metrics
from redoseg.cli import main
from redoseg.data import labelled_images, prepare
from redoseg.errors import DataError
from redoseg.evaluation import baselines
from redoseg.evaluation.compare import compare
from redoseg.evaluation.tables import markdown_table


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def given(photos: Path, tmp_path: Path) -> Path:
    """The true masks, of the first two pictures black: larger, as a remover writes them."""
    (tmp_path / "given").mkdir()
    for path in sorted((photos / "masks").iterdir()):
        with Image.open(path) as mask:
            large = mask.resize((64, 64), Image.Resampling.NEAREST)
        if path.stem in ("00", "01"):
            large = Image.new("L", (64, 64))
        large.save(tmp_path / "given" / path.name)
    return tmp_path / "given"


def row_of(result: Any, name: str) -> dict[str, Any]:
    return next(row for row in result["rows"] if row["method"] == name)


def test_masks_of_any_origin_are_rows_with_paired_intervals(photos: Path, given: Path, trained: Any) -> None:
    result = compare(str(photos), models=[str(trained.folder)], methods=("square",), masks={"mine": given}, size=32)
    row = row_of(result, "mine")
    assert (row["kind"], row["seconds"], row["megabytes"], row["computed"]) == ("given", None, None, 0)
    assert row["iou"] == pytest.approx(10 / 12)
    assert (row["iou_median"], row["missed"]) == (1, pytest.approx(2 / 12))
    assert result["failed"] == []
    assert {(other["method"], other["kind"]) for other in result["rows"]} >= {("square", "method"), ("mine", "given")}
    square = row_of(result, "square")
    assert square["against"] == result["rows"][0]["method"] == "mine"
    assert square["difference"] == pytest.approx(square["iou"] - row["iou"])
    assert square["difference_interval"][0] <= square["difference"] <= square["difference_interval"][1]
    images = labelled_images(str(photos), 32)
    ious = metrics.score(np.stack([baselines.square(image) for image in images.pixels]), images.labels()).ious
    assert square["iou_median"] == pytest.approx(float(np.median(ious)))
    assert square["missed"] == pytest.approx(float((ious < 0.2).mean()))
    line = next(line for line in markdown_table(result).splitlines() if line.startswith("| mine "))
    assert "| given | " in line and "|  |  |" in line  # noqa: PT018
    assert "What they learnt from, their time and their size are not known" in markdown_table(result)


def test_cut_outs_in_colour_are_read_by_their_opacity(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").mkdir()
    for path in sorted((photos / "masks").iterdir()):
        with Image.open(photos / "images" / path.name) as image, Image.open(path) as mask:
            cut = image.convert("RGB")
            cut.putalpha(mask.convert("L"))
        cut.save(tmp_path / "cut" / path.name)
    result = compare(str(photos), methods=(), masks={"cut": tmp_path / "cut"}, size=32)
    assert row_of(result, "cut")["iou"] == 1


def test_masks_are_cut_to_the_square_of_their_photograph(tmp_path: Path) -> None:
    for folder in ("set/images", "set/masks", "given"):
        (tmp_path / folder).mkdir(parents=True)
    for number in range(8):
        mask = np.zeros((60, 90), np.uint8)
        mask[20:40, 30 + 2 * number : 60] = 255
        Image.fromarray(np.full((60, 90, 3), 9 * number, np.uint8)).save(tmp_path / f"set/images/{number}.png")
        Image.fromarray(mask).save(tmp_path / f"set/masks/{number}.png")
        Image.fromarray(mask[::2, ::2]).save(tmp_path / f"given/{number}.png")
    Image.new("L", (45, 30)).save(tmp_path / "given/further.png")
    prepared = tmp_path / "prepared"
    prepare("folder", tmp_path / "set", prepared, 30)
    for data in (tmp_path / "set", prepared):
        result = compare(str(data), methods=(), masks={"mine": tmp_path / "given"}, size=30)
        assert row_of(result, "mine")["iou"] == 1
        assert "masks mine: files that belong to no picture of the table: 1" in result["notes"]


def test_masks_that_do_not_fit_are_one_line(
    photos: Path, given: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (given / "03.png").unlink()
    (given / "04.png").unlink()
    Image.new("L", (64, 48)).save(given / "05.png")
    arguments = ["compare", str(photos), "--methods", "square", "--size", "32", "--masks"]
    for masks, text in (
        (
            [f"mine={given}"],
            "has no mask for 2 of 12 pictures (03 is the first) and 1 masks of other proportions than their pictures "
            "(05.png of 64x48 is the first).",
        ),
        ([f"mine={given / 'gone'}"], "--masks mine: "),
        ([str(given)], "needs a name and a folder, as in rembg=masks/rembg."),
        ([f"square={given}"], "--masks has the name square, but a model or method has it."),
        ([f"a={given}", "--masks", f"a={given}"], "--masks has the name a twice."),
    ):
        monkeypatch.setattr("sys.argv", ["redoseg", *arguments, *masks])
        with pytest.raises(SystemExit) as stopped:
            main.main()
        said = capsys.readouterr()
        assert (stopped.value.code, said.out, said.err.count("\n")) == (2, "", 1)
        assert text in said.err


def test_classes_need_mask_values(photos: Path, tmp_path: Path) -> None:
    for folder, values in (("labels", (3, 1)), ("given", (3, 5))):
        (tmp_path / folder).mkdir()
        for path in sorted((photos / "masks").iterdir()):
            with Image.open(path) as mask:
                ground = np.zeros((32, 32), np.uint8)
                ground[:4] = values[1]
                inside = np.where(np.asarray(mask) > 0, np.uint8(values[0]), ground)
            Image.fromarray(inside).save(tmp_path / folder / path.name)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "images").symlink_to(photos / "images")
    (tmp_path / "set" / "masks").symlink_to(tmp_path / "labels")
    result = compare(str(tmp_path / "set"), methods=(), masks={"classes": tmp_path / "given"}, size=32, mask_values="3")
    assert row_of(result, "classes")["iou"] == 1
    with pytest.raises(DataError, match=r"--masks classes: no mask is used: they have the values 0, 3 and 5"):
        compare(str(photos), methods=(), masks={"classes": tmp_path / "given"}, size=32)


def test_a_mask_that_cannot_be_read_is_listed_and_counts_as_empty(
    photos: Path, given: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (given / "07.png").write_bytes((given / "07.png").read_bytes()[:60])
    code = main.run_command(
        ["compare", str(photos), "--methods", "square", "--size", "32", "--json", "--masks", f"mine={given}"]
    )
    result = json.loads(capsys.readouterr().out)
    assert code == 1
    assert [(one["method"], one["picture"]) for one in result["failed"]] == [("mine", "07")]
    assert row_of(result, "mine")["iou"] == pytest.approx(9 / 12)
