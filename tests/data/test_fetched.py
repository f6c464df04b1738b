"""Sets that are elsewhere: prepared and trained on from storage, for which `memory://` stands in, and from shards."""

from __future__ import annotations

import functools
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from redoseg import storage
from redoseg.cli.main import run_command
from redoseg.data import local_folder, open_data, open_prepared, prepare
from redoseg.errors import ConfigError, DataError


def picture(number: int, mask: bool = False) -> bytes:
    pixels = np.zeros((24, 24, 3), np.uint8)
    pixels[4:12, 4 : 6 + number] = 255 if mask else (200, 10 * number, 30)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if mask else pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.setattr(storage, "_PAUSE", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    for number in range(10):
        system.pipe_file(f"/set/images/{number}.png", picture(number))
        system.pipe_file(f"/set/masks/{number}.png", picture(number, mask=True))
    yield system
    system.store.clear()


def test_a_set_in_storage_is_prepared_as_its_folder(memory: Any, tmp_path: Path) -> None:
    memory.get("/set", str(tmp_path / "set"), recursive=True)
    here = prepare("folder", tmp_path / "set", tmp_path / "here", 16)
    there = prepare("folder", "memory://set/", tmp_path / "there", 16)
    assert (there.pictures, there.labelled) == (here.pictures, here.labelled) == (10, 10)
    assert open_prepared(tmp_path / "there").digest() == open_prepared(tmp_path / "here").digest()
    assert open_prepared(tmp_path / "there").names == open_prepared(tmp_path / "here").names


def test_what_was_fetched_is_not_fetched_again(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a stop; what has changed is, and what has gone is removed."""
    fetched: list[str] = []
    get, broken = type(memory).get_file, ["7.png"]

    def get_file(self: Any, source: str, target: str, **how: Any) -> None:
        if source.endswith(tuple(broken)):
            raise PermissionError("denied")
        fetched.append(source)
        get(self, source, target, **how)

    monkeypatch.setattr(type(memory), "get_file", get_file)
    with pytest.raises(DataError, match=r"memory://set/images/7.png: cannot be read \(denied\)"):
        local_folder("memory://set")
    broken.clear()
    copy = Path(local_folder("memory://set"))
    assert sorted(fetched) == sorted(set(fetched))
    assert len(fetched) == 20
    fetched.clear()
    memory.pipe_file("/set/images/3.png", picture(9))
    memory.rm_file("/set/images/4.png")
    assert local_folder("memory://set") == copy
    assert fetched == ["/set/images/3.png"]
    assert (copy / "images" / "3.png").read_bytes() == picture(9)
    assert not (copy / "images" / "4.png").exists()


def test_a_prepared_set_in_storage(memory: Any, tmp_path: Path) -> None:
    prepare("folder", "memory://set", tmp_path / "prepared", 16)
    memory.put(str(tmp_path / "prepared"), "/prepared", recursive=True)
    images = open_data("memory://prepared", 16)
    assert images.digest() == open_prepared(tmp_path / "prepared").digest()
    assert len(images) == 10


def test_a_list_of_addresses(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives the set that its folder gives, here and at an address; what has changed is fetched again."""
    names = [f"{folder}/{number}.png" for folder in ("images", "masks") for number in range(10)]
    memory.pipe_file("/lists/all.txt", "\n".join(f"memory://set/{name}" for name in names).encode())
    memory.get("/lists/all.txt", str(tmp_path / "all.txt"))
    whole = prepare("folder", "memory://set", tmp_path / "whole", 16)
    for number, place in enumerate((tmp_path / "all.txt", "memory://lists/all.txt")):
        made = prepare("folder", str(place), tmp_path / f"{number}", 16)
        assert (made.pictures, made.labelled) == (whole.pictures, whole.labelled) == (10, 10)
        assert open_prepared(tmp_path / f"{number}").digest() == open_prepared(tmp_path / "whole").digest()
    asked: list[int] = []
    memory.pipe_file("/set/images/3.png", picture(9))
    copy = Path(local_folder("memory://lists/all.txt", lambda done, total: asked.append(total)))
    assert asked == [1]
    assert (copy / "images" / "3.png").read_bytes() == picture(9)
    assert len(open_data(tmp_path / "all.txt", 16)) == 10


def test_a_list_of_pictures_on_the_web(memory: Any, tmp_path: Path) -> None:
    """Also from a server that answers nothing but GET, and from one that names no versions."""
    memory.get("/set/images", str(tmp_path / "images"), recursive=True)
    fetched: list[str] = []

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 64  # of five it lets the sixth try again in a second

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            fetched.append(self.path)
            super().do_GET()

        def do_HEAD(self) -> None:
            self.send_error(403) if self.path.startswith("/masks") else super().do_HEAD()

        def log_message(self, *_: Any) -> None: ...

    memory.get("/set/masks", str(tmp_path / "masks"), recursive=True)
    handler = functools.partial(Handler, directory=str(tmp_path))
    with Server(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        home = f"http://127.0.0.1:{web.server_port}"
        listed = tmp_path / "list.txt"
        names = [f"{folder}/{number}.png" for folder in ("images", "masks") for number in range(9)]
        listed.write_text("\n".join(f"{home}/{name}" for name in names))
        made = prepare("folder", f"{home}/list.txt", tmp_path / "out", 16)
        assert (made.pictures, made.labelled) == (9, 9)
        fetched.clear()
        local_folder(f"{home}/list.txt")
        assert sorted(fetched) == ["/list.txt", *(f"/masks/{number}.png" for number in range(9))]
        listed.write_text(listed.read_text() + f"\n{home}/images/gone.png\n")
        with pytest.raises(DataError, match=r"gone.png: cannot be read \(HTTP Error 404"):
            local_folder(f"{home}/list.txt")
        web.shutdown()


def test_what_a_list_cannot_have(memory: Any, tmp_path: Path) -> None:
    memory.pipe_file("/list.txt", b"a.jpg")
    with pytest.raises(DataError, match=r"list.txt lists a.jpg, which is not an address"):
        local_folder("memory://list.txt")
    (tmp_path / "list.txt").write_text(f"memory://set/images/0.png\n{tmp_path}\n")
    with pytest.raises(DataError, match="is a path; expected addresses; choose the folder of it"):
        local_folder(tmp_path / "list.txt")


def test_shards_of_one_name_in_several_folders(memory: Any, tmp_path: Path) -> None:
    for folder, first in (("one", 0), ("two", 5)):
        (tmp_path / folder).mkdir()
        memory.put(str(write_shard(tmp_path / folder / "a.tar", first)), f"/{folder}/a.tar")
    memory.pipe_file("/list.txt", b"memory://one/a.tar\nmemory://two/a.tar\n")
    assert prepare("folder", "memory://list.txt", tmp_path / "out", 16).pictures == 10


@pytest.mark.slow
def test_training_on_an_address(memory: Any, tmp_path: Path) -> None:
    prepare("folder", "memory://set", tmp_path / "prepared", 16)
    memory.put(str(tmp_path / "prepared"), "/prepared", recursive=True)
    settings = "--steps 2 --batch 2 --data.size 16 --threads 1 --watch.evaluate-every 2 --refine.rounds 0"
    for where in ("memory://prepared", "memory://set"):
        out = tmp_path / where.rpartition("/")[2]
        assert run_command(["train", "shapes", "--data", where, "--out", str(out / "run"), *settings.split()]) == 0
        assert (out / "run" / "mask.onnx").is_file()


def write_shard(path: Path, first: int) -> Path:
    with tarfile.open(path, "w") as archive:
        for number in range(first, first + 5):
            for name, content in ((f"{number}.png", picture(number)), (f"{number}.mask.png", picture(number, True))):
                about = tarfile.TarInfo(name)
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))
    return path


def test_shards_are_prepared(memory: Any, tmp_path: Path) -> None:
    shards = [write_shard(tmp_path / f"{first}.tar", first) for first in (0, 5)]
    made = prepare("folder", [str(shard) for shard in shards], tmp_path / "out", 16)
    assert (made.pictures, made.labelled) == (10, 10)
    memory.get("/set", str(tmp_path / "set"), recursive=True)
    prepare("folder", tmp_path / "set", tmp_path / "here", 16)
    assert open_prepared(tmp_path / "out").digest() == open_prepared(tmp_path / "here").digest()
    memory.pipe_file("/shards/a.tar", shards[0].read_bytes())
    with pytest.raises(DataError, match="at least 8 are needed"):
        prepare("folder", "memory://shards/a.tar", tmp_path / "one", 16)


def test_a_parquet_file_is_prepared(memory: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    import pyarrow as pa
    import pyarrow.parquet

    table = pa.table({"image": [picture(n) for n in range(9)], "mask": [picture(n, True) for n in range(8)] + [None]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    made = prepare("folder", str(tmp_path / "a.parquet"), tmp_path / "out", 16)
    assert (made.pictures, made.labelled) == (9, 8)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("memory://nothing", "memory://nothing has no files; expected a folder of pictures; check the address"),
        ("https://example.org/photos", "is an address on the web, where files cannot be listed"),
        ("odd://photos", "is an address of a kind that is not known"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(source: str, said: str, memory: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        run_command(["prepare", "folder", "--source", source, "--out", str(tmp_path / "out")])
    assert said in str(raised.value)
    with pytest.raises(ConfigError, match="--download needs a folder on this machine"):
        run_command(["prepare", "folder", "--download", "--source", source, "--out", str(tmp_path / "out")])
