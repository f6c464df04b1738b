"""`segment` names how many masks look doubtful, how to see them, and when the model may be one for other pictures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from redoseg.cli.main import run_command
from tests.bright import bright_square, write_model

MANY = "note: many masks look doubtful, so "


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("sure", "unsure", "many"),
    [
        (3, 0, False),
        (11, 1, False),
        (8, 3, False),
        (8, 4, True),
        (0, 12, True),
        (0, 3, False),
        (0, 1, False),
        (2, 2, True),
    ],
)
@pytest.mark.parametrize("options", [[], ["--as", "cutout", "--review"], ["--as", "coco"]])
def test_the_closing_lines(
    sure: int, unsure: int, many: bool, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "bright.onnx")
    (tmp_path / "in").mkdir()
    for number in range(sure):
        bright_square().save(tmp_path / "in" / f"sure{number}.png")
    for number in range(unsure):
        Image.new("RGB", (32, 32), (120 + number, 128, 128)).save(tmp_path / "in" / f"grey{number}.png")
    assert run_command(["segment", str(model), str(tmp_path / "in"), "-o", str(tmp_path / "out"), *options]) == 0
    said = capsys.readouterr().out
    counted = f"{unsure} of {sure + unsure} masks look doubtful (confidence below 0.7)"
    assert (counted in said) == (unsure > 0)
    assert (MANY in said) == many
    if unsure and sure + unsure > 1:
        assert ("review-1.jpg" if "--review" in options else "--review shows them first") in said


@pytest.mark.parametrize("picture", ["grey", "noise", "pale"])
def test_one_picture(picture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = {
        "grey": Image.new("L", (40, 30), 128),
        "noise": Image.effect_noise((64, 64), 30),
        "pale": Image.new("RGBA", (20, 50), (150, 140, 130, 255)),
    }
    images[picture].save(tmp_path / "x.png")
    model = write_model(tmp_path / "bright.onnx")
    run_command(["segment", str(model), str(tmp_path / "x.png"), "-o", str(tmp_path / "o.png")])
    assert "1 of 1 masks look doubtful (confidence below 0.7); check it" in capsys.readouterr().out


def test_what_was_there_already_is_not_called_sure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "bright.onnx")
    (tmp_path / "in").mkdir()
    Image.new("RGB", (32, 32), (128, 128, 128)).save(tmp_path / "in" / "grey.png")
    command = ["segment", str(model), str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--skip-existing"]
    run_command(command)
    capsys.readouterr()
    run_command(command)
    assert "1 were there already, whose confidence is not known now (--review shows it)" in capsys.readouterr().out
    run_command([*command, "--review"])
    assert "1 of 1 masks look doubtful" in capsys.readouterr().out


def test_a_redrawing_of_a_doubtful_mask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.effect_noise((64, 64), 30).save(tmp_path / "x.png")
    run_command(["redraw", "flowers", str(tmp_path / "x.png"), "-o", str(tmp_path / "out"), "--count", "1"])
    said = capsys.readouterr().out
    assert re.search(r"note: .*x.png.* its mask looks doubtful \(confidence 0\.\d+, below 0.7\); check it", said)
