"""One picture through a pipe, and sources that are neither pictures nor folders."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bright import bright_square, tree, write_model
from PIL import Image

from redoseg.cli.main import run_command
from redoseg.errors import RedosegError
from redoseg.own_results import is_result


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a model and a photograph beside it."""
    write_model(tmp_path / "run" / "mask.onnx")
    bright_square().save(tmp_path / "photo.png")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def piped(content: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "redoseg", "segment", "../run", *words]
    return subprocess.run(command, input=content, capture_output=True, check=False)


def refused(*words: str) -> str:
    with pytest.raises(RedosegError) as caught:
        run_command(["segment", "../run", *words])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def as_input(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_through_a_pipe_there_is_the_picture_and_nothing_else(here: Path) -> None:
    dark = io.BytesIO()
    Image.new("RGB", (40, 30), (128, 128, 128)).save(dark, "PNG")  # of which the network is not sure
    said = piped(dark.getvalue(), "-", "-o", "-", "--threshold", "0.3")
    assert (said.returncode, said.stdout[:4]) == (0, b"\x89PNG")
    assert b"1 of 1 masks look doubtful" in said.stderr
    assert b"segmented" not in said.stderr + said.stdout
    run_command(["segment", "../run", "../photo.png", "-o", "mask.png"])
    said = piped((here.parent / "photo.png").read_bytes(), "-", "-o", "-")
    assert said.stdout == Path("mask.png").read_bytes()  # with the mark and the key
    assert said.stderr == b""


def test_each_end_alone(here: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    as_input((here.parent / "photo.png").read_bytes(), monkeypatch)
    assert run_command(["segment", "../run", "-", "-o", "out"]) == 0
    assert tree(Path("out")) == ["stdin.png"]
    assert is_result("out/stdin.png")
    as_input((here.parent / "photo.png").read_bytes(), monkeypatch)
    assert run_command(["segment", "../run", "-", "-o", "out", "--skip-existing"]) == 0
    capfdbinary.readouterr()
    assert run_command(["segment", "../run", "../photo.png", "-o", "-", "--as", "overlay"]) == 0
    with Image.open(io.BytesIO(capfdbinary.readouterr().out)) as overlay:
        assert (overlay.mode, overlay.size) == ("RGB", (96, 64))
    assert run_command(["segment", "../run", "../photo.png", "-o", "-", "--as", "coco"]) == 0
    assert capfdbinary.readouterr().out.startswith(b'{"info":')
    assert tree(here) == ["out/stdin.png"]


def test_what_no_pipe_can_take(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(here.parent)
    assert "takes the result of one picture, but" in refused(folder, "-o", "-")
    assert "takes the result of one picture, but" in refused("../photo.png", "../run/../photo.png", ".", "-o", "-")
    assert "- (standard input) is one picture, but 2 are given" in refused("-", "../photo.png", "-o", "out")
    assert "remove --skip-existing" in refused("../photo.png", "-o", "-", "--skip-existing")
    assert "remove --review" in refused("-", "-o", "-", "--review")
    as_input(b"", monkeypatch)
    assert refused("-", "-o", "out").startswith("standard input is empty, but expected a picture")
    as_input(b"no picture", monkeypatch)
    assert refused("-", "-o", "x.png").startswith("stdin: not a picture of a known format")
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda _: True})())
    assert "nothing is piped into it" in refused("-", "-o", "x.png")
    monkeypatch.setattr("sys.stdout", type("Terminal", (io.StringIO,), {"isatty": lambda _: True})())
    assert "is a terminal; add > FILE" in refused("../photo.png", "-o", "-")


def test_a_pipe_that_closes_early_ends_no_work(here: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (700, 700, 3)).astype(np.uint8)
    Image.fromarray(pixels).save("noise.png")
    command = [sys.executable, "-m", "redoseg", "segment", "../run", "noise.png", "-o", "-", "--as", "overlay"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_an_archive_is_unpacked_first(here: Path) -> None:
    with zipfile.ZipFile("photos.zip", "w") as archive:
        archive.write("../photo.png")
    wanted = "photos.zip: an archive of files, not a picture; unpack it and choose its folder"
    assert refused("photos.zip", "-o", "out") == wanted
    bright_square().save("a.png")
    assert run_command(["segment", "../run", ".", "-o", "out"]) == 0  # within a folder nobody takes it for one


@pytest.mark.parametrize("verb", ["segment ../run ../photo.png -o out", "evaluate ../run shapes"])
def test_threads(verb: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from redoseg.inference.segmenter import Segmenter

    seen: list[int] = []
    soft_mask, batch = Segmenter.soft_mask, Segmenter.batch

    def noted(of: object) -> object:
        return lambda self, *more: seen.append(self.threads) or of(self, *more)  # type: ignore[operator]

    monkeypatch.setattr(Segmenter, "soft_mask", noted(soft_mask))
    monkeypatch.setattr(Segmenter, "batch", noted(batch))
    monkeypatch.setattr("redoseg.data.open.HELD_OUT_COUNT", 4)
    more = ["--methods", "square"] if verb.startswith("evaluate") else []
    assert run_command([*verb.split(), "--threads", "3", *more]) == 0
    assert seen == [3]
    with pytest.raises(RedosegError, match="the number of threads is -1, but must be 1 or more"):
        run_command([*verb.split(), "--threads", "-1"])
