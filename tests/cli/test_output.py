"""No name, full disk or closed pipe ends the work."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from redoseg.cli import main
from redoseg.cli.options import Data
from redoseg.errors import RedosegError
from redoseg.output import guarded_output, why_output_lost
from tests.bright import bright_square, write_model

NAMES = ["é.png", "猫.png", "\U0001f408.png", os.fsdecode(b"caf\xe9.png"), "a\x1b[31m.png"]


TINY = """
steps = 1
batch = 2
threads = 1
[data]
size = 16
[nets]
extractor_width = 4
generator_width = 2
discriminator_width = 4
encoder_width = 4
latent = 4
"""


class Lost(io.TextIOWrapper):
    """A stream that cannot be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(io.BytesIO(), "utf-8")
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


def said_by(monkeypatch: pytest.MonkeyPatch, stream: io.TextIOWrapper, *arguments: str | Path) -> object:
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "argv", ["redoseg", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    return stopped.value.code


@pytest.mark.every(5)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("verb", ["segment", "prepare", "data", "train"])
def test_names_that_the_terminal_cannot_print(
    verb: str, encoding: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        bright_square(32, 24).save(folder / f"{number}.png")
    for name in NAMES:
        (folder / name).write_text("no picture")
    (tmp_path / "tiny.toml").write_text(TINY)
    prepare = ["prepare", "folder", "--source", folder, "--out", tmp_path / "猫", "--size", "16"]
    command = {
        "segment": ["segment", write_model(tmp_path / "m.onnx"), folder, "-o", tmp_path / "out"],
        "prepare": prepare,
        "data": ["data", tmp_path / "猫"],
        "train": ["train", tmp_path / "tiny.toml", "--data", folder, "--out", tmp_path / "run 猫"],
    }[verb]
    if verb == "data":
        assert said_by(monkeypatch, io.TextIOWrapper(io.BytesIO(), "utf-8"), *prepare) == 1
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding, write_through=True)
    assert said_by(monkeypatch, stream, *command) == (0 if verb == "data" else 1)  # which was said when it was prepared
    lines = written.getvalue().decode(encoding).splitlines()
    if verb == "data":
        assert f"skipped when it was made: {len(NAMES)}" in lines
        assert (
            lines[-1]
            == "contact sheet: " + f"{tmp_path}/猫/contact-sheet.png".encode("ascii", "backslashreplace").decode()
        )
    else:
        assert sum(line.startswith("skipped: ") for line in lines) == len(NAMES)
    assert not any("\x1b" in line for line in lines)


@pytest.mark.every(5)
@pytest.mark.parametrize("number", [28, 5, 32])
@pytest.mark.parametrize(
    "arguments", [["--help"], ["doctor"], ["completion", "bash"], ["train", "shapes", "--dry-run", "--json"]]
)
def test_a_stream_that_cannot_be_written(
    arguments: list[str], number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = BrokenPipeError(number, os.strerror(number)) if number == 32 else OSError(number, os.strerror(number))
    assert said_by(monkeypatch, Lost(error), *arguments) == (0 if number == 32 else 1)
    said = capsys.readouterr().err
    assert said.count("\n") == (0 if number == 32 else 1)
    assert "Traceback" not in said


def test_a_stream_that_was_closed_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with guarded_output():
        print("nowhere")
        assert why_output_lost() is None
    if sys.stdout is not None:
        sys.stdout.close()


MANY_ALIKE = {
    "segment": "segment MODEL DATA/images -o OUT",
    "prepare": "prepare folder --source DATA --out OUT --size 16",
    "train": "train TINY --data DATA --out OUT",
    "train --dry-run": "train TINY --data DATA --out OUT --dry-run",
    "evaluate": "evaluate MODEL DATA --size 16",
    "compare": "compare DATA MODEL --methods square",
}


@pytest.mark.every(5)
@pytest.mark.parametrize("broken", ["pictures", "masks", "masks of other proportions"])
@pytest.mark.parametrize("verb", MANY_ALIKE)
def test_many_that_fail_alike_are_one_line(
    verb: str, broken: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Others have a line each, with their own reasons."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = tmp_path / "data"
    for name in ("images", "masks"):
        (data / name).mkdir(parents=True)
    for number in range(22):
        for name in ("images", "masks"):
            bright_square(32, 24).convert("1" if name == "masks" else "RGB").save(data / name / f"{number:02}.png")
        if number < 13:
            path = data / ("images" if broken == "pictures" else "masks") / f"{number:02}.png"
            if "proportions" in broken:
                Image.new("1", (20 + number, 60)).save(path)
            else:
                path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(number))
    (data / "images" / "empty.png").touch()
    (tmp_path / "tiny.toml").write_text(TINY)
    text = MANY_ALIKE[verb].replace("MODEL", str(write_model(tmp_path / "m.onnx"))).replace("DATA", str(data))
    text = text.replace("OUT", str(tmp_path / "out")).replace("TINY", str(tmp_path / "tiny.toml"))
    assert main.run_command(text.split()) == 1
    skipped = [line for line in capsys.readouterr().out.splitlines() if line.startswith("skipped: ")]
    empty = [line for line in skipped if "empty.png: an empty file" in line]
    if verb == "segment" and broken != "pictures":
        assert skipped == empty
    else:
        (line,) = (line for line in skipped if line not in empty)
        assert line.startswith("skipped: 13 files, first of all ")
        assert "00.png: " in line
    assert len(empty) == 1


def test_a_picture_for_a_stdout_that_is_closed_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bright_square().save(tmp_path / "x.png")
    monkeypatch.setattr(sys, "stdout", None)
    with guarded_output(), pytest.raises(RedosegError, match="standard output, which is closed"):
        main.run_command(["segment", str(write_model(tmp_path / "m.onnx")), str(tmp_path / "x.png"), "-o", "-"])
    if sys.stdout is not None:
        sys.stdout.close()


def test_too_little_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def allocate(_: object) -> int:
        raise MemoryError("Unable to\nallocate 112. GiB")

    monkeypatch.setitem(main.VERBS, "data", (Data, allocate))
    monkeypatch.setattr(sys, "argv", ["redoseg", "data"])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "not enough memory (Unable to allocate 112. GiB)" in said
