"""The page, in a real browser and over plain HTTP: what it shows, what it refuses, and that it continues."""

import asyncio
import contextlib
import importlib.util
import io
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from redoseg.cli.main import run_command
from redoseg.data.shapes import generate
from redoseg.errors import ConfigError, DataError
from redoseg.images.photo import Photo, SoftMask
from redoseg.images.read import read_image
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter
from redoseg.own_results import MARK
from redoseg.system import Room, own_memory
from redoseg.web import page as serve
from redoseg.web.cuts import Cuts
from redoseg.web.guard import Guard, is_loopback, tidy
from redoseg.web.progress import run_progress

# looked for, not imported: that takes four seconds, in a worker too that runs none of these
pytestmark = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="needs gradio")
Start = Callable[..., subprocess.Popen[str]]
STATED = re.compile(r"the page is at (http://(\S+):(\d+)/) ")


@dataclass(frozen=True)
class Page:
    """A page that is served by a process of its own."""

    address: str
    port: int
    process: subprocess.Popen[str]
    temporary: Path
    log: Path
    """What it writes to stderr."""
    starting: float
    """Seconds that it took to start, which says how busy the machine is."""


def started(start: Start, *arguments: str | Path, temporary: Path, code: str = "") -> Page:
    """A page in a process of its own; `code` runs first."""
    command = ["-c", f"{code}\nfrom redoseg.cli.main import main; main()", "serve", "--port", "0", *arguments]
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": os.getcwd()}
    # a proxy that is not there would be noticed
    environment |= {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    log, begun = temporary.with_name(temporary.name + ".log"), time.monotonic()
    with open(log, "w") as stderr:
        process = start(*command, stderr=stderr, cwd=temporary, env=environment)
    assert process.stdout
    said = STATED.match(process.stdout.readline())
    assert said, "it did not start"
    return Page(said[1], int(said[3]), process, temporary, log, time.monotonic() - begun)


WAITING = ["gradio_api/heartbeat/abc", "gradio_api/queue/data?session_hash=abc", "config"]


def ends_at_once(page: Page, stop: signal.Signals) -> int:
    """The exit code after a signal that comes while pages are open; nothing stays behind."""
    with contextlib.ExitStack() as stack:
        for path in WAITING:
            browser = stack.enter_context(socket.create_connection(("127.0.0.1", page.port)))
            browser.sendall(f"GET /{path} HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\n\r\n".encode())
            assert browser.recv(100).startswith(b"HTTP/1.1 200")
        begun = time.monotonic()
        page.process.send_signal(stop)
        page.process.communicate(timeout=120)
        busy = 2 * (1 + os.getloadavg()[0] / (os.cpu_count() or 1))
        assert time.monotonic() - begun < max(busy, page.starting / 2)
    assert "Traceback" not in page.log.read_text()
    assert list(page.temporary.iterdir()) == [], "it left something behind"
    return page.process.returncode


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run at step 40 of 200, with a health that needs advice."""
    folder = tmp_path_factory.mktemp("runs") / "tulips"
    (folder / "samples").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"config": {"steps": 200}}))
    line = {"restarts": 0, "seconds": 600.0, "steps_per_s": 0.5, "sizes": [0.4, 0.6], "health": "masks stay grey"}
    lines = [line | {"step": 20, "iou": 0.5}, line | {"step": 40}]
    (folder / "log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in lines) + '{"step": 60, "res')
    Image.new("RGB", (100, 80), "white").save(folder / "curves.png")
    Image.new("RGB", (60, 20), "green").save(folder / "samples" / "0-000020.png")
    (folder / "secret.txt").write_text("not for the page")
    return folder


@pytest.fixture(scope="module")
def page(
    start_once: Start, run_folder: Path, photograph: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    temporary = tmp_path_factory.mktemp("served")
    limits = ("--max-mb", "1", "--max-megapixels", "2")
    shown = ("--run", run_folder, "--examples", photograph.parent)
    page = started(start_once, "flowers", *shown, *limits, temporary=temporary)
    yield page
    assert ends_at_once(page, signal.SIGINT) == 130


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG file that lies on its side, 300 x 200 pixels once it is upright."""
    path = tmp_path_factory.mktemp("photographs") / "my tulip.jpg"
    image = Image.fromarray(generate("shapes", 1, 300, seed=3)[0][0]).crop((0, 50, 300, 250))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    return path


@pytest.fixture(scope="module")
def expected(photograph: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What `redoseg segment` writes for it."""
    out = tmp_path_factory.mktemp("segmented")
    results = {}
    for kind in ("mask", "soft", "cutout"):
        segment_paths(Segmenter("flowers"), photograph, out / f"{kind}.png", kind=kind)
        results[kind] = (out / f"{kind}.png").read_bytes()
    return results


def opened(content: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def bomb() -> bytes:
    """A PNG file of 60,000 x 60,000 pixels that is 100 bytes long."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))

    header = struct.pack(">LLBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


# ------------------------------------------------------------------------------------------------ plain HTTP


def answer(page: Page, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(page.address + path, body, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def form(name: str, content: bytes) -> tuple[bytes, str]:
    head = f'--edge\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--edge--\r\n", "multipart/form-data; boundary=edge"


def upload(page: Page, name: str, content: bytes) -> Any:
    body, kind = form(name, content)
    status, said = answer(page, "gradio_api/upload", body, **{"Content-Type": kind})
    return json.loads(said)[0] if status == 200 else (status, said.decode())


def call(page: Page, name: str, *values: Any) -> str:
    """The last event of a call as gradio's documented HTTP API gives it."""
    body = json.dumps({"data": values}).encode()
    status, said = answer(page, f"gradio_api/call/{name}", body, **{"Content-Type": "application/json"})
    assert status == 200, said
    status, said = answer(page, f"gradio_api/call/{name}/{json.loads(said)['event_id']}")
    assert status == 200
    return said.decode()


def a_file(path: Any) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def segmented(page: Page, photograph: Path, threshold: float = 0.5) -> list[bytes]:
    """The three files that the endpoint `segment` gives."""
    events = call(page, "segment", a_file(upload(page, photograph.name, photograph.read_bytes())), threshold)
    assert "event: complete" in events, events
    found = json.loads(events.split("data: ")[-1])
    places = [f.get("value", f)["path"] for f in found]
    return [answer(page, "gradio_api/file=" + urllib.parse.quote(place))[1] for place in places]


def test_the_endpoint_gives_what_the_command_line_writes(
    page: Page, photograph: Path, expected: dict[str, bytes]
) -> None:
    assert segmented(page, photograph) == [expected["mask"], expected["cutout"], expected["soft"]]


def test_the_http_interface_is_beside_the_page(page: Page, photograph: Path, expected: dict[str, bytes]) -> None:
    for kind, content in expected.items():
        jpeg = {"Content-Type": "image/jpeg"}
        assert answer(page, f"segment?as={kind}", photograph.read_bytes(), **jpeg) == (200, content)
    assert json.loads(answer(page, "model")[1])["name"] == "flowers"
    assert "/segment" in json.loads(answer(page, "openapi.json")[1])["paths"]
    status, said = answer(page, "segment", bytes(1_100_000), **{"Content-Type": "image/png"})
    assert (status, "more than 1 MB" in json.loads(said)["error"]) == (413, True)
    assert answer(page, "model", Host="evil.example")[0] == 403


def unpacked(page: Page, path: str) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(answer(page, "gradio_api/file=" + urllib.parse.quote(path))[1])) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def test_several_photographs_come_back_as_an_archive(
    page: Page, photograph: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    photos = [upload(page, name, photograph.read_bytes()) for name in ("my tulip.jpg", "b.jpg")]
    photos.append(upload(page, "page.html", b"<b>"))
    look = ["transparent", *LOOK[1:]]
    events = call(page, "segment_several", [*map(a_file, photos)], ["mask", "cutout"], 0.5, False, "", *look)
    assert "event: complete" in events, events
    archive, tiles, words = json.loads(events.split("data: ")[-1])
    found = unpacked(page, archive.get("value", archive)["path"])
    assert found["results/mask/my tulip.png"] == found["results/mask/b.png"] == expected["mask"]
    assert found["results/cutout/b.png"] == expected["cutout"]
    assert len(tiles) == 2
    assert "2 photographs are segmented." in words
    assert "page.html: its format" in words
    events = call(page, "segment_several", [a_file("/etc/passwd")], ["mask"], 0.5, False, "", *look)
    assert "event: error" in events


def test_the_threshold_cuts_the_soft_mask(page: Page, photograph: Path, expected: dict[str, bytes]) -> None:
    soft = opened(expected["soft"]) / 255
    for threshold in (0.2, 0.8):
        mask = opened(segmented(page, photograph, threshold)[0])
        sure = np.abs(soft - threshold) > 1 / 255
        np.testing.assert_array_equal(mask[sure] > 0, soft[sure] > threshold)
    assert not opened(segmented(page, photograph, 1)[0]).any()


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("bomb.png", bomb(), "bomb.png: it has more than 2 million pixels"),
        ("garbage.jpg", b"garbage" * 50, "garbage.jpg: not a picture"),
        ("empty.png", b"", "empty.png: an empty file"),
        ("cut.gif", b"GIF89a", "cut.gif: "),
        ("html.jpg", b"<html>", "html.jpg: a web page (HTML), not a picture"),
        ("page.html", b"<b>", "page.html has a format that redoseg does not read"),
        ("wide.png", "2000x1001", "it has more than 2 million pixels"),
    ],
)
def test_what_is_no_photograph_is_refused_in_one_line(page: Page, name: str, content: bytes | str, why: str) -> None:
    if isinstance(content, str):
        buffer = io.BytesIO()
        Image.new("1", (2000, 1001)).save(buffer, "PNG")
        content = buffer.getvalue()
    events = call(page, "segment", a_file(upload(page, name, content)), 0.5)
    assert "event: error" in events
    assert why in events
    assert str(page.temporary) not in events, "the page shows no paths"
    assert "Traceback" not in events


@pytest.mark.every(3)
@pytest.mark.parametrize("name", ["photo", "download.php", "IMG.0042", "a.jpg_large", "\U0001f408 [x](y)#1"])
def test_a_photograph_is_known_by_its_content(page: Page, photograph: Path, name: str) -> None:
    """Where its name says nothing, as in a folder on the command line."""
    photo = a_file(upload(page, name, photograph.read_bytes()))
    assert "event: complete" in call(page, "segment", photo, 0.5)
    events = call(page, "segment_several", [photo], ["mask"], 0.5, False, "", "transparent", *LOOK[1:])
    assert "1 photograph is segmented." in events
    events = call(page, "segment", a_file(upload(page, f"{name}x.nef", photograph.read_bytes())), 0.5)
    assert "a camera's raw picture, which is not read" in events


@pytest.mark.parametrize("threshold", [2, -1, "0.5", [1], {}, True, None, float("nan")])
def test_a_threshold_that_is_none_is_refused(page: Page, photograph: Path, threshold: Any) -> None:
    photo = a_file(upload(page, photograph.name, photograph.read_bytes()))
    events = call(page, "segment", photo, threshold)
    assert ("event: error" in events) != (threshold is True)  # which JSON's readers take for 1


ODD: list[Any] = [
    1, -1, "x", "x" * 100_000, [], {}, True, float("inf"), "\ud800", [[[[]]]], {"a": {"b": [1]}}, [a_file("x")],
    a_file(5), a_file(None), a_file([]), a_file(""), a_file("/etc/passwd"), a_file("x\0y"), a_file("x" * 5000),
    {"path": 5}, {"path": None}, {"path": "x", "meta": 5}, {"url": "http://x"}, {"meta": {"_type": "gradio.FileData"}},
    {"__type__": "update"}, {"value": 1, "__type__": "x"},
]  # fmt: skip
LOOK: list[Any] = ["white", "#ffffff", None, "the photograph", 1000, 0.02, "png"]
CALLS: dict[str, list[Any]] = {
    "segment": [None, 0.5],
    "redraw": [None, 1, 0, "object", None, "pictures"],
    "progress": ["tulips"],
    "segment_several": [None, ["mask"], 0.5, False, "", *LOOK],
}


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CALLS)
def test_values_of_other_types_are_one_line(page: Page, name: str, every: int) -> None:
    """For the caller, and nothing in the log."""
    right = CALLS[name]
    some = ODD[:: every * (1 if len(right) < 5 else 4)]  # of many fields
    wrong = [[*right[:i], odd, *right[i + 1 :]] for i in range(len(right)) for odd in some]
    for values in [*wrong, [], [1] * 9]:
        events = call(page, name, *values)
        assert events.startswith("event: error"), (values, events)
        said = json.loads(events.split("data: ")[1])["error"]
        assert said, values
        assert "\n" not in said.strip()
        assert "/etc/passwd" not in said or "list of choices" in said
    kind = {"Content-Type": "application/json"}
    for body in ({}, {"data": None}, {"data": "x"}, {"data": {}}, [], None, 5, "x", {"data": right, "session_hash": 5}):
        status, text = answer(page, f"gradio_api/call/{name}", json.dumps(body).encode(), **kind)
        assert status == 422, body
        assert json.loads(text)["detail"][0]["msg"], body
    for body in ({"extra": 1}, {"event_data": 5}, {"fn_index": 99}, {"trigger_id": "x"}, {"batched": True}):
        status, _ = answer(page, f"gradio_api/call/{name}", json.dumps({"data": right} | body).encode(), **kind)
        assert status in (200, 422), body
    assert answer(page, "gradio_api/call/nothing", b'{"data": []}', **kind)[0] == 404
    assert "Traceback" not in page.log.read_text()


def test_too_large_an_upload_is_refused(page: Page) -> None:
    status, said = upload(page, "large.png", bytes(1_100_000))
    assert status == 413
    assert "maximum allowed size" in said
    connection = HTTPConnection("127.0.0.1", page.port, timeout=20)
    connection.request("POST", "/gradio_api/upload", b"", {"Content-Length": str(300 * 2**20)})
    response = connection.getresponse()
    assert response.status == 413
    assert response.read() == b"The request has more than 257 MB. Send less at a time."
    connection.close()
    body = json.dumps({"data": ["x" * 1_100_000]}).encode()
    assert answer(page, "gradio_api/call/segment", body, **{"Content-Type": "application/json"})[0] == 413


def test_an_upload_of_unknown_length_is_counted(page: Page) -> None:
    connection = HTTPConnection("127.0.0.1", page.port, timeout=20)
    head, kind = form("a.png", b"")
    chunks = itertools.chain([head[:-14]], itertools.repeat(bytes(2**16), 1000))
    status = 0
    try:
        connection.request("POST", "/gradio_api/upload", chunks, {"Content-Type": kind}, encode_chunked=True)
        status = connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):  # it would not hear the rest
        status = 413
    finally:
        connection.close()
    assert status == 413


SECRETS = ["/etc/passwd", "{run}/secret.txt", "{run}/log.jsonl", "../../../../etc/passwd", "{here}/pyproject.toml"]


@pytest.mark.parametrize("secret", SECRETS)
def test_no_other_file_can_be_read(page: Page, run_folder: Path, secret: str) -> None:
    path = secret.format(run=run_folder, here=Path(__file__).parents[2])
    for quoted in (path, urllib.parse.quote(path, safe=""), urllib.parse.quote(path, safe="").replace("%", "%25")):
        for route in ("file=", "file=" + str(page.temporary) + "/..%2f..%2f", "file/", "static/", "assets/", "svelte/"):
            for start in ("", "gradio_api/"):
                status, said = answer(page, start + route + quoted)
                assert status in (400, 403, 404, 405), (route, quoted)
                assert b"root:" not in said
                assert b"not for the page" not in said
                assert b"steps_per_s" not in said
    for value in (a_file(path), {"path": path}, path, {"path": "http://127.0.0.1:9/x.png", **a_file(path)}):
        events = call(page, "segment", value, 0.5)
        assert "event: error" in events
    assert "event: error" in call(page, "progress", path)


def test_nothing_is_fetched_for_a_caller(page: Page) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bait:
        bait.settimeout(0.5)
        address = f"http://127.0.0.1:{bait.getsockname()[1]}/x.png"
        for path in (f"gradio_api/file={address}", f"gradio_api/proxy={address}", f"file={address}"):
            assert answer(page, path)[0] == 404
        assert "event: error" in call(page, "segment", a_file(address), 0.5)
        assert "event: error" in call(page, "segment", a_file(address) | {"url": address, "is_stream": True}, 0.5)
        with pytest.raises(TimeoutError):
            bait.accept()


def test_another_host_name_is_refused(page: Page) -> None:
    assert answer(page, "config", Host="evil.example")[0] == 403
    assert answer(page, "config", Host=f"localhost:{page.port}")[0] == 200


def test_only_the_routes_of_the_page_are_there(page: Page) -> None:
    for path in ("gradio_api/vibe-code", "gradio_api/runs", "monitoring", "gradio_api/profiling/traces", "docs", "dev"):
        assert answer(page, path)[0] == 404, path
    status, said = answer(page, "gradio_api/info")
    assert status == 200
    assert set(json.loads(said)["named_endpoints"]) == {"/segment", "/segment_several", "/progress", "/redraw"}


def test_pages_elsewhere_may_not_send_anything(page: Page) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert answer(page, "config", **headers)[0] == 403, headers
    assert answer(page, "config", Origin=f"http://127.0.0.1:{page.port}")[0] == 200


REDRAW = """
from PIL import Image
from redoseg.web import page as serve
def redraw(picture, *, count, seed, what, like, film):
    red = {"object": 0, "background": 60, "both": 120}[what] + (90 if like else 0) + (30 if film else 0)
    return [Image.new("RGB", picture.size, (seed + red, 0, i)) for i in range(count)]
serve.find_redraw = lambda *_, **__: redraw
"""


@pytest.fixture(scope="module")
def proxied(start_once: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page below a path, with a model that redraws."""
    allowed = ("--allow-host", "photos.example", "--root-path", "/redoseg")
    page = started(start_once, "flowers", *allowed, temporary=tmp_path_factory.mktemp("proxied"), code=REDRAW)
    yield page
    assert ends_at_once(page, signal.SIGTERM) == 143


@pytest.mark.slow
@pytest.mark.parametrize("host", ["", "photos.example", "PHOTOS.example:443"])
@pytest.mark.parametrize("origin", ["https://photos.example", "http://photos.example:8080"])
def test_a_proxy_whose_name_is_allowed(proxied: Page, host: str, origin: str) -> None:
    assert answer(proxied, "config", Host=host or f"127.0.0.1:{proxied.port}", Origin=origin)[0] == 200
    for wrong in ("https://evil.example", "null", "https://photos.example.evil.example"):
        assert answer(proxied, "config", Origin=wrong)[0] == 403
    assert answer(proxied, "config", Host="evil.example")[0] == 403


class Proxy(BaseHTTPRequestHandler):
    """A reverse proxy: passes what is below a path on, with or without that path, under a Host of its own choice."""

    target: int
    strip: bool
    host: str
    root = "/redoseg"
    added: ClassVar = {"X-Forwarded-Host": "photos.example", "X-Forwarded-Proto": "https"}

    def pass_on(self) -> None:
        if not self.path.startswith(self.root + "/"):
            return self.send_error(404)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path[len(self.root) :] if self.strip else self.path
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        headers["Host"] = self.host or f"127.0.0.1:{self.target}"
        headers |= self.added
        connection = HTTPConnection("127.0.0.1", self.target, timeout=60)
        try:
            connection.request(self.command, path, body or None, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        self.send_response(response.status)
        self.send_header("Content-Type", response.headers.get("Content-Type", ""))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = pass_on

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("strip", [True, False])
@pytest.mark.parametrize("host", ["", "photos.example", "photos.example:8443"])
def test_the_page_works_behind_a_proxy(
    proxied: Page, photograph: Path, expected: dict[str, bytes], strip: bool, host: str
) -> None:
    """What a browser would do: load the page, upload a photograph, have it cut out, and fetch the files."""
    handler = type("Handler", (Proxy,), {"target": proxied.port, "strip": strip, "host": host})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/redoseg/"
            seen = replace(proxied, address=address)
            status, text = answer(seen, "", Origin="https://photos.example")
            assert status == 200
            assert b"gradio" in text
            root = json.loads(answer(seen, "config")[1])["root"]
            assert root == "https://photos.example/redoseg"
            assert segmented(seen, photograph) == [expected["mask"], expected["cutout"], expected["soft"]]
            assert answer(seen, "config", Origin="https://evil.example")[0] == 403
            assert answer(seen, "gradio_api/vibe-code")[0] == 404
            jpeg = {"Content-Type": "image/jpeg"}
            assert answer(seen, "segment", photograph.read_bytes(), **jpeg) == (200, expected["mask"])
        finally:
            server.shutdown()


HUB = "/user/me/proxy/7860"


@pytest.fixture(scope="module")
def on_hub(start_once: Start, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A page that is started as docs/segmenting.md says for JupyterHub."""
    documented = (Path(__file__).parents[2] / "docs" / "segmenting.md").read_text()
    command = re.search(r"^redoseg serve (flowers .*proxy/7860)$", documented, re.M)
    assert command
    arguments = command[1].replace("HUB", "hub.example").replace("NAME", "me").split()
    return started(start_once, *arguments, temporary=tmp_path_factory.mktemp("hub"))


# jupyter-server-proxy removes the path and names it; with proxy/absolute it does neither. It passes on the browser's
# Host, and what stands in front of it has added: JupyterHub's proxy, and often another one before that.
SERVER_PROXY = {name: HUB for name in ("X-Forwarded-Context", "X-ProxyContextPath", "X-Forwarded-Prefix")}
HUB_PROXY = {"X-Forwarded-Host": "hub.example", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"}
TWO_PROXIES = {"X-Forwarded-Proto": "https,http", "X-Forwarded-Port": "443,8000", "X-Forwarded-For": "9.9.9.9,::1"}
NO_HTTPS = {"X-Forwarded-Host": "hub.example", "X-Forwarded-Proto": "http", "X-Scheme": "http"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strip", "added"),
    [
        (True, SERVER_PROXY),
        (True, SERVER_PROXY | HUB_PROXY),
        (True, SERVER_PROXY | HUB_PROXY | TWO_PROXIES),
        (True, SERVER_PROXY | NO_HTTPS),
        (False, HUB_PROXY | TWO_PROXIES),
    ],
    ids=["alone", "hub", "hub behind another", "https unseen", "absolute"],
)
def test_the_page_works_on_jupyterhub(
    on_hub: Page, photograph: Path, expected: dict[str, bytes], strip: bool, added: dict[str, str]
) -> None:
    values = {"target": on_hub.port, "strip": strip, "host": "hub.example", "root": HUB, "added": added}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Proxy,), values)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            seen = replace(on_hub, address=f"http://127.0.0.1:{server.server_port}{HUB}/")
            browser = {"Origin": "https://hub.example", "Sec-Fetch-Site": "same-origin", "Cookie": "_xsrf=1"}
            assert b"gradio" in answer(seen, "", **browser)[1]
            assert json.loads(answer(seen, "config", **browser)[1])["root"] == f"https://hub.example{HUB}"
            body, kind = form(photograph.name, photograph.read_bytes())
            assert answer(seen, "gradio_api/upload", body, **browser, **{"Content-Type": kind})[0] == 200
            assert segmented(seen, photograph) == [expected["mask"], expected["cutout"], expected["soft"]]
            assert answer(seen, "config", Origin="https://evil.example")[0] == 403
        finally:
            server.shutdown()


NGINX = """
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""


def documented_location() -> str:
    """What docs/segmenting.md says for nginx."""
    page = (Path(__file__).parents[2] / "docs" / "segmenting.md").read_text()
    found = re.search(r"```text\n(location .*?)```", page, re.S)
    assert found
    return found[1]


@pytest.fixture(
    params=["as documented", *(pytest.param(way, marks=pytest.mark.slow) for way in ("path left", "host passed on"))]
)
def behind_nginx(request: pytest.FixtureRequest, proxied: Page, tmp_path: Path) -> Iterator[Page]:
    """The page below a path of nginx, at the name photos.example."""
    nginx = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if nginx is None:
        pytest.skip("no nginx on this machine")
    location = documented_location()
    assert "proxy_pass http://127.0.0.1:7860/;" in location
    location = location.replace("127.0.0.1:7860/", f"127.0.0.1:{proxied.port}/")
    if request.param == "path left":
        location = location.replace(f":{proxied.port}/;", f":{proxied.port};")
    if request.param == "host passed on":
        location = location.replace("proxy_buffering", "proxy_set_header Host $host;\n    proxy_buffering")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, port=port, location=location))
    process = subprocess.Popen([nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")])
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield replace(proxied, address=f"http://127.0.0.1:{port}/redoseg/")
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_the_page_works_behind_nginx(behind_nginx: Page, photograph: Path, expected: dict[str, bytes]) -> None:
    seen = behind_nginx
    headers = {"Host": "photos.example", "Origin": "http://photos.example"}
    assert b"gradio" in answer(seen, "", **headers)[1]
    assert json.loads(answer(seen, "config", **headers)[1])["root"] == "http://photos.example/redoseg"
    body, kind = form(photograph.name, photograph.read_bytes())
    status, said = answer(seen, "gradio_api/upload", body, **headers, **{"Content-Type": kind})
    assert status == 200, said
    assert segmented(seen, photograph) == [expected["mask"], expected["cutout"], expected["soft"]]
    assert answer(seen, "config", Host="photos.example", Origin="https://evil.example")[0] == 403


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/upload/", "/redoseg/gradio_api/upload"])
def test_each_upload_is_followed_by_a_sweep(path: str, tmp_path: Path) -> None:
    swept: list[str] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert scope["path"].startswith("/gradio_api/")
        (tmp_path / str(len(swept))).write_bytes(bytes(100))

    guard = Guard(app, 1000, sweep=lambda: swept.append(tidy(tmp_path, 60, 250) or ""), root="/redoseg")
    scope = {"type": "http", "path": path, "headers": [], "method": "POST"}
    for count in range(1, 6):
        asyncio.run(guard(scope, None, None))
        assert len(swept) == count
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 250
    asyncio.run(guard(scope | {"path": "/gradio_api/info"}, None, None))
    assert len(swept) == 5


def test_the_progress_of_a_run(page: Page) -> None:
    events = call(page, "progress", "tulips")
    assert "Step 40 of 200 (20 %)" in events
    assert "masks stay grey" in events
    assert "event: error" in call(page, "progress", "roses")


# --------------------------------------------------------------------------------------------- bad requests


def garbage(chance: random.Random, photo: str, made: bytes) -> tuple[str, str, bytes, dict[str, str]]:
    """A request that no browser would send: method, path, body, headers."""

    def value(depth: int = 0) -> Any:
        kinds: list[Callable[[], Any]] = [
            lambda: None,
            lambda: chance.choice(
                [True, -1, 0.5, 1e308, 10**40, "", "../" * 20 + "etc/passwd", "\x00\ud800", "x" * 5000]
            ),
            lambda: a_file(chance.choice([photo, "/etc/passwd", "", 5, None, "http://127.0.0.1:9/", "x" * 3000])),
        ]
        if depth < 4:
            kinds.append(lambda: [value(depth + 1) for _ in range(chance.randrange(4))])
            kinds.append(lambda: {str(chance.choice(["path", "url", "meta", 3])): value(depth + 1) for _ in range(3)})
        return chance.choice(kinds)()

    kind = {"Content-Type": "application/json"}
    noise = chance.randbytes(chance.choice([0, 1, 100, 10_000]))
    match chance.randrange(9):
        case 0:  # right route, wrong values
            body = {"data": [value() for _ in range(chance.randrange(4))]}
            return (
                "POST",
                f"/gradio_api/call/{chance.choice(['segment', 'progress', 'redraw'])}",
                json.dumps(body).encode(),
                kind,
            )
        case 1:
            body = {"data": [value(), value()], "fn_index": chance.choice([0, 1, 2, 3, 99, -1, None, "x"])}
            body |= {"session_hash": chance.choice(["a", "b", None, 7]), "event_data": value()}
            return "POST", "/gradio_api/queue/join", json.dumps(body).encode(), kind
        case 2:
            route = chance.choice(
                ["call/segment", "queue/join", "upload", "cancel", "reset", "run/segment", "api/predict"]
            )
            return "POST", f"/gradio_api/{route}", chance.choice([noise, b"[" * 50_000, b"{", b"nul", b"1e999"]), kind
        case 3:
            name = chance.choice(["a.png", "../../x.png", "\x01.png", "a" * 400 + ".png", "", ".", "a.svg"])
            body, form_kind = form(name, chance.choice([noise, made, bomb()]))
            cut = body[: chance.choice([len(body), len(body) // 2])]
            return (
                "POST",
                "/gradio_api/upload",
                cut,
                {"Content-Type": chance.choice([form_kind, "multipart/form-data", "x"])},
            )
        case 4:
            place = chance.choice(
                ["/etc/passwd", "..%2f..%2fetc%2fpasswd", "%00", "C:\\x", "/proc/self/environ", photo]
            )
            return "GET", f"/gradio_api/file={place}", b"", {}
        case 5:
            name = urllib.parse.quote(noise[:100])
            return chance.choice(["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "X"]), f"/{name}", noise, {}
        case 6:  # claims another length than it has
            return (
                "POST",
                "/gradio_api/call/segment",
                noise,
                kind | {"Content-Length": chance.choice(["99999999999", "-1", "x", "3"])},
            )
        case 7:
            route = chance.choice(["upload", "call/segment"])  # the second takes no more than 1 MB
            return "POST", f"/gradio_api/{route}", bytes(chance.choice([2_500_000, 1_050_000])), kind
        case _:
            body = {"data": [a_file(photo), chance.choice([0.1, 0.5, 0.9])]}
            return "POST", "/gradio_api/call/segment", json.dumps(body).encode(), kind


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_bad_requests_leave_it_running(count: int, page: Page, photograph: Path, expected: dict[str, bytes]) -> None:
    photo = upload(page, photograph.name, photograph.read_bytes())
    right = [expected["mask"], expected["cutout"], expected["soft"]]
    assert segmented(page, photograph) == right
    before = own_memory(page.process.pid)

    def ask(number: int) -> str:
        method, path, body, headers = garbage(random.Random(number), photo, photograph.read_bytes())
        connection = HTTPConnection("127.0.0.1", page.port, timeout=20)
        try:
            connection.putrequest(method, re.sub(r"[^!-~]", "_", path))
            for name, text in ({"Content-Length": str(len(body))} | headers).items():
                connection.putheader(name, text)
            connection.endheaders()
            connection.send(body)
            if headers.get("Content-Length") in ("99999999999", "-1", "x", "3"):
                connection.sock.shutdown(socket.SHUT_WR)
            response = connection.getresponse()
            said = response.read()
            assert b"root:" not in said, path
            assert b"Traceback" not in said, path
            return str(response.status)
        except (OSError, HTTPException) as error:  # it hung up
            return type(error).__name__
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as pool:
        answers = Counter(pool.map(ask, range(count)))
    assert page.process.poll() is None
    assert {"200", "404", "413", "422"} <= set(answers), answers
    assert "TimeoutError" not in answers, answers
    give_up = time.monotonic() + 60
    while True:  # good requests among them may still fill the queue
        try:
            assert segmented(page, photograph) == right
            break
        except AssertionError:
            assert time.monotonic() < give_up, answers
            time.sleep(0.5)
    assert own_memory(page.process.pid) < before + 300 * 2**20


# -------------------------------------------------------------------------------------------------- a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    quiet = [
        "--host-resolver-rules=MAP photos.example 127.0.0.1",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=chromium, args=[*quiet, "--disable-component-update", "--disable-sync"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser: Any) -> Any:
    """Tabs share what was fetched: the page's scripts are large."""
    return browser.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True)


@pytest.mark.slow
def test_a_browser_behind_nginx(behind_nginx: Page, browser: Any, photograph: Path, expected: dict[str, bytes]) -> None:
    """To which the host has the name that is allowed."""
    port = urllib.parse.urlsplit(behind_nginx.address).port
    context = browser.new_context(accept_downloads=True)
    tab = context.new_page()
    tab.goto(f"http://photos.example:{port}/redoseg/")
    drop(tab, photograph)
    tab.wait_for_selector("#mask img")
    assert saved(tab, "mask") == ("my tulip.png", expected["mask"])
    context.close()


@pytest.mark.slow
def test_redrawings_where_the_model_makes_them(proxied: Page, context: Any, photograph: Path) -> None:
    tab = context.new_page()
    tab.goto(proxied.address + "redoseg/")
    drop(tab, photograph)
    tab.wait_for_selector("#mask img")
    tab.fill("input[aria-label*=Seed], label:has-text('Seed') input", "7")
    tab.click("#redraw")
    tab.wait_for_selector("#redrawings img")
    assert tab.locator("#redrawings .thumbnail-item img").count() == 4
    tab.close()
    photo = a_file(upload(proxied, "a.jpg", photograph.read_bytes()))
    found = json.loads(call(proxied, "redraw", photo, 2, 7, "object", None, "pictures").split("data: ")[-1])[0]
    files = [answer(proxied, "gradio_api/file=" + item["image"]["path"])[1] for item in found]
    assert all(MARK["Software"].encode() in file[:1024] for file in files)
    pictures = [opened(file) for file in files]
    assert [tuple(p[0, 0]) for p in pictures] == [(7, 0, 0), (7, 0, 1)]
    for form, kind, magic in (("animation (GIF)", "image", b"GIF8"), ("film (MP4)", "video", b"\0\0\0 ftyp")):
        (film,) = json.loads(call(proxied, "redraw", photo, 2, 7, "both", photo, form).split("data: ")[-1])[0]
        file = answer(proxied, "gradio_api/file=" + film[kind]["path"])[1]
        assert file.startswith(magic)
        if kind == "image":
            with Image.open(io.BytesIO(file)) as frame:
                assert abs(frame.convert("RGB").getpixel((0, 0))[0] - 247) < 9  # the stand-in's colour of these fields
    for wrong in ((0, 0), (13, 0), (2, -1), ("2", 0), (None, 0), (2, None), (2, 0, "sky"), (2, 0, "object", None, "?")):
        rest = ("object", None, "pictures")[len(wrong) - 2 :]
        assert "event: error" in call(proxied, "redraw", photo, *wrong, *rest)


@pytest.fixture
def tab(context: Any, page: Page) -> Iterator[Any]:
    """The page in a browser. No request of it may leave this computer, and nothing be wrong in its console."""
    tab = context.new_page()
    asked: list[str] = []
    wrong: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    tab.goto(page.address)
    yield tab
    tab.close()
    assert len(asked) > 20
    away = [url for url in asked if not url.startswith((page.address, "data:", "blob:"))]
    assert not away
    assert not [text for text in wrong if "Content Security Policy" in text or "Uncaught" in text], wrong


def drop(tab: Any, *paths: Path, onto: str = "#photo button") -> None:
    """Drop files on the page, as a hand would."""
    tab.wait_for_selector("#photo input[type=file]", state="attached")
    transfer = tab.evaluate_handle(
        """files => {
            const data = new DataTransfer();
            for (const [content, name, type] of files)
                data.items.add(new File([Uint8Array.from(atob(content), c => c.charCodeAt(0))], name, {type}));
            return data;
        }""",
        [
            [b64encode(path.read_bytes()).decode(), path.name, "image/png" if path.suffix == ".png" else "image/jpeg"]
            for path in paths
        ],
    )
    tab.dispatch_event(onto, "drop", {"dataTransfer": transfer})


def saved(tab: Any, name: str) -> tuple[str, bytes]:
    tab.wait_for_selector(f"#save-{name}:not([disabled])")
    with tab.expect_download() as download:
        tab.click(f"#save-{name}")
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_drop_see_the_mask_and_save_it(tab: Any, photograph: Path, expected: dict[str, bytes]) -> None:
    drop(tab, photograph)
    tab.wait_for_selector("#mask img")
    for name in ("overlay", "mask", "cutout"):
        shown = tab.locator(f"#{name} img")
        shown.wait_for()
        assert shown.evaluate("i => i.decode().then(() => [i.naturalWidth, i.naturalHeight])") == [300, 200]
        assert MARK["Software"].encode() in tab.request.get(shown.get_attribute("src")).body()[:1024]
    assert "300 × 200 pixels" in tab.inner_text("#said")
    assert re.search(r"Model flowers, confidence 0\.\d\d\.", tab.inner_text("#said"))
    assert saved(tab, "mask") == ("my tulip.png", expected["mask"])
    assert saved(tab, "cutout") == ("my tulip-cutout.png", expected["cutout"])
    assert saved(tab, "soft") == ("my tulip-soft.png", expected["soft"])

    tab.fill("#threshold input[type=number]", "0.8")
    tab.get_by_text("at a threshold of 0.80").wait_for()
    mask = opened(saved(tab, "mask")[1])
    assert 0 < mask.mean() < opened(expected["mask"]).mean()


@pytest.mark.slow
def test_a_photograph_is_pasted_from_the_clipboard(page: Page, browser: Any, photograph: Path) -> None:
    """Put there as another program does, and taken by the page's own button; browsers make it a PNG file."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    tab.goto(page.address)
    with Image.open(photograph) as image:
        content = io.BytesIO()
        ImageOps.exif_transpose(image).save(content, "PNG")
    tab.evaluate(
        """async content => {
            const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
            const photo = new Blob([bytes], {type: "image/png"});
            await navigator.clipboard.write([new ClipboardItem({"image/png": photo})]);
        }""",
        b64encode(content.getvalue()).decode(),
    )
    tab.click("#photo [aria-label='Paste from clipboard']")
    tab.get_by_text("300 × 200 pixels").wait_for()
    mask = opened(saved(tab, "mask")[1])
    context.close()
    alone = Segmenter("flowers")(Image.open(io.BytesIO(content.getvalue())))
    assert np.array_equal(mask > 0, alone)


@pytest.mark.slow
def test_keys_move_the_line_and_zoom(tab: Any, photograph: Path) -> None:
    drop(tab, photograph)
    line, shown = tab.locator("#compare [role=slider]"), tab.locator("#compare img").first
    line.wait_for()
    for image in tab.locator("#compare img").all():
        assert image.evaluate("i => i.decode().then(() => [i.naturalWidth, i.naturalHeight])") == [300, 200]
    assert "arrow keys" in line.get_attribute("aria-label")
    line.focus()
    before = line.bounding_box()["x"]
    tab.keyboard.press("ArrowRight")
    tab.wait_for_timeout(300)
    assert line.bounding_box()["x"] == pytest.approx(before + 20, abs=2)
    assert int(line.get_attribute("aria-valuenow")) > 50
    assert "scale(1)" in shown.get_attribute("style")
    tab.keyboard.press("+")
    tab.wait_for_timeout(300)
    assert "scale(1)" not in shown.get_attribute("style")


@pytest.mark.slow
def test_a_mask_is_painted_over_and_saved(tab: Any, photograph: Path, expected: dict[str, bytes]) -> None:
    drop(tab, photograph)
    tab.wait_for_selector("#mask img")
    tab.get_by_role("tab", name="Correct").click()
    tab.click("#open-mask")
    tab.wait_for_selector("#editor canvas")
    tab.wait_for_timeout(5000)  # it draws a while after its canvas is there
    box = tab.locator("#editor canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x + 20, y, steps=5)
    tab.mouse.up()
    tab.wait_for_timeout(2000)
    tab.click("#save-corrected")
    tab.get_by_text("my tulip.jpg is saved, with its mask.").wait_for()
    tab.wait_for_selector("#save-corrections:not([disabled])")
    with tab.expect_download() as download:
        tab.click("#save-corrections")
    with zipfile.ZipFile(download.value.path()) as packed:
        assert packed.read("corrected/images/my tulip.jpg") == photograph.read_bytes()
        mask = opened(packed.read("corrected/masks/my tulip.png"))
    given = opened(expected["mask"])
    assert mask.shape == given.shape
    assert mask[100, 150:160].all(), "what was painted is the object"
    far = np.ones(mask.shape, bool)
    far[60:140, 110:215] = False
    np.testing.assert_array_equal(mask[far], given[far])


@pytest.mark.slow
def test_an_example_is_tried_with_a_click(tab: Any) -> None:
    tab.click("button.gallery-item")
    tab.wait_for_selector("#mask img")


@pytest.mark.slow
def test_what_cannot_be_used_is_reported_on_the_page(tab: Any, tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb())
    drop(tab, tmp_path / "bomb.png")
    tab.get_by_text("bomb.png: it has more than 2 million pixels").wait_for()
    tab.reload()
    (tmp_path / "large.png").write_bytes(bytes(1_100_000))
    drop(tab, tmp_path / "large.png")
    tab.get_by_text("exceed the maximum allowed size").wait_for()
    assert not tab.locator("#mask img").count()


@pytest.mark.slow
def test_of_several_photographs_the_page_names_the_one_it_takes(tab: Any, photograph: Path) -> None:
    drop(tab, *[photograph] * 3)
    tab.wait_for_selector("#mask img")
    tab.get_by_text("3 photographs were dropped. This tab takes one at a time, the first: my tulip.jpg").wait_for()
    tab.reload()
    drop(tab, photograph)
    tab.wait_for_selector("#mask img")
    assert tab.locator("#several").inner_text() == ""


@pytest.mark.slow
def test_they_are_named_also_where_gradio_makes_the_line_late_or_again(tab: Any, photograph: Path) -> None:
    tab.wait_for_selector("#several", state="attached")
    make = """() => {
        const line = document.createElement("p");
        line.id = "several";
        document.body.append(line);
    }"""
    tab.evaluate("() => document.getElementById('several').remove()")
    drop(tab, photograph, photograph)
    tab.evaluate(make)
    tab.get_by_text("2 photographs were dropped.").wait_for()
    tab.evaluate("() => document.getElementById('several').remove()")
    tab.evaluate(make)
    tab.get_by_text("2 photographs were dropped.").wait_for()


# other contents: test_what_is_no_photograph_is_refused_in_one_line
@pytest.mark.slow
@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0" + b"x" * 200, b""])
def test_a_broken_file_leaves_its_reason_and_no_broken_image(tab: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a_b_[c].jpg").write_bytes(content)
    drop(tab, tmp_path / "a_b_[c].jpg")
    tab.get_by_text("That did not work. a_b_[c].jpg: ").wait_for()
    tab.wait_for_selector("#photo img", state="detached")
    time.sleep(0.5)  # the page asks again, without a photograph
    assert "That did not work. a_b_[c].jpg: " in tab.inner_text("#said")
    assert not tab.locator("#mask img").count()


BROKEN = {
    "broken": b"\xff\xd8\xff\xe0" + b"x" * 200,
    "empty": b"",
    "bomb": bomb(),
    "large": bytes(1_100_000),
    "web page": b"<html></html>",
}


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [("broken", "empty", "empty"), ("bomb", "large", "web page")])
def test_each_of_several_broken_files_has_its_reason_and_a_photograph_follows(
    tab: Any, photograph: Path, expected: dict[str, bytes], tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    """Though gradio makes the component again, which would then decode photographs itself, in its own way."""
    for number, kind in enumerate(kinds):
        (tmp_path / f"{kind}{number}.jpg").write_bytes(BROKEN[kind])
        drop(tab, tmp_path / f"{kind}{number}.jpg")
        if kind == "large":
            tab.get_by_text("exceed the maximum allowed size").last.wait_for()
        else:
            tab.get_by_text(f"That did not work. {kind}{number}.jpg: ").wait_for(timeout=8000)
        tab.wait_for_selector("#photo img", state="detached")
    Image.new("RGB", (30, 20)).save(tmp_path / "another.png")
    drop(tab, tmp_path / "another.png")
    tab.get_by_text("30 × 20 pixels").wait_for(timeout=8000)
    drop(tab, photograph, onto="#photo img")
    tab.get_by_text("300 × 200 pixels").wait_for(timeout=8000)
    assert saved(tab, "mask") == ("my tulip.png", expected["mask"])


@pytest.mark.slow
def test_the_second_tab_follows_a_run(tab: Any, run_folder: Path) -> None:
    tab.get_by_role("tab", name="Training").click()
    tab.get_by_text("Step 40 of 200 (20 %)").wait_for()
    tab.wait_for_selector("#curves img")
    tab.wait_for_selector("#samples img")
    log = run_folder / "log.jsonl"
    before = log.read_text()
    line = {"step": 80, "restarts": 0, "seconds": 900.0, "steps_per_s": 0.5, "sizes": [0.4, 0.6], "health": "healthy"}
    try:
        log.write_text(before + "\n" + json.dumps(line) + "\n")
        tab.get_by_role("button", name="Look again").click()
        tab.get_by_text("Step 80 of 200 (40 %)").wait_for()
    finally:
        log.write_text(before)


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_window(tab: Any, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    tab.wait_for_selector("#threshold")
    for name in ("Several", "Correct", "Training", "Cut out"):
        tab.get_by_role("tab", name=name).click()
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator("#photo").bounding_box()["width"] > 0.25 * width


# ------------------------------------------------------------------------------------------------ without a page


class Counting:
    """A segmenter that counts how often it is asked."""

    name = "counting"

    def __init__(self) -> None:
        self.asked = 0

    def soft_mask(self, photo: Photo) -> tuple[SoftMask, float]:
        self.asked += 1
        return SoftMask.of(np.linspace(0, 1, photo.pixels, dtype=np.float32).reshape(photo.size[::-1])), 0.9


def test_another_threshold_asks_the_network_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (50, 40), "red").save(tmp_path / "a.png")
    segmenter = Counting()
    cuts = Cuts(segmenter, 10_000)
    for threshold in (0.5, 0.25, 0.75):
        cuts.previews(tmp_path / "a.png", threshold)
        mask = read_image(cuts.files(tmp_path / "a.png", threshold, tmp_path)[0])
        assert np.asarray(mask).mean() / 255 == pytest.approx(1 - threshold, abs=0.001)
    assert segmenter.asked == 1


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    segmenter = Counting()
    cuts = Cuts(segmenter, 10_000)
    for i in range(10):
        Image.new("RGB", (50, 60), (i, 0, 0)).save(tmp_path / f"{i}.png")
        cuts.of(tmp_path / f"{i}.png")
    assert len(cuts._kept) == 3
    cuts.of(tmp_path / "9.png")
    assert segmenter.asked == 10
    cuts.of(tmp_path / "0.png")
    assert segmenter.asked == 11


@pytest.mark.parametrize("kept", [False, True])
def test_what_is_worked_on_counts_as_in_memory(kept: bool, tmp_path: Path) -> None:
    """Also once others have made the page forget it."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (50, 60)).save(tmp_path / name)
    cuts = Cuts(Counting(), 3000)
    cuts.room = Room(5000)
    if kept:
        cuts.of(tmp_path / "a.png")
    others = threading.Thread(target=cuts.of, args=(tmp_path / "b.png",))
    with cuts.held(tmp_path / "a.png"):
        others.start()
        others.join(0.1)
        assert others.is_alive()  # it waits for room
    others.join(20)
    assert [Path(path).name for path, _ in cuts._kept] == ["b.png"]


def test_a_preview_is_small_and_a_file_is_not(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 30)).save(tmp_path / "a.png")
    cuts = Cuts(Counting(), 10**6)
    assert {p.size for p in cuts.previews(tmp_path / "a.png", 0.5)[0]} == {(1024, 10)}
    assert {read_image(p).size for p in cuts.files(tmp_path / "a.png", 0.5, tmp_path)} == {(3000, 30)}


@pytest.mark.parametrize(("confidence", "doubtful"), [(0.95, False), (0.71, False), (0.69, True), (0.0, True)])
def test_the_page_names_model_confidence_and_doubt(confidence: float, doubtful: bool, tmp_path: Path) -> None:
    class Unsure(Counting):
        def soft_mask(self, photo: Photo) -> tuple[SoftMask, float]:
            return super().soft_mask(photo)[0], confidence

    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    words = Cuts(Unsure(), 10_000).previews(tmp_path / "a.png", 0.5)[1]
    assert f"Model counting, confidence {confidence:.2f}." in words
    assert ("looks doubtful" in words) == doubtful


def test_a_photograph_that_has_gone(tmp_path: Path) -> None:
    for path in (tmp_path / "a.png", Path("\0.png")):
        with pytest.raises(DataError, match="Drop it again"):
            Cuts(Counting(), 100).of(path)


def test_old_files_go_and_so_do_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    for i in range(4):
        path = tmp_path / str(i) / "x.png"
        path.parent.mkdir()
        path.write_bytes(bytes(100))
        os.utime(path, (now + i, now + i))
    tidy(tmp_path, 60, 250)
    assert sorted(p.parent.name for p in tmp_path.rglob("*.png")) == ["2", "3"]
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    tidy(tmp_path, 60, 250)
    assert not list(tmp_path.iterdir())  # nor do empty folders stay


def test_progress_in_words(run_folder: Path, tmp_path: Path) -> None:
    seen = run_progress(run_folder)
    assert "**Step 40 of 200 (20 %)**, 10 min so far, about 5 min left" in seen.words
    assert "The regions cover 40 % and 60 %" in seen.words
    assert "at step 20: IoU 0.500" in seen.words
    assert "**masks stay grey**: in a new run, raise --optim.extractor-rate" in seen.words
    assert seen.curves
    assert seen.curves.size == (100, 80)
    assert seen.samples
    assert seen.samples.size == (60, 20)

    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    outcome = {"step": 40, "steps": 200, "collapsed": False, "stopped": True}
    (folder / "outcome.json").write_text(json.dumps(outcome))
    assert "**Stopped by hand at step 40 of 200**" in run_progress(folder).words
    (folder / "outcome.json").write_text(json.dumps({"step": 40, "steps": 200, "health": "diverged"}))
    assert "**Diverged** at step 40" in run_progress(folder).words
    assert "lower the learning rates" in run_progress(folder).words
    (folder / "outcome.json").unlink()
    (folder / "log.jsonl").write_text('{"odd": 1}\n')  # no entry of a run: it is skipped
    assert "has no line yet" in run_progress(folder).words
    (folder / "log.jsonl").unlink()
    assert "has no line yet" in run_progress(folder).words
    (folder / "log.jsonl").mkdir()
    with pytest.raises(DataError, match=r"log.jsonl cannot be read \(not a file\), but must be a file of a run"):
        run_progress(folder)
    with pytest.raises(DataError, match="does not exist"):
        run_progress(tmp_path / "nothing")


def test_progress_of_a_real_run(trained: Any) -> None:
    seen = run_progress(trained.folder)
    assert "**Finished**, 12 steps" in seen.words
    assert seen.curves
    assert seen.samples


def test_what_is_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "example.org", "")))


def test_a_port_in_use_is_one_line(page: Page, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "redoseg", "serve", "--port", str(page.port)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    assert "choose another --port" in said.stderr


@pytest.mark.parametrize(
    "settings", [{"port": 70_000}, {"host": "no.such.host.invalid"}, {"max_mb": 0}, {"max_megapixels": 500}]
)
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError), serve.serving(**settings):
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_only_an_open_page_warns(
    host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "serving", lambda **_: contextlib.nullcontext(f"http://{host}:1/"))
    monkeypatch.setattr("threading.Event.wait", lambda *_: None)
    assert run_command(["serve", "flowers", "--host", host]) == 0
    said = capsys.readouterr()
    warned = said.err.startswith("redoseg: every computer that reaches 0.0.0.0 can use the page, without a password;")
    assert warned == (host == "0.0.0.0")
    assert said.out == f"the page is at http://{host}:1/ (Ctrl-C ends it)\n"


@pytest.mark.slow  # a third server: the two above show how they end
def test_an_open_page_answers_warns_and_ends_at_once(start: Start, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    page = started(start, "flowers", "--host", "0.0.0.0", temporary=tmp_path / "served")
    assert answer(page, "config", Host="photos.example")[0] == 200
    assert ends_at_once(page, signal.SIGTERM) == 143
    assert page.log.read_text().startswith("redoseg: every computer that reaches 0.0.0.0")
