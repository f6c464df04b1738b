"""Archives over a real connection to a server on this machine that cuts, stalls, lies and forgets."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import random
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from redoseg.data import download
from redoseg.data.download import ARCHIVES, TRIES, Archive, cache_folder, fetch
from redoseg.errors import DataError


@dataclass(frozen=True)
class Step:
    """How the server treats one request; by default, properly."""

    status: int = 0
    """Answer with nothing but this status."""
    to: str = ""
    """Where the status leads."""
    silent: bool = False
    """End the connection without an answer."""
    upto: int | None = None
    """End the connection, or stall, after so many bytes of the body."""
    stall: bool = False
    slow: float = 0
    """Seconds after every 16 KiB."""
    ranges: bool = True
    """Whether it knows of ranges at all."""
    if_range: bool = True
    """Whether it takes notice of If-Range."""
    piece: int | None = None
    """A range ends after so many bytes, as the answer says."""
    back: int = 0
    """A range begins so many bytes before the one that was asked for."""
    length: int | None = 0
    """Added to the true Content-Length; None sends none."""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class Site(ThreadingHTTPServer):
    """`files` by name, served by `steps`, one a request, then properly; `asked` contains (file, Range)."""

    files: dict[str, bytes] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    encodings: set[str | None] = field(default_factory=set)
    version: tuple[str, str] = ("ETag", '"1"')
    released: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def ranges(self) -> list[str | None]:
        return [asked for _, asked in self.asked]


class Handler(BaseHTTPRequestHandler):
    server: Site

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.server.asked.append((name, self.headers["Range"]))
        self.server.encodings.add(self.headers["Accept-Encoding"])
        with contextlib.suppress(OSError):  # the other side has gone
            self.answer(self.server.steps.pop(0) if self.server.steps else Step(), self.server.files.get(name))

    def answer(self, step: Step, data: bytes | None) -> None:
        if step.silent:
            return
        if step.status or data is None:
            self.send_response(step.status or 404)
            if step.to:
                self.send_header("Location", step.to)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        key, value = self.server.version
        asked = self.headers["Range"] if step.ranges else None
        if step.if_range and self.headers["If-Range"] not in (None, value):
            asked = None
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        start -= step.back
        if start >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
        elif asked:
            self.send_response(206)
            end = len(data) if step.piece is None else start + step.piece
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        else:
            self.send_response(200)
        body = data[start:][: step.piece if asked else None]
        if step.length is not None:
            self.send_header("Content-Length", str(len(body) + step.length))
        if key:
            self.send_header(key, value)
        for header in step.headers:
            self.send_header(*header)
        self.end_headers()
        body = body[: step.upto]
        for at in range(0, len(body), 2**14):
            self.wfile.write(body[at : at + 2**14])
            self.wfile.flush()
            if step.slow:
                self.server.released.wait(step.slow)
        if step.stall:
            self.server.released.wait(120)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    site = Site()
    thread = threading.Thread(target=site.serve_forever, args=(0.01,))
    thread.start()
    yield site
    site.released.set()
    site.shutdown()
    thread.join()
    site.server_close()


Publish = Callable[..., Archive]


@pytest.fixture
def publish(site: Site, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Put a file on the server and into ARCHIVES["some"]; its MD5 is known unless `md5` is None."""

    def put(name: str, data: bytes, makes: str = "jpg", md5: str | None = "", needed: bool = True) -> Archive:
        site.files[name] = data
        archive = Archive(f"{site.url}/{name}", makes, digest(data) if md5 == "" else md5, needed)
        monkeypatch.setitem(ARCHIVES, "some", (*ARCHIVES.get("some", ()), archive))
        return archive

    return put


def digest(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def noise(count: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(count)


def tgz(*members: tuple[str, bytes | None] | tarfile.TarInfo) -> bytes:
    """An archive of files, and of folders where the content is None."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info, content = tarfile.TarInfo(member[0]), member[1]
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.size = len(content or b"")
            archive.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


PICTURE = noise(200_000)
ARCHIVE = tgz(("jpg", None), ("jpg/image_00001.jpg", PICTURE), ("README.txt", b"read me"))
WHOLE = {"jpg/image_00001.jpg": PICTURE, "README.txt": b"read me"}


def files(folder: Path) -> dict[str, bytes]:
    """Everything in the folder but the lock."""
    found = [p for p in folder.rglob("*") if p.is_file()]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def bring(folder: Path, timeout: float = 5.0) -> tuple[str, ...]:
    return fetch("some", folder, timeout=timeout, pause=0)


def refused(folder: Path, timeout: float = 5.0) -> str:
    with pytest.raises(DataError) as caught:
        bring(folder, timeout)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ----------------------------------------------------------------------------------------------- what is there


def test_fetches_checks_unpacks_and_tidies_up(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    publish("setid.mat", b"a list", "setid.mat")
    seen: list[tuple[str, int, int | None]] = []
    folder = tmp_path / "new" / "folder"
    assert fetch("some", folder, lambda *now: seen.append(now)) == ()
    assert files(folder) == {**WHOLE, "setid.mat": b"a list"}
    assert {name for name, _, _ in seen} == {"102flowers.tgz", "setid.mat"}
    flowers = [now for now in seen if now[0] == "102flowers.tgz"]
    assert flowers == sorted(flowers)
    assert flowers[-1] == ("102flowers.tgz", len(ARCHIVE), len(ARCHIVE))


def test_what_is_there_is_not_fetched(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    publish("setid.mat", b"a list", "setid.mat")
    (tmp_path / "jpg").mkdir()
    bring(tmp_path)
    bring(tmp_path)
    assert [name for name, _ in site.asked] == ["setid.mat"]
    assert list((tmp_path / "jpg").iterdir()) == []


def test_a_folder_that_has_it_all_is_not_touched(publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    (tmp_path / "jpg").mkdir()
    bring(tmp_path)  # a folder that may only be read is good enough
    assert os.listdir(tmp_path) == ["jpg"]


def test_an_archive_put_there_by_hand_is_used(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    (tmp_path / "102flowers.tgz").write_bytes(ARCHIVE)
    bring(tmp_path)
    assert files(tmp_path) == WHOLE
    assert site.asked == []


def test_a_wrong_archive_put_there_by_hand_is_refused_and_kept(publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    (tmp_path / "102flowers.tgz").write_bytes(b"mine")
    said = refused(tmp_path)
    assert digest(b"mine") in said
    assert digest(ARCHIVE) in said
    assert "remove it" in said
    assert files(tmp_path) == {"102flowers.tgz": b"mine"}


def test_sets_without_archives(tmp_path: Path) -> None:
    for name in ("folder", "butterflies", "nonsense"):
        with pytest.raises(DataError, match=f"'{name}' cannot be downloaded.*flowers102, flowers17, lfw, cub200-2011"):
            fetch(name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_known_archives() -> None:
    assert list(ARCHIVES) == ["flowers102", "flowers17", "lfw", "cub200-2011"]
    archives = [archive for group in ARCHIVES.values() for archive in group]
    assert all(archive.url.startswith(("http://", "https://")) for archive in archives)
    assert all(archive.md5 is None or len(bytes.fromhex(archive.md5)) == 16 for archive in archives)
    assert [a.makes for a in archives if a.makes == a.name] == ["setid.mat"]
    assert [a.name for a in archives if not a.needed] == ["parts_lfw_funneled_gt_images.tgz"]


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("lfw") == tmp_path / "redoseg" / "archives" / "lfw"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder("lfw") == tmp_path / "home" / ".cache" / "redoseg" / "archives" / "lfw"


def test_without_requests_the_module_still_imports() -> None:
    code = "import sys; sys.modules['requests'] = None; import redoseg.data.download"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --------------------------------------------------------------------------------------------------- resuming


def test_cut_again_and_again_asks_only_for_the_rest(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    site.steps = [Step(upto=20_000) for _ in range(TRIES + 3)]  # more often than it may fail
    bring(tmp_path)
    assert files(tmp_path) == WHOLE
    assert site.ranges() == [None, *(f"bytes={20_000 * i}-" for i in range(1, TRIES + 4))]


def test_a_stalled_connection_is_cut(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    site.steps = [Step(upto=2**15, stall=True)]
    started = time.monotonic()
    bring(tmp_path, timeout=0.3)
    assert time.monotonic() - started < 60  # the server is silent for longer
    assert files(tmp_path) == WHOLE
    assert site.ranges() == [None, f"bytes={2**15}-"]


def test_a_connection_that_ends_without_an_answer_is_tried_again(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    site.steps = [Step(silent=True)]
    bring(tmp_path)
    assert files(tmp_path) == WHOLE


def test_a_server_may_give_the_rest_in_pieces(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    site.steps = [Step(upto=50_000), Step(piece=30_000)]
    bring(tmp_path)
    assert site.ranges() == [None, "bytes=50000-", "bytes=80000-"]
    assert files(tmp_path) == WHOLE


def test_an_answer_that_never_begins_is_tried_again(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        port = silent.getsockname()[1]
        site.steps = [Step(302, to=f"http://127.0.0.1:{port}/102flowers.tgz")]
        bring(tmp_path, timeout=0.3)
    assert files(tmp_path) == WHOLE
    assert len(site.asked) == 2


def test_nothing_new_again_and_again_is_given_up_and_can_continue(site: Site, publish: Publish, tmp_path: Path) -> None:
    archive = publish("102flowers.tgz", ARCHIVE)
    site.steps = [Step(upto=100_000), *[Step(upto=0)] * TRIES]
    said = refused(tmp_path)
    assert said.startswith(
        f"{archive.url}: only 0.1 of 0.2 MB arrived, and {TRIES} more tries brought nothing new (the connection"
    )
    assert "run the same command again" in said
    assert str(tmp_path) in said
    assert not (tmp_path / "jpg").exists()
    assert site.steps == []
    bring(tmp_path)
    assert site.ranges()[-1] == "bytes=100000-"
    assert files(tmp_path) == WHOLE


def test_pauses_grow(site: Site, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("102flowers.tgz", ARCHIVE)
    site.steps = [Step(upto=100_000), Step(503), Step(503), Step(upto=50_000)]
    pauses: list[float] = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    fetch("some", tmp_path, pause=0.5)
    assert pauses == [0.5, 1.0, 2.0, 0.5]


def test_a_server_without_ranges_starts_again(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    site.steps = [Step(upto=50_000), Step(ranges=False)]
    seen: list[int] = []
    fetch("some", tmp_path, lambda name, count, total: seen.append(count), pause=0)
    assert max(seen) == len(ARCHIVE)
    assert site.ranges() == [None, "bytes=50000-"]
    assert files(tmp_path) == WHOLE


def test_a_server_without_ranges_that_always_cuts_is_given_up(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    site.steps = [Step(upto=50_000, ranges=False)] * 50
    assert "0.1 of 0.2 MB arrived" in refused(tmp_path)
    assert len(site.asked) == TRIES + 1


@pytest.mark.parametrize("version", [("", ""), ("ETag", 'W/"1"')], ids=["none", "weak"])
def test_a_file_without_a_version_is_fetched_again(
    site: Site, publish: Publish, tmp_path: Path, version: tuple[str, str]
) -> None:
    publish("102flowers.tgz", ARCHIVE)
    site.version = version
    site.steps = [Step(upto=50_000)]
    bring(tmp_path)
    assert site.ranges() == [None, None]
    assert files(tmp_path) == WHOLE


def test_a_date_is_a_version(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    site.version = ("Last-Modified", "Thu, 19 Feb 2009 10:00:00 GMT")
    site.steps = [Step(upto=50_000)]
    bring(tmp_path)
    assert site.ranges() == [None, "bytes=50000-"]
    assert files(tmp_path) == WHOLE


@pytest.mark.parametrize("tag", [None, b"", b"\xff\x00\n", b'"a"\r\nHost: elsewhere'])
def test_a_part_whose_version_is_lost_is_fetched_again(
    site: Site, publish: Publish, tmp_path: Path, tag: bytes | None
) -> None:
    publish("102flowers.tgz", ARCHIVE)
    (tmp_path / "102flowers.tgz.part").write_bytes(b"x" * 1000)
    if tag is not None:
        (tmp_path / "102flowers.tgz.part.tag").write_bytes(tag)
    bring(tmp_path)
    assert site.ranges() == [None]
    assert files(tmp_path) == WHOLE


@pytest.mark.parametrize("if_range", [True, False], ids=["heeds If-Range", "takes no notice of it"])
@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("ETag", '"1"', '"2"'),
        ("Last-Modified", "Thu, 19 Feb 2009 10:00:00 GMT", "Fri, 20 Feb 2009 10:00:00 GMT"),
    ],
    ids=["ETag", "Last-Modified"],
)
def test_halves_of_two_files_are_never_put_together(
    site: Site, publish: Publish, tmp_path: Path, key: str, before: str, after: str, if_range: bool
) -> None:
    old, new = (tgz(("jpg/a.jpg", noise(100_000, seed))) for seed in (1, 2))
    publish("17flowers.tgz", old, md5=None)  # only the version can tell
    site.version = (key, before)
    site.steps = [Step(upto=60_000), *[Step(503)] * TRIES]
    refused(tmp_path)
    site.files["17flowers.tgz"], site.version = new, (key, after)
    site.steps = [Step(if_range=if_range)]
    bring(tmp_path)
    assert site.ranges()[-1] == ("bytes=60000-" if if_range else None)
    assert files(tmp_path) == {"jpg/a.jpg": noise(100_000, 2)}


def test_another_range_than_asked_for_is_not_taken(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    site.steps = [Step(upto=50_000), Step(back=100)]
    bring(tmp_path)
    assert site.ranges() == [None, "bytes=50000-", None]
    assert files(tmp_path) == WHOLE


def test_a_part_that_is_whole_needs_only_the_check(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    (tmp_path / "102flowers.tgz.part").write_bytes(ARCHIVE)
    (tmp_path / "102flowers.tgz.part.tag").write_text('"1"')
    bring(tmp_path)
    assert site.ranges() == [f"bytes={len(ARCHIVE)}-"]  # answered with 416
    assert files(tmp_path) == WHOLE


def test_a_part_that_is_too_long_is_fetched_again(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    (tmp_path / "102flowers.tgz.part").write_bytes(ARCHIVE + b"more")
    (tmp_path / "102flowers.tgz.part.tag").write_text('"1"')
    bring(tmp_path)
    assert site.ranges() == [f"bytes={len(ARCHIVE) + 4}-", None]
    assert files(tmp_path) == WHOLE


def test_ctrl_c_leaves_the_part(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)

    def stop(name: str, count: int, total: int | None) -> None:
        if count > 60_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("some", tmp_path, stop)
    part = tmp_path / "102flowers.tgz.part"
    size = part.stat().st_size
    assert part.read_bytes() == ARCHIVE[:size]
    assert size > 60_000
    bring(tmp_path)
    assert site.ranges() == [None, f"bytes={size}-"]
    assert files(tmp_path) == WHOLE


@contextlib.contextmanager
def another_process(site: Site, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The same download in a process of its own, once a part of it is there."""
    code = (
        "from redoseg.data.download import ARCHIVES, Archive, fetch\n"
        f"ARCHIVES['some'] = ({ARCHIVES['some'][0]!r},)\n"
        f"fetch('some', {str(folder)!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        part = folder / "102flowers.tgz.part"
        deadline = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size > 40_000):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_killed_download_continues(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    site.steps = [Step(slow=0.2)]
    with another_process(site, tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    size = (tmp_path / "102flowers.tgz.part").stat().st_size
    assert 40_000 < size < len(ARCHIVE)
    bring(tmp_path)
    assert site.ranges() == [None, f"bytes={size}-"]
    assert files(tmp_path) == WHOLE


def test_a_second_process_is_kept_out(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    site.steps = [Step(upto=2**16, stall=True)]
    with another_process(site, tmp_path) as process:
        assert "another download" in refused(tmp_path)
        site.released.set()
        assert process.wait(30) == 0
    assert site.ranges() == [None, f"bytes={2**16}-"]
    assert files(tmp_path) == WHOLE


# ---------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_file_that_is_not_available_is_reported_at_once(
    site: Site, publish: Publish, tmp_path: Path, status: int
) -> None:
    archive = publish("102flowers.tgz", ARCHIVE)
    site.steps = [Step(status)]
    assert refused(tmp_path).startswith(f"{archive.url}: the server answers {status} ")
    assert len(site.asked) == 1
    assert files(tmp_path) == {}


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_asked_again(site: Site, publish: Publish, tmp_path: Path, status: int) -> None:
    publish("102flowers.tgz", ARCHIVE)
    site.steps = [Step(status)]
    bring(tmp_path)
    assert files(tmp_path) == WHOLE
    site.steps = [Step(status)] * TRIES
    assert f"answers {status}" in refused(tmp_path / "other")


def test_redirects_are_followed(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    site.files["moved.tgz"] = ARCHIVE
    site.steps = [Step(302, to="/moved.tgz"), Step(upto=50_000), Step(302, to="/moved.tgz")]
    bring(tmp_path)
    assert site.asked[-1] == ("moved.tgz", "bytes=50000-")
    assert files(tmp_path) == WHOLE


def test_redirects_in_a_circle(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    site.steps = [Step(302, to="/102flowers.tgz")] * 100
    assert "redirects" in refused(tmp_path)


def test_no_server(publish: Publish, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    url = f"http://127.0.0.1:{port}/102flowers.tgz"
    monkeypatch.setitem(ARCHIVES, "some", (Archive(url, "jpg", None),))
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("there is no other try"))
    with pytest.raises(DataError) as caught:
        fetch("some", tmp_path, pause=60)
    assert str(caught.value) == (
        f"{url}: cannot be reached (Connection refused); "
        f"check the network, or put 102flowers.tgz into {tmp_path} by hand"
    )


def test_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:  # to ask a real name server would leave this machine
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("no_proxy", "nowhere.invalid")
    monkeypatch.setitem(ARCHIVES, "some", (Archive("http://nowhere.invalid/a.tgz", "jpg", None),))
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "cannot be reached (Name or service not known)" in refused(tmp_path)


@pytest.mark.parametrize("length", [-1000, 1000, None], ids=["too small", "too large", "none"])
def test_a_wrong_content_length(site: Site, publish: Publish, tmp_path: Path, length: int | None) -> None:
    publish("102flowers.tgz", ARCHIVE)
    site.steps = [Step(length=length)]
    if length == -1000:
        assert "MD5" in refused(tmp_path)
        assert files(tmp_path) == {}
    bring(tmp_path)
    assert files(tmp_path) == WHOLE


def test_a_server_that_calls_the_archive_a_compressed_tar(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    encoded = Step(headers=(("Content-Type", "application/x-tar"), ("Content-Encoding", "gzip")))
    site.steps = [encoded]
    bring(tmp_path)
    assert files(tmp_path) == WHOLE
    assert site.encodings == {"identity"}


def test_wrong_bytes_are_removed_and_said(site: Site, publish: Publish, tmp_path: Path) -> None:
    archive = publish("102flowers.tgz", ARCHIVE)
    site.files["102flowers.tgz"] = b"<html>log in to this network</html>"
    said = refused(tmp_path)
    assert said.startswith(
        f"{archive.url}: the file that arrived has the MD5 {digest(site.files['102flowers.tgz'])}, but must "
        f"have {archive.md5}"
    )
    assert "run the same command again" in said
    assert "twice" in said
    assert files(tmp_path) == {}
    site.files["102flowers.tgz"] = ARCHIVE
    bring(tmp_path)
    assert files(tmp_path) == WHOLE


def test_an_unknown_checksum_is_noted(publish: Publish, tmp_path: Path) -> None:
    publish("17flowers.tgz", ARCHIVE, md5=None)
    assert bring(tmp_path) == ("17flowers.tgz: checksum not known, not checked",)
    assert bring(tmp_path) == ()


def test_what_is_not_needed_may_be_missing(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("lfw-funneled.tgz", ARCHIVE)
    parts = publish("parts.tgz", tgz(("parts/a.ppm", b"P6")), "parts", md5=None, needed=False)
    del site.files["parts.tgz"]
    (note,) = bring(tmp_path)
    assert note.startswith(f"parts.tgz could not be fetched ({parts.url}: the server answers 404 Not Found")
    assert note.endswith("; the set is without parts/")
    assert files(tmp_path) == WHOLE


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no disk that is always full")
def test_a_full_disk(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE, needed=False)
    (tmp_path / "102flowers.tgz.part").symlink_to("/dev/full")
    said = refused(tmp_path)
    assert said == f"{tmp_path}: cannot be written (No space left on device): free space or choose another path"
    assert len(site.asked) == 1


def test_a_folder_that_cannot_be_made(publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    (tmp_path / "file").write_text("")
    assert "cannot be written (Not a directory)" in refused(tmp_path / "file" / "folder")


# -------------------------------------------------------------------------------------------------- unpacking


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "member",
    [
        ("../evil", b"x"),
        ("jpg/../../evil", b"x"),
        ("../evil", None),
        ("{here}/evil", b"x"),
        special("jpg/link", tarfile.SYMTYPE, "/etc/passwd"),
        special("jpg/hard", tarfile.LNKTYPE, "jpg/a"),
        special("jpg/pipe", tarfile.FIFOTYPE),
        special("jpg/device", tarfile.CHRTYPE),
    ],
    ids=["up", "down and up", "folder", "absolute", "link", "hard link", "pipe", "device"],
)
def test_unsafe_archives_are_refused_whole(
    publish: Publish, tmp_path: Path, member: tuple[str, bytes | None] | tarfile.TarInfo
) -> None:
    if not isinstance(member, tarfile.TarInfo):
        member = (member[0].format(here=tmp_path), member[1])
    publish("102flowers.tgz", tgz(("jpg/a", b"a"), member, ("jpg/b", b"b")), md5=None)
    said = refused(tmp_path / "here")
    name = member.name if isinstance(member, tarfile.TarInfo) else member[0]
    assert f"102flowers.tgz contains {name}, which is" in said
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["here"]


def test_a_link_within_the_archive_cannot_lead_out(publish: Publish, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    link = special("jpg", tarfile.SYMTYPE, str(tmp_path / "outside"))
    publish("102flowers.tgz", tgz(link, ("jpg/a", b"a")))
    assert "contains jpg, which is neither a file nor a folder" in refused(tmp_path / "here")
    assert list((tmp_path / "outside").iterdir()) == []


NUMBERS = tgz(("jpg/a", str(list(range(30_000))).encode()))
NAMED = special("a", tarfile.REGTYPE)
NAMED.pax_headers = {"path": "jpg/\0"}

BROKEN = {
    "a page": b"<html>moved</html>",
    "empty": b"",
    "no tar": gzip.compress(b"no tar" * 1000),
    "cut": ARCHIVE[:100_000],
    "cut before its checksum": ARCHIVE[:-8],
    "damaged": ARCHIVE[:100_000] + bytes(100) + ARCHIVE[100_100:],
    "garbled": NUMBERS[:20_000] + bytes([255] * 100) + NUMBERS[20_100:],
    "no name": tgz(("jpg/a", b"a"), NAMED),
    "another": tgz(("png/a", b"a")),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken_archives_are_said_in_one_line(site: Site, publish: Publish, tmp_path: Path, data: bytes) -> None:
    publish("17flowers.tgz", data, md5=None)
    assert "17flowers.tgz" in refused(tmp_path)
    assert files(tmp_path) == {}
    site.files["17flowers.tgz"] = ARCHIVE  # so that a better one is fetched next time
    bring(tmp_path)
    assert files(tmp_path) == WHOLE


def test_a_broken_archive_put_there_by_hand_is_kept(publish: Publish, tmp_path: Path) -> None:
    publish("17flowers.tgz", ARCHIVE, md5=None)
    (tmp_path / "17flowers.tgz").write_bytes(ARCHIVE[:1000])
    assert "remove it" in refused(tmp_path)
    assert files(tmp_path) == {"17flowers.tgz": ARCHIVE[:1000]}


def test_what_is_there_is_left_alone(publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    (tmp_path / "README.txt").write_bytes(b"mine")
    bring(tmp_path)
    assert files(tmp_path) == {**WHOLE, "README.txt": b"mine"}


def test_what_a_killed_run_had_unpacked_is_no_mark_and_goes_away(publish: Publish, tmp_path: Path) -> None:
    publish("102flowers.tgz", ARCHIVE)
    half = tmp_path / ".102flowers.tgz.partial" / "jpg"
    half.mkdir(parents=True)
    (half / "image_00002.jpg").write_bytes(b"half")
    (tmp_path / "102flowers.tgz").write_bytes(ARCHIVE)
    bring(tmp_path)
    assert files(tmp_path) == WHOLE


def test_the_mark_comes_last(publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between two renames, the next run still unpacks the rest."""
    publish("CUB.tgz", tgz(("a", b"1"), ("jpg/x", b"2"), ("z", b"3")))
    renamed: list[str] = []
    rename = os.rename

    def note(source: Path, target: Path) -> None:
        renamed.append(target.name)
        rename(source, target)

    monkeypatch.setattr(os, "rename", note)
    bring(tmp_path)
    assert len(renamed) == 3
    assert renamed[-1] == "jpg"
