"""What a labelled set has that cannot be used reaches scoring: it is listed, and the exit code is 1."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redoseg.cli.main import run_command
from redoseg.errors import DataError
from tests.bright import write_model

PICTURES = 9
pytestmark = pytest.mark.usefixtures("no_cuts")


def in_colour(folder: Path) -> None:
    Image.new("RGB", (32, 32), (200, 40, 40)).save(folder / "masks" / "1.png")


def of_classes(folder: Path) -> None:
    Image.fromarray(np.indices((32, 32)).sum(0).astype(np.uint8) // 16).save(folder / "masks" / "1.png")


def of_another_picture(folder: Path) -> None:
    Image.new("L", (64, 32), 255).save(folder / "masks" / "1.png")


def truncated_mask(folder: Path) -> None:
    path = folder / "masks" / "1.png"
    path.write_bytes(path.read_bytes()[:60])


def empty_mask_file(folder: Path) -> None:
    (folder / "masks" / "1.png").write_bytes(b"")


def text_as_picture(folder: Path) -> None:
    (folder / "images" / "1.png").write_text("not a picture")


def broken_picture(folder: Path) -> None:
    path = folder / "images" / "1.png"
    path.write_bytes(path.read_bytes()[:50])


def two_masks(folder: Path) -> None:
    shutil.copy(folder / "masks" / "1.png", folder / "masks" / "1.bmp")


def two_pictures(folder: Path) -> None:
    Image.new("RGB", (32, 32)).save(folder / "images" / "1.bmp")


def another_format(folder: Path) -> None:
    (folder / "images" / "x.exr").write_bytes(b"x")


PROBLEMS: list[Callable[[Path], None]] = [
    in_colour,
    of_classes,
    of_another_picture,
    truncated_mask,
    empty_mask_file,
    text_as_picture,
    broken_picture,
    two_masks,
    two_pictures,
    another_format,
]
VERBS = {
    "evaluate": ["evaluate", "MODEL", "DATA", "--methods", "square"],
    "own size": ["evaluate", "MODEL", "DATA", "--own-size"],
    "grounds": ["evaluate", "MODEL", "DATA", "--grounds"],
    "compare": ["compare", "DATA", "MODEL", "--methods", "square", "--edges", "plain"],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "bright.onnx")


def labelled(folder: Path) -> Path:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(PICTURES):
        mask = np.zeros((32, 32), np.uint8)
        mask[8:20, number : number + 12] = 255
        Image.fromarray(mask).convert("RGB").save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    return folder


def command(verb: str, model: Path, data: Path) -> list[str]:
    return [{"MODEL": str(model), "DATA": str(data)}.get(word, word) for word in VERBS[verb]]


SOME = [in_colour, text_as_picture, two_masks]


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("problem", "verb"), [(p, v) for v in VERBS for p in (PROBLEMS if v in ("evaluate", "own size") else SOME)]
)
def test_it_is_listed(
    problem: Callable[[Path], None],
    verb: str,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = labelled(tmp_path / "set")
    problem(data)
    assert run_command(command(verb, model, data)) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("skipped: ")]
    assert len(lines) == (2 if problem is two_pictures else 1)
    assert ("x.exr" if problem is another_format else "1.") in lines[0]


@pytest.mark.every(4)
@pytest.mark.parametrize("verb", VERBS)
def test_with_json_it_is_in_the_object(
    verb: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = labelled(tmp_path / "set")
    assert run_command([*command(verb, model, data), "--json"]) == 0
    assert "skipped" not in json.loads(capsys.readouterr().out)
    in_colour(data)
    text_as_picture(data)
    (data / "masks" / "2.png").write_bytes(b"")
    assert run_command([*command(verb, model, data), "--json"]) == 1
    skipped = json.loads(capsys.readouterr().out)["skipped"]
    assert len(skipped) == 2


@pytest.mark.every(5)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("problem", [in_colour, of_another_picture, empty_mask_file])
def test_where_all_are_refused_the_reason_is_given(
    problem: Callable[[Path], None], verb: str, model: Path, tmp_path: Path
) -> None:
    data = labelled(tmp_path / "set")
    problem(data)
    for number in range(PICTURES):
        if number != 1:
            shutil.copy(data / "masks" / "1.png", data / "masks" / f"{number}.png")
    with pytest.raises(DataError) as error:
        run_command(command(verb, model, data))
    assert "masks/" in str(error.value)
    assert "add a folder masks/" not in str(error.value)
    assert {"in_colour": "in colour", "of_another_picture": "mask of 64x32", "empty_mask_file": "empty file"}[
        problem.__name__
    ] in str(error.value)


@pytest.mark.parametrize("verb", ["evaluate", "grounds", "compare"])
def test_a_prepared_set_says_what_it_lacks(
    verb: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = labelled(tmp_path / "set")
    in_colour(data)
    assert run_command(["prepare", "folder", "--source", str(data), "--out", str(tmp_path / "out")]) == 1
    capsys.readouterr()
    assert run_command(command(verb, model, tmp_path / "out")) == 0
    assert f"note: files skipped when {tmp_path / 'out'} was prepared: 1" in capsys.readouterr().out.replace("\n", "")
