"""Pictures and results in object storage, for which `memory://` stands in; lists of addresses; a web server."""

from __future__ import annotations

import functools
import http.server
import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from bright import bright_square, tree, write_model
from PIL import Image

from redoseg import storage
from redoseg.cli.main import run_command
from redoseg.errors import DataError, FullError, MissingError, RedosegError
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter
from redoseg.own_results import is_result
from redoseg.storage import Address

NAMES = ["a.jpg", "a.png", "b.png", "deep/down/c.png"]


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(storage, "_PAUSE", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return Segmenter(write_model(tmp_path / "run" / "mask.onnx").parent, threads=2)


@pytest.fixture
def photos(tmp_path: Path, memory: Any) -> Path:
    """The same pictures in a folder and at memory://photos."""
    for number, name in enumerate(NAMES):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        bright_square(60 + 4 * number, 40).save(path)
        memory.pipe_file(f"/photos/{name}", path.read_bytes())
    return tmp_path / "photos"


def stored(memory: Any, folder: str) -> dict[str, bytes]:
    return {name.removeprefix(f"/{folder}/"): memory.cat_file(name) for name in memory.find(f"/{folder}")}


def stop_after(count: int) -> Callable[..., None]:
    def stop(_place: object, done: int, _total: int, _why: str | None) -> None:
        if done == count:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("kind", ["mask", "cutout", ["overlay", "coco", "labelme"], "measures"])
def test_the_results_are_those_of_a_folder(
    kind: Any, segmenter: Segmenter, photos: Path, tmp_path: Path, memory: Any
) -> None:
    segment_paths(segmenter, "memory://photos", tmp_path / "here", kind=kind)
    report = segment_paths(segmenter, "memory://photos/", "memory://out", kind=kind)
    assert report.done == len(NAMES)
    there = stored(memory, "out")
    assert {name: (tmp_path / "here" / name).read_bytes() for name in tree(tmp_path / "here")} == there
    segment_paths(segmenter, photos, tmp_path / "local", kind="mask")
    if kind == "mask":  # the same bytes wherever the pictures come from
        assert {name: (tmp_path / "local" / name).read_bytes() for name in tree(tmp_path / "local")} == there


def test_a_stopped_call_continues(segmenter: Segmenter, photos: Path, memory: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        segment_paths(segmenter, "memory://photos", "memory://out", on_item=stop_after(1), review=True)
    before = stored(memory, "out")
    assert sum(name.endswith(".png") for name in before) >= 1
    report = segment_paths(segmenter, "memory://photos", "memory://out", skip_existing=True, review=True)
    assert report.done + report.skipped == len(NAMES)
    assert report.skipped >= 1
    after = stored(memory, "out")
    assert all(after[name] == content for name, content in before.items() if name.endswith(".png"))
    assert after["review.csv"].count(b"\n") == len(NAMES) + 1
    again = segment_paths(segmenter, "memory://photos", "memory://out", skip_existing=True, review=True)
    assert (again.done, again.skipped) == (0, len(NAMES))


def test_what_is_there_is_not_replaced(segmenter: Segmenter, photos: Path, memory: Any) -> None:
    memory.pipe_file("/out/b.png", b"mine")
    report = segment_paths(segmenter, "memory://photos", "memory://out")
    assert [(str(place), "exists" in why) for place, why in report.failed] == [("memory://photos/b.png", True)]
    assert memory.cat_file("/out/b.png") == b"mine"
    changed = bright_square(200, 40)
    buffer = io.BytesIO()
    changed.save(buffer, "PNG")
    memory.pipe_file("/photos/a.png", buffer.getvalue())
    report = segment_paths(segmenter, "memory://photos", "memory://out", skip_existing=True)
    assert [str(place) for place in report.differing] == ["memory://photos/a.png", "memory://photos/b.png"]
    report = segment_paths(segmenter, "memory://photos", "memory://out", skip_existing=True, overwrite=True)
    assert (report.done, report.skipped, report.differing) == (2, 2, ())


def test_own_results_are_not_segmented(segmenter: Segmenter, photos: Path, memory: Any) -> None:
    """Neither those below the results' own folder, nor those that lie elsewhere among the pictures."""
    segment_paths(segmenter, "memory://photos", "memory://photos/masks")
    memory.pipe_file("/photos/mask-of-a.png", memory.cat_file("/photos/masks/a.png.png"))
    report = segment_paths(segmenter, "memory://photos", "memory://photos/masks", skip_existing=True)
    assert report.skipped == len(NAMES)
    assert any("redoseg made them" in note and "1" in note for note in report.notes)
    assert is_result(memory.cat_file("/photos/masks/b.png"))


def test_patterns_lists_and_one_picture(segmenter: Segmenter, photos: Path, tmp_path: Path, memory: Any) -> None:
    report = segment_paths(segmenter, "memory://photos/*.png", "memory://some")
    assert sorted(stored(memory, "some")) == ["a.png", "b.png"]
    assert report.done == 2
    listed = tmp_path / "list.txt"
    listed.write_text("# two\nmemory://photos/a.jpg\n\nmemory://photos/deep/down/c.png\n")
    segment_paths(segmenter, listed, tmp_path / "listed")
    assert tree(tmp_path / "listed") == ["a.png", "deep/down/c.png"]
    memory.pipe_file("/lists/two.txt", listed.read_bytes())
    segment_paths(segmenter, "memory://lists/two.txt", tmp_path / "list-there")
    assert tree(tmp_path / "list-there") == ["a.png", "deep/down/c.png"]
    listed.write_text(f"{photos / 'a.jpg'}\n{photos / 'b.png'}\n")
    segment_paths(segmenter, listed, tmp_path / "paths")
    assert tree(tmp_path / "paths") == ["a.png", "b.png"]
    segment_paths(segmenter, "memory://photos/b.png", tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes() == memory.cat_file("/some/b.png")
    segment_paths(segmenter, "memory://photos/b.png", "memory://single")
    assert sorted(stored(memory, "single")) == ["b.png"]


def test_a_damaged_picture_and_a_missing_one(segmenter: Segmenter, photos: Path, tmp_path: Path, memory: Any) -> None:
    memory.pipe_file("/photos/b.png", b"\x89PNG\r\n\x1a\nno more")
    listed = tmp_path / "list.txt"
    listed.write_text("memory://photos/a.jpg\nmemory://photos/b.png\nmemory://photos/gone.png\n")
    report = segment_paths(segmenter, listed, "memory://out")
    said = {str(place): why for place, why in report.failed}
    assert sorted(said) == ["memory://photos/b.png", "memory://photos/gone.png"]
    assert said["memory://photos/gone.png"] == "cannot be read (it does not exist); check the name"
    assert report.done == 1


def test_a_storage_that_fails_now_and_then(
    segmenter: Segmenter, photos: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([OSError("reset"), OSError("reset")])
    read = type(memory).cat_file

    def cat_file(self: Any, *arguments: Any, **how: Any) -> bytes:
        error = next(failures, None)
        if error is not None:
            raise error
        return read(self, *arguments, **how)

    monkeypatch.setattr(type(memory), "cat_file", cat_file)
    assert segment_paths(segmenter, "memory://photos", "memory://out").done == len(NAMES)


def test_a_storage_that_takes_nothing_ends_the_work(
    segmenter: Segmenter, photos: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(type(memory), "pipe_file", refuse)
    with pytest.raises(
        FullError, match=r"memory://out/.* cannot be written \(AccessDenied\).*--skip-existing continues"
    ):
        segment_paths(segmenter, "memory://photos", "memory://out")


@pytest.mark.parametrize(
    ("source", "out", "said"),
    [
        ("memory://nothing", "out", "memory://nothing: cannot be read (it does not exist); check the name"),
        ("memory://photos/d", "out", "memory://photos/d: cannot be read (it does not exist)"),
        ("memory://photos/*.gif", "out", "no file matches the pattern memory://photos/*.gif; correct it"),
        ("odd://photos", "out", "odd://photos is an address of a kind that is not known"),
        ("data:image/png,", "out", "is a picture in an address"),
        ("memory://photos", "https://example.org/out", "is an address to which no results are written; choose a"),
        ("memory://photos", "memory://photos", "memory://photos is the folder of the pictures; choose another"),
        ("memory://photos", "memory://out.png", "memory://out.png is the name of a file"),
        ("empty.txt", "out", "empty.txt is empty; expected a list of pictures"),
        ("wrong.txt", "out", "wrong.txt lists nothing.jpg, which does not exist"),
        ("mixed.txt", "out", "is an address and ../photos/a.jpg is a path"),
    ],
)
def test_what_cannot_work_is_one_line(
    source: str, out: str, said: str, photos: Path, segmenter: Segmenter, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("empty.txt").write_text("\n# nothing\n")
    Path("wrong.txt").write_text("nothing.jpg\n")
    Path("mixed.txt").write_text("memory://photos/a.jpg\n../photos/a.jpg\n")
    with pytest.raises(RedosegError) as raised:
        run_command(["segment", str(tmp_path / "run"), source, "-o", out])
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_yolo_needs_a_folder(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--as yolo cannot be written to memory://out"):
        segment_paths(segmenter, "memory://photos", "memory://out", kind="yolo")
    assert segment_paths(segmenter, "memory://photos/b.png", tmp_path / "out", kind="yolo").done == 1


def test_the_command_line_says_what_it_did(
    photos: Path, segmenter: Segmenter, tmp_path: Path, memory: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["segment", str(tmp_path / "run"), "memory://photos", "-o", "memory://out"]) == 0
    assert "4 of 4 pictures segmented into memory://out" in capsys.readouterr().out


def test_without_the_package_of_a_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(
        MissingError, match=r's3fs, which s3:// needs, is not installed; run: pip install "redoseg\[cloud\]"'
    ):
        Address("s3://bucket/a.png").read_bytes()


def test_a_name_leads_nowhere_else(segmenter: Segmenter, tmp_path: Path, memory: Any) -> None:
    """Whatever an object is called, its result is in the folder of the results."""
    buffer = io.BytesIO()
    bright_square().save(buffer, "PNG")
    memory.store.clear()
    for name in ("/p/../../up.png", "/p/x/..\\y.png"):
        memory.store[name] = fsspec.implementations.memory.MemoryFile(memory, name, buffer.getvalue())
    listed = tmp_path / "list.txt"
    listed.write_text("memory://p/x/..\\y.png\nhttps://example.invalid/../../../up.png\n")
    report = segment_paths(segmenter, listed, tmp_path / "out")
    assert tree(tmp_path / "out") == ["p/x/.._y.png"]
    assert len(report.failed) == 1  # nothing is at example.invalid


@pytest.fixture
def server(photos: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    handler = functools.partial(Quiet, directory=str(photos))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


def test_pictures_on_the_web(server: str, segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    """Also pages that differ in what follows the name alone, which each have a result."""
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(f"{server}/{name}" for name in (*NAMES, "b.png?id=1", "gone.jpg")))
    report = segment_paths(segmenter, listed, tmp_path / "out")
    assert report.done == len(NAMES) + 1
    assert [why for _, why in report.failed] == [
        "cannot be read (HTTP Error 404: File not found); check the name, the network and your rights"
    ]
    names = tree(tmp_path / "out")
    assert [name for name in names if not name.startswith("b-")] == ["a.jpg.png", "a.png.png", "deep/down/c.png"]
    assert len([name for name in names if name.startswith("b-")]) == 2
    segment_paths(segmenter, f"{server}/b.png", tmp_path / "one")
    segment_paths(segmenter, photos / "b.png", tmp_path / "two")
    assert (tmp_path / "one" / "b.png").read_bytes() == (tmp_path / "two" / "b.png").read_bytes()
    with Image.open(tmp_path / "one" / "b.png") as mask:
        assert set(np.unique(np.asarray(mask))) == {0, 255}
