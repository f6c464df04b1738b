"""Two processes never write into one folder, and the next one removes what a killed one has left."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import IO

import pytest
from rich.console import Console

from redoseg import files
from redoseg.cli.main import run_command
from redoseg.errors import DataError
from redoseg.files import alone, sweep, temporary_folder, whole_folder, write_atomic
from redoseg.train.run import run
from tests.bright import bright_square, write_model
from tests.conftest import Start, Trained

IN_USE = "is in use by another redoseg, which writes there"
LEFT = ".0123456789abcdef.tmp"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "below").mkdir(parents=True)
    for name in ("a.png", "below/b.png"):
        bright_square().save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def command(verb: str, pictures: Path, trained: Trained, out: Path) -> None:
    model, one = str(write_model(pictures.parent / "bright.onnx")), str(pictures / "a.png")
    if verb == "train --resume":
        shutil.copytree(trained.folder, out, dirs_exist_ok=True)
        with open("/dev/null", "w") as nowhere:
            run(trained.config, out, True, "cpu", Console(file=nowhere))
        return
    run_command(
        {
            "segment": ["segment", model, str(pictures), "-o", str(out)],
            "segment --as coco": ["segment", model, str(pictures), "-o", str(out), "--as", "coco"],
            "segment --review": ["segment", model, str(pictures), "-o", str(out), "--review"],
            "segment one --as coco": ["segment", model, one, "-o", str(out), "--as", "coco"],
            "redraw": ["redraw", str(trained.folder), one, "-o", str(out), "-n", "1"],
            "compare": [
                *("compare", str(trained.config.data.evaluate_on), model, "--methods", "square"),
                *("--edges", "plain", "-o", str(out)),
            ],
        }[verb]
    )


VERBS = (
    "train --resume",
    "segment",
    "segment --as coco",
    "segment --review",
    "segment one --as coco",
    "redraw",
    "compare",
)


@pytest.mark.every(3)
@pytest.mark.parametrize("verb", VERBS)
def test_the_second_is_refused(verb: str, pictures: Path, trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with alone(out), pytest.raises(DataError, match=IN_USE):
        command(verb, pictures, trained, out)
    (out / LEFT).touch()
    command(verb, pictures, trained, out)
    assert not (out / LEFT).exists()


def test_two_resumes_at_once(trained: Trained, tmp_path: Path, start: Start) -> None:
    shutil.copytree(trained.folder, tmp_path / "run")
    before = (tmp_path / "run" / "log.jsonl").read_bytes()
    code = (
        "import sys, time; from pathlib import Path; from redoseg.files import alone\n"
        "with alone(Path(sys.argv[1])): print('mine', flush=True); time.sleep(60)"
    )
    other = start("-c", code, tmp_path / "run")
    assert other.stdout is not None
    assert other.stdout.readline() == "mine\n"
    with pytest.raises(DataError, match=IN_USE), open("/dev/null", "w") as nowhere:
        run(trained.config, tmp_path / "run", True, "cpu", Console(file=nowhere))
    assert (tmp_path / "run" / "log.jsonl").read_bytes() == before
    other.send_signal(signal.SIGKILL)  # a lock ends with its process, however that ends
    other.wait()
    with alone(tmp_path / "run"):
        pass


@pytest.mark.parametrize("name", ["x.png", "x.json", "deep/x.bin"])
def test_the_next_writer_removes_what_a_killed_one_left(name: str, tmp_path: Path) -> None:
    target = tmp_path / name
    target.parent.mkdir(exist_ok=True)
    kept = [target.parent / other for other in (".mine.tmp", "0123456789abcdef.tmp", ".0123456789abcdef.tmp.png")]
    for path in (*kept, target.parent / LEFT):
        path.touch()
    write_atomic(target, b"data")
    assert sorted(os.listdir(target.parent)) == sorted([target.name, *(path.name for path in kept)])


def test_a_kill_while_writing(tmp_path: Path, start: Start) -> None:
    code = (
        "import os, sys; import redoseg.files as f\n"
        "f.os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "f.write_atomic(sys.argv[1], b'half')"
    )
    assert start("-c", code, tmp_path / "x.png").wait() == -signal.SIGKILL
    assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", [True, False], ids=["removed", "about to be removed"])
def test_a_file_that_is_swept_before_it_is_locked_is_begun_again(
    before: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As by another thread that writes the first file of the same folder at that moment."""
    lock, times = files._lock, 0

    def swept(file: IO[bytes]) -> bool:
        nonlocal times
        times += 1
        if times == 1:
            os.unlink(file.name)
            return before
        return lock(file)

    monkeypatch.setattr(files, "_lock", swept)
    write_atomic(tmp_path / "a.txt", b"whole")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.txt": b"whole"}


def test_what_another_process_is_writing_stays(tmp_path: Path, start: Start) -> None:
    code = (
        "import sys, time; import redoseg.files as f\n"
        "replace = f.os.replace\n"
        "def slowly(*paths): print('written', flush=True); sys.stdin.readline(); replace(*paths)\n"
        "f.os.replace = slowly\n"
        "f.write_atomic(sys.argv[1], b'whole')"
    )
    other = start("-c", code, tmp_path / "x", stdin=-1)
    assert other.stdout is not None
    assert other.stdin is not None
    assert other.stdout.readline() == "written\n"
    sweep(tmp_path)
    write_atomic(tmp_path / "y", b"")
    other.stdin.write("\n")
    other.stdin.close()
    assert other.wait(20) == 0
    assert (tmp_path / "x").read_bytes() == b"whole"


@pytest.mark.parametrize("name", ["model", "page with spaces", "a+b (1).site"])
def test_a_folder_that_was_half_made_goes(name: str, tmp_path: Path, start: Start) -> None:
    """Of `export`, killed; not that of one that still fills it, nor what only looks like it."""
    code = (
        "import sys; from pathlib import Path; from redoseg.files import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as partial:\n"
        "    (partial / 'x').touch(); print(partial.name, flush=True); sys.stdin.readline()"
    )
    other = start("-c", code, tmp_path / name, stdin=-1)
    assert other.stdout is not None
    theirs = tmp_path / other.stdout.readline().rstrip("\n")
    kept = [tmp_path / f".{name}.partial", tmp_path / f".{name}2.01234567.partial", theirs]
    for path in kept[:2]:
        path.mkdir()
    (tmp_path / f".{name}.01234567.partial").mkdir()
    with whole_folder(tmp_path / name):
        assert not (tmp_path / f".{name}.01234567.partial").exists()
        assert all(path.is_dir() for path in kept)
    other.communicate("\n", timeout=20)
    assert other.returncode != 0  # the name is taken by now
    assert os.listdir(tmp_path / name) == []
    assert not theirs.exists()


HOLD = (
    "import sys; from redoseg.files import temporary_folder\n"
    "with temporary_folder('page') as folder:\n"
    "    (folder / 'upload').mkdir(); (folder / 'upload' / 'x.jpg').touch()\n"
    "    print(folder, flush=True); sys.stdin.readline()"
)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_temporary_folders_of_killed_processes_go(
    how: signal.Signals, tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    held = [start("-c", HOLD, stdin=-1, env=os.environ | {"TMPDIR": str(tmp_path)}) for _ in range(2)]
    folders = [Path(process.stdout.readline().rstrip()) for process in held if process.stdout]
    assert all((folder / "upload").is_dir() for folder in folders)
    held[0].send_signal(how)
    held[0].wait()
    assert (folders[0] / "upload" / "x.jpg").exists()
    kept = [tmp_path / name for name in ("redoseg-page-mine", "redoseg-runs", "redoseg-page-empty")]
    for path in kept:  # whatever they are, no redoseg has made them
        path.mkdir()
    (kept[0] / ".redoseg-held").touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".redoseg-held").write_text(".redoseg-held")
    (tmp_path / "redoseg-page-link").symlink_to(elsewhere)
    with temporary_folder("quantize"):
        assert folders[0].parent.exists()  # another kind
    with temporary_folder("page") as mine:
        assert list(mine.iterdir()) == []
        assert not folders[0].parent.exists()
        assert (folders[1] / "upload").is_dir()
    assert not mine.parent.exists()
    assert all(path.is_dir() for path in kept)
    assert (elsewhere / ".redoseg-held").exists()
    held[1].communicate("\n", timeout=20)
    assert not folders[1].parent.exists()


def test_without_a_place_for_temporary_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(DataError, match=r"cannot be made .* set TMPDIR to a folder"), temporary_folder("page"):
        pass
