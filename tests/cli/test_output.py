"""No name, full disk or closed pipe ends the work."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from redoseg.cli import main
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
