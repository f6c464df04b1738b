"""What cannot be written is found before the work, in one line; a message says what is wrong with a path."""

from __future__ import annotations

import errno
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bright import bright_square, write_model
from PIL import Image

import redoseg
from redoseg.cli import main
from redoseg.errors import RedosegError
from redoseg.files import in_shell
from redoseg.images.read import list_images, read_photo

VERBS = {
    "segment": "segment MODEL PHOTOS -o OUT",
    "segment one": "segment MODEL PHOTOS/0.png -o OUT",
    "segment --as coco": "segment MODEL PHOTOS/0.png -o OUT --as coco",
    "prepare": "prepare folder --source PHOTOS --out OUT",
    "train": "train shapes --out OUT",
    "evaluate --picture": "evaluate MODEL shapes --picture OUT/x.png",
    "compare": "compare shapes MODEL -o OUT",
    "study": "study missing --out OUT",
    "quantize": "quantize MODEL PHOTOS -o OUT/x.onnx",
    "redraw": "redraw flowers PHOTOS/0.png -o OUT",
    "redraw --gif": "redraw flowers PHOTOS/0.png -o OUT/x.gif --gif",
    "export": "export MODEL --out OUT",
}


def below_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    (folder / "file").write_text("mine")
    return folder / "file" / "out", "Not a directory"


def a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    (folder / "file").write_text("mine")
    return folder / "file" / "deep" / "out", "Not a directory"


def not_permitted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    return refusing(folder, errno.EACCES, monkeypatch)


def read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    return refusing(folder, errno.EROFS, monkeypatch)


def link_to_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    (folder / "link").symlink_to(folder / "gone")
    return folder / "link" / "out", ""


def link_to_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    (folder / "loop").symlink_to("loop")
    return folder / "loop" / "out", ""


def name_too_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    return folder / ("x" * 300), "File name too long"


def refusing(folder: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """A folder in which nothing can be made, also by root."""
    locked = folder / "locked"
    locked.mkdir()

    def refusing_version(real: Callable[..., object]) -> Callable[..., object]:
        def refuse(path: str, *rest: object, **more: object) -> object:
            if isinstance(path, str | os.PathLike) and Path(os.fspath(path)).is_relative_to(locked):
                raise OSError(number, os.strerror(number), str(path))
            return real(path, *rest, **more)

        return refuse

    for name in ("open", "mkdir"):
        monkeypatch.setattr(os, name, refusing_version(getattr(os, name)))
    return locked / "out", os.strerror(number)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "photos").mkdir()
    for number in range(9):
        bright_square().save(tmp_path / "photos" / f"{number}.png")
    return {"MODEL": str(write_model(tmp_path / "run" / "mask.onnx").parent), "PHOTOS": str(tmp_path / "photos")}


@pytest.mark.every(5)
@pytest.mark.parametrize(
    "kind", [below_a_file, a_file, not_permitted, read_only, link_to_nothing, link_to_itself, name_too_long]
)
@pytest.mark.parametrize("verb", VERBS)
def test_an_output_that_cannot_be_written_is_found_before_the_work(
    verb: str,
    kind: Callable[[Path, pytest.MonkeyPatch], tuple[Path, str]],
    places: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work has begun")

    for where in (
        "redoseg.inference.segmenter.Segmenter.soft_mask",
        "redoseg.inference.segmenter.Segmenter.masks",
        "redoseg.inference.segmenter.Segmenter.batch",
        "redoseg.data.writing.decode",
        "redoseg.train.run.RunData.open",
        "redoseg.study.run._Children.start",
    ):
        monkeypatch.setattr(where, work)
    out, why = kind(tmp_path, monkeypatch)
    text = VERBS[verb]
    for name, path in {**places, "OUT": str(out)}.items():
        text = text.replace(name, path)
    monkeypatch.setattr(sys, "argv", ["redoseg", *text.split()])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    said = capsys.readouterr()
    assert stopped.value.code == 2, said
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    assert why in said.err
    assert "File exists" not in said.err
    assert "is kept" not in said.err
    if kind in (below_a_file, a_file):
        assert (tmp_path / "file").read_text() == "mine"


def damaged(compression: str, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (90, 110, 3)).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, "TIFF", compression=compression)
    content = bytearray(buffer.getvalue())
    for place in range(200, len(content) // 2, 37):
        content[place] ^= 0xFF
    return bytes(content)


@pytest.mark.every(3)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libtiff is found among the loaded libraries")
@pytest.mark.parametrize(
    ("compression", "mode"),
    [("group4", "1"), ("tiff_ccitt", "1"), ("jpeg", "RGB"), ("tiff_lzw", "RGB"), ("tiff_adobe_deflate", "L")],
)
def test_libraries_print_nothing_without_a_name(compression: str, mode: str, tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(damaged(compression, mode))
    code = (
        "import sys; from redoseg.images.read import read_photo\n"
        "try: read_photo(sys.argv[1])\nexcept Exception as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code, tmp_path / "x.tif"], capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")


@pytest.mark.parametrize("what", ["picture", "folder of it"])
def test_what_may_not_be_read_is_said_so(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As who is not root meets it."""
    photo = tmp_path / "in" / "x.png"
    photo.parent.mkdir()
    bright_square().save(photo)
    hidden = photo if what == "picture" else photo.parent
    real = os.open

    def refuse(path: str, *rest: object, **more: object) -> int:
        if Path(os.fspath(path)) in (hidden, photo):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RedosegError, match=r"cannot be read \(Permission denied\); change its permissions"):
        read_photo(photo)
    real_stat = os.stat

    def refused(path: str, *rest: object, **more: object) -> os.stat_result:
        if not isinstance(path, int) and Path(os.fspath(path)) == tmp_path / "in":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real_stat(path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", refused)
    with pytest.raises(RedosegError, match=r"in cannot be opened \(Permission denied\)"):
        list_images(tmp_path / "in")


@pytest.mark.parametrize("name", ["my runs/one", "it's", "-o", "a b;c", "plain"])
def test_a_path_in_a_command_can_be_copied(name: str) -> None:
    words = shlex.split(f"redoseg segment {in_shell(Path(name))} photo.jpg")
    assert len(words) == 4
    assert Path(words[2]) == Path(name)
    assert not words[2].startswith("-")


def test_every_command_in_a_message_can_be_copied() -> None:
    verbs = "train|refine|segment|redraw|export|study|evaluate|prepare|upload"
    for path in Path(redoseg.__file__).parent.rglob("*.py"):
        for line in path.read_text().splitlines():
            found = re.search(rf"(redoseg|hf) ({verbs}) [^\"`]*{{(?!in_shell|where)", line)
            assert not found, f"{path.name}: {line.strip()}"
