"""The HTTP interface: it answers with the command line's files, does what its schema says, and refuses in a line."""

import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from redoseg.cli.main import run_command
from redoseg.data.shapes import generate
from redoseg.errors import ConfigError
from redoseg.inference.doubt import DOUBTFUL
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter
from redoseg.web import api as interface
from redoseg.web.page import serving

pytest.importorskip("fastapi")
Start = Callable[..., subprocess.Popen[str]]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: HTTPMessage
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def why(self) -> str:
        """What a refused request gets: one line and nothing else."""
        found = self.json
        assert list(found) == ["error"]
        assert found["error"]
        assert "\n" not in found["error"]
        return str(found["error"])


def asked(address: str, path: str, body: Any = None, method: str = "", **headers: str) -> Answer:
    connection = HTTPConnection(address.split("/")[2], timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        method = method or ("GET" if body is None else "POST")
        connection.request(method, path, body, named, encode_chunked=not isinstance(body, bytes | None))
        response = connection.getresponse()
        return Answer(response.status, response.msg, response.read())
    finally:
        connection.close()


def form(content: bytes, name: str = "photo.jpg", field: str = "file") -> tuple[bytes, str]:
    head = f'--edge\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--edge--\r\n", "multipart/form-data; boundary=edge"


def sent(address: str, content: bytes, query: str = "", name: str = "photo.jpg") -> Answer:
    body, kind = form(content, name)
    return asked(address, f"/segment{query}", body, Content_Type=kind)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(model="flowers", port=0, max_mb=1, max_megapixels=2, page=False) as address:
        yield address


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG file that lies on its side."""
    path = tmp_path_factory.mktemp("photographs") / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(generate("shapes", 1, 300, seed=3)[0][0]).crop((0, 50, 300, 250)).save(path, exif=exif)
    return path


def png(width: int, height: int) -> bytes:
    """The head of a PNG file of this size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))

    header = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))


SAME: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("?as=soft", {"kind": "soft"}),
    ("?as=cutout&crop=true", {"kind": "cutout", "crop": True}),
    ("?as=overlay&threshold=0.3", {"kind": "overlay", "threshold": 0.3}),
    ("?clean=false", {"cleaning": None}),
    ("?edges=plain", {"edges": "plain"}),
]


@pytest.mark.every(5)
@pytest.mark.parametrize(("query", "options"), SAME, ids=lambda value: str(value))
def test_the_answer_is_the_file_that_the_command_line_writes(
    address: str, photograph: Path, tmp_path: Path, query: str, options: dict[str, Any]
) -> None:
    edges = options.get("edges", "guided")
    rest = {name: value for name, value in options.items() if name != "edges"}
    segment_paths(Segmenter("flowers", edges=edges), photograph, tmp_path / "result.png", **rest)
    answer = sent(address, photograph.read_bytes(), query)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/png")
    assert answer.content == (tmp_path / "result.png").read_bytes()
    confidence = Segmenter("flowers").predict(photograph).confidence
    assert float(answer.headers["Redoseg-Confidence"]) == pytest.approx(confidence, abs=1e-4)
    assert answer.headers["Redoseg-Doubtful"] == str(confidence < DOUBTFUL).lower()


def test_the_photograph_may_be_the_body(address: str, photograph: Path) -> None:
    content = photograph.read_bytes()
    expected = sent(address, content).content
    for kind in ("image/jpeg", "application/octet-stream", "image/png; charset=x"):
        assert asked(address, "/segment", content, Content_Type=kind).content == expected
    assert (
        asked(address, "/segment", iter([content[:100], content[100:]]), Content_Type="image/jpeg").content == expected
    )


@pytest.mark.parametrize(
    ("content", "status", "why"),
    [
        (b"", 400, "a.jpg: an empty file"),
        (png(30, 20), 400, "a.jpg: cannot be read"),
        (png(60_000, 60_000), 413, "a.jpg: it has more than 2 million pixels"),
        (bytes(1_100_000), 413, "a.jpg has more than 1 MB"),
        (b"garbage" * 50, 415, "a.jpg: not a picture of a known format"),
        (b"<html><body>", 415, "a.jpg: a web page (HTML), not a picture"),
    ],
)
def test_what_is_no_photograph_is_refused(address: str, content: bytes, status: int, why: str) -> None:
    answer = sent(address, content, name="../../etc/a.jpg")
    assert answer.status == status
    assert why in answer.why
    assert "etc" not in answer.why


def test_what_is_too_large_to_be_received_is_refused(address: str) -> None:
    answer = asked(address, "/segment", b"", Content_Length=str(10**9), Content_Type="image/png")
    assert (answer.status, answer.why) == (413, "The request has more than 2 MB. Send less at a time.")
    pieces = iter([bytes(2**16)] * 40)  # 2.5 MB, whose length nobody gives
    answer = asked(address, "/segment", pieces, Content_Type="image/png")
    assert (answer.status, answer.why) == (413, "The request has more than 2 MB. Send less at a time.")
    body, _ = form(bytes(2**21 + 2**19))
    pieces = iter([body[at : at + 2**16] for at in range(0, len(body), 2**16)])
    answer = asked(address, "/segment", pieces, Content_Type="multipart/form-data; boundary=edge")
    assert answer.status == 413
    assert answer.why


@pytest.mark.parametrize(
    ("body", "kind", "status", "why"),
    [
        (form(b"x", field="photo")[0], form(b"")[1], 400, "The form has no file in the field 'file'."),
        (b"--edge--", form(b"")[1], 400, "The form "),
        (b"nothing", "multipart/form-data", 400, "The form cannot be read (Missing boundary"),
        (b"{}", "application/json", 415, "The request is of type application/json, but must be a photograph."),
        (b"x", "application/x-www-form-urlencoded", 415, "curl -F file=@photo.jpg"),
    ],
)
def test_another_body_is_refused(address: str, body: bytes, kind: str, status: int, why: str) -> None:
    answer = asked(address, "/segment", body, Content_Type=kind)
    assert answer.status == status
    assert why in answer.why


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("as=maks", "as is 'maks', but must be 'mask', 'soft', 'cutout' or 'overlay'."),
        ("threshold=2", "threshold is '2', but must be less than or equal to 1."),
        ("threshold=nan", "threshold is 'nan', but must be"),
        ("treshold=0.3", "'treshold' is not a parameter of /segment. Choose from as, threshold, edges, clean, crop."),
        ("edges=sharp", "edges is 'sharp', but must be 'guided', 'plain' or 'grabcut'."),
        ("clean=perhaps", "clean is 'perhaps', but must be a valid boolean"),
        ("as=cutout&crop=true&threshold=1", "photo.jpg: no object was found to crop to."),
        ("crop=true&threshold=1", "photo.jpg: no object was found to crop to."),
    ],
)
def test_a_wrong_parameter_is_refused(address: str, photograph: Path, query: str, why: str) -> None:
    answer = sent(address, photograph.read_bytes(), "?" + query)
    assert answer.status == 422, answer.content
    assert why in answer.why


def test_model_and_health(address: str) -> None:
    assert asked(address, "/health").json == {"status": "ok"}
    model, segmenter = asked(address, "/model").json, Segmenter("flowers")
    assert (model["name"], model["size"], model["object_region"]) == ("flowers", 128, segmenter.object_region)
    assert (model["doubtful_below"], model["max_mb"], model["max_megapixels"]) == (DOUBTFUL, 1, 2)


def test_what_is_not_there_is_a_line(address: str, photograph: Path) -> None:
    assert "Choose one of /health, /model" in asked(address, "/config").why
    for method, path, status in (("GET", "/docs", 404), ("GET", "/segment", 405), ("POST", "/model", 405)):
        answer = asked(address, path, method=method)
        assert answer.status == status
        assert answer.why


def test_other_hosts_and_pages_are_refused(address: str) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
        answer = asked(address, "/model", **headers)
        assert answer.status == 403
        assert answer.why


def test_too_many_at_a_time_are_refused(address: str, photograph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "WAITING", 0)
    answer = sent(address, photograph.read_bytes())
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
    assert answer.why
    assert asked(address, "/health").status == 200


def test_a_request_that_takes_too_long_is_ended(
    address: str, photograph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interface, "_PATIENCE", 0)
    answer = sent(address, photograph.read_bytes())
    assert answer.status == 408
    assert answer.why


@pytest.mark.parametrize("share", [0, 0.3, 0.999])
@pytest.mark.parametrize("how", ["form", "form in chunks", "body", "wrong chunk"])
def test_a_sender_that_breaks_off_leaves_no_trace(
    how: str, share: float, address: str, photograph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host, port = address.removeprefix("http://").strip("/").split(":")
    body, kind = form(photograph.read_bytes())
    if how == "body":
        body, kind = photograph.read_bytes(), "image/jpeg"
    length = f"Content-Length: {len(body)}" if how in ("form", "body") else "Transfer-Encoding: chunked"
    head = f"POST /segment HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: {kind}\r\n{length}\r\n\r\n".encode()
    part = body[: int(share * len(body))]
    if "chunk" in how:
        part = b"%x\r\n%b\r\n" % (len(part), part) if part else b""
        part += b"zz\r\n" if how == "wrong chunk" else b""
    for close in (b"\0" * 8, b"\1\0\0\0" * 2):  # as usual, and with a reset
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head + part)
            time.sleep(0.05)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, close)
    assert sent(address, photograph.read_bytes()).status == 200
    assert "Traceback" not in capsys.readouterr().err


def test_a_name_without_filename_is_said_so(address: str, photograph: Path) -> None:
    """Some clients send letters beyond ASCII as filename*, which forms must not have."""
    body, kind = form(photograph.read_bytes())
    body = body.replace(b'filename="photo.jpg"', b"filename*=UTF-8''%e2%82%ac.jpg")
    refused = asked(address, "/segment", body, **{"Content-Type": kind})
    assert refused.status == 400
    assert 'has a text, not a file with filename="..." in the field' in refused.json["error"]


def test_a_failure_of_ours_is_a_line(
    address: str, photograph: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("a mistake")

    monkeypatch.setattr(interface.Work, "make", fail)
    answer = sent(address, photograph.read_bytes())
    assert (answer.status, "Something in redoseg failed" in answer.why) == (500, True)
    assert "ValueError: a mistake" in capfd.readouterr().err


# ----------------------------------------------------------------------------------------------------- the schema


def test_the_schema_says_what_is_done(address: str, photograph: Path) -> None:
    schema = asked(address, "/openapi.json").json
    assert set(schema["paths"]) == {"/segment", "/model", "/health"}
    operation = schema["paths"]["/segment"]["post"]
    assert set(operation["responses"]) == {"200", "400", "408", "413", "415", "422", "500", "503"}
    assert list(operation["responses"]["200"]["content"]) == ["image/png"]
    for status, response in operation["responses"].items():
        if status != "200":
            reference = response["content"]["application/json"]["schema"]["$ref"]
            assert reference == "#/components/schemas/Problem", status
    assert schema["components"]["schemas"]["Problem"]["required"] == ["error"]
    body = operation["requestBody"]["content"]
    assert body["multipart/form-data"]["schema"]["required"] == ["file"]
    assert {"image/*", "application/octet-stream"} < set(body)
    answer = sent(address, photograph.read_bytes(), "?as=cutout")
    assert set(operation["responses"]["200"]["headers"]) >= {n for n in answer.headers if n.startswith("Redoseg")}


def test_every_parameter_of_the_schema_is_taken(address: str, photograph: Path) -> None:
    schema = asked(address, "/openapi.json").json
    parameters = schema["paths"]["/segment"]["post"]["parameters"]
    assert [one["name"] for one in parameters] == ["as", "threshold", "edges", "clean", "crop"]
    for one in parameters:
        assert not one["required"]
        assert one["description"]
        known = one["schema"]
        values = known.get("enum") or (
            [known["minimum"], known["maximum"]] if "minimum" in known else ["true", "false"]
        )
        for value in values:
            more = "&threshold=0.01" if one["name"] == "crop" else ""
            answer = sent(address, photograph.read_bytes(), f"?{one['name']}={value}{more}")
            assert answer.status == 200, (one["name"], value, answer.content)
        default = sent(address, photograph.read_bytes(), f"?{one['name']}={str(known['default']).lower()}")
        assert default.content == sent(address, photograph.read_bytes()).content, one["name"]
    fields = set(schema["components"]["schemas"]["Model"]["properties"])
    assert set(asked(address, "/model").json) == fields


# --------------------------------------------------------------------------------------------- alone, and its end

WITHOUT = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "gradio", "safetensors", "matplotlib", "cv2", "pandas"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
import runpy
sys.argv[0] = "redoseg"
runpy.run_module("redoseg", run_name="__main__")
"""


def alone(start: Start, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """The interface in a process that has neither gradio nor torch."""
    command = ["-c", WITHOUT, "serve", "flowers", "--no-page", "--port", "0", *arguments]
    process = start(*command, env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert process.stdout
    said = re.match(r"the interface is at (http://\S+) ", process.stdout.readline())
    assert said, process.stderr and process.stderr.read()
    return process, said[1]


@pytest.mark.slow
@pytest.mark.every(2)
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_needs_no_gradio_and_ends_at_once(start: Start, photograph: Path, stop: signal.Signals, code: int) -> None:
    process, address = alone(start)
    assert np.asarray(Image.open(io.BytesIO(sent(address, photograph.read_bytes()).content))).any()
    waiting = HTTPConnection(address.split("/")[2], timeout=60)
    waiting.request("GET", "/health")
    assert waiting.getresponse().status == 200
    slow = HTTPConnection(address.split("/")[2], timeout=60)
    slow.putrequest("POST", "/segment")
    slow.putheader("Content-Type", "image/jpeg")
    slow.putheader("Content-Length", "100000")
    slow.endheaders(b"half of it")
    busy = HTTPConnection(address.split("/")[2], timeout=60)  # it is worked on for some seconds
    large = io.BytesIO()
    Image.new("RGB", (7000, 7000), "red").save(large, "JPEG")
    busy.request("POST", "/segment?edges=guided", large.getvalue(), {"Content-Type": "image/jpeg"})
    time.sleep(0.3)
    begun = time.monotonic()
    process.send_signal(stop)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - begun < 2 * (1 + os.getloadavg()[0] / (os.cpu_count() or 1))
    assert process.returncode == code
    assert said.count("\n") == 1
    assert "Traceback" not in said
    for connection in (waiting, slow, busy):
        connection.close()


def test_below_a_path_and_under_another_name() -> None:
    with serving(page=False, port=0, allow_host=["photos.example"], root_path="/redoseg") as address:
        for path in ("/redoseg/model", "/model"):
            for host in ("photos.example", "PHOTOS.example:443"):
                assert asked(address, path, Host=host, Origin="https://photos.example").status == 200
        assert asked(address, "/redoseg/openapi.json").json["servers"] == [{"url": "."}]


def test_options_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="--no-page cannot be combined"):
        run_command(["serve", "--no-page", "--run", "runs/x"])
    with pytest.raises(ConfigError, match="--max-mb is 0"), serving(page=False, max_mb=0):
        pass


def test_without_gradio_the_page_is_a_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "serve"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert 'pip install "redoseg[serve]"' in done.stderr
