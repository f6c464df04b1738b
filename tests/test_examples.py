"""The small examples for other programs, run against requests as these programs send them (tests/recorded/)."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from redoseg import Segmenter
from redoseg.inference.segment_files import segment_paths
from redoseg.web.guard import free_port

ROOT = Path(__file__).parents[1]
EXAMPLES, RECORDED = ROOT / "examples", ROOT / "tests" / "recorded"


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def recorded(name: str) -> Any:
    return json.loads((RECORDED / name).read_text())


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of the recorded request."""
    path = tmp_path_factory.mktemp("photographs") / "photo.jpg"
    path.write_bytes(base64.b64decode(recorded("cvat-request.json")["image"]))
    return path


@pytest.fixture(scope="module")
def expected(photograph: Path, tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.bool_]:
    """The mask that `redoseg segment` writes."""
    out = tmp_path_factory.mktemp("segmented") / "mask.png"
    segment_paths(Segmenter("flowers"), photograph, out)
    with Image.open(out) as mask:
        found = np.asarray(mask) > 0
    assert 0.01 < found.mean() < 0.9
    return found


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_the_examples_are_small() -> None:
    for path in (EXAMPLES / "label_studio" / "backend.py", EXAMPLES / "cvat" / "main.py"):
        assert len(path.read_text().splitlines()) <= 90


# ------------------------------------------------------------------------------------------------------------ CVAT


def context() -> Any:
    return SimpleNamespace(user_data=SimpleNamespace(), Response=SimpleNamespace)


def test_cvat_gets_the_mask(expected: NDArray[np.bool_]) -> None:
    main, nuclio, request = module(EXAMPLES / "cvat" / "main.py"), context(), recorded("cvat-request.json")
    main.init_context(nuclio)
    answer = main.handler(nuclio, SimpleNamespace(body=request))
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    (found,) = json.loads(answer.body)
    assert found["type"] == "mask"
    *pixels, left, top, right, bottom = found["mask"]
    mask = np.zeros((request["height"], request["width"]), bool)
    mask[top : bottom + 1, left : right + 1] = np.reshape(pixels, (bottom + 1 - top, right + 1 - left))
    np.testing.assert_array_equal(mask, expected)
    assert len(found["points"]) >= 6
    again = main.handler(nuclio, SimpleNamespace(body=json.dumps(request).encode()))
    assert again.body == answer.body
    assert json.loads(main.handler(nuclio, SimpleNamespace(body=request | {"threshold": 1.0})).body) == []
    for broken in ({"image": "x"}, {}, {"image": base64.b64encode(b"garbage").decode()}):
        refused = main.handler(nuclio, SimpleNamespace(body=broken))
        assert (refused.status_code, list(json.loads(refused.body))) == (400, ["error"])


def test_cvats_function_is_described() -> None:
    yaml = pytest.importorskip("yaml")
    function = yaml.safe_load((EXAMPLES / "cvat" / "function.yaml").read_text())
    (label,) = json.loads(function["metadata"]["annotations"]["spec"])
    main = module(EXAMPLES / "cvat" / "main.py")
    assert (label["name"], label["type"]) == (main.LABEL, "mask")
    name, function_name = function["spec"]["handler"].split(":")
    assert (name, callable(getattr(main, function_name))) == ("main", True)


# ------------------------------------------------------------------------------------------------------- a notebook


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # pictures that a notebook would show
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = json.loads((EXAMPLES / "redoseg.ipynb").read_text())
    assert (notebook["nbformat"], len({cell["id"] for cell in notebook["cells"]})) == (4, len(notebook["cells"]))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells), "clear its outputs"
    monkeypatch.chdir(tmp_path)
    for again in range(2):  # who runs all cells once more meets the files of the first time
        names: dict[str, Any] = {}
        for cell in cells:
            exec(compile("".join(cell["source"]), f"cell {cell['id']}", "exec"), names)
        assert names["strict"].sum() < names["mask"].sum(), again
        assert names["report"].done == 3
    with Image.open("results/mask/0.png") as written:
        np.testing.assert_array_equal(np.asarray(written) > 0, names["mask"])
    with Image.open("cutout.png") as cut:
        assert cut.mode == "RGBA"
    assert Path("results/labelme/0.json").is_file()
    assert "3 pictures" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------- Label Studio


@contextmanager
def label_studio(photograph: Path) -> Iterator[str]:
    """A server that has the picture of the task, for those who have the token."""

    class Pictures(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/data/upload/4/76606931-tulip.jpg" and self.headers["Authorization"] == "Token abc"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(photograph.read_bytes() if known else b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def unpacked(code: list[int]) -> NDArray[np.uint8]:
    """The values of a run-length code as Label Studio reads them (@thi.ng/rle-pack)."""
    bits = "".join(f"{byte:08b}" for byte in code)
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, word = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        repeated, length = take(1), take(lengths[take(2)]) + 1
        values += [take(word)] * length if repeated else [take(word) for _ in range(length)]
    return np.array(values, np.uint8)


def test_label_studio_gets_the_mask(
    photograph: Path, expected: NDArray[np.bool_], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi")
    from redoseg.web.listen import listening

    backend = module(EXAMPLES / "label_studio" / "backend.py")

    def asked(path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(address + path, data, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)

    with label_studio(photograph) as home, listening(backend.app, "127.0.0.1", free_port("127.0.0.1", 0)) as address:
        monkeypatch.setenv("LABEL_STUDIO_URL", home)
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", "abc")
        assert asked("health")["status"] == "UP"
        assert asked("setup", recorded("label-studio-setup.json")) == {"model_version": "flowers"}
        assert asked("webhook", {"action": "ANNOTATION_CREATED"}) == {}
        request = recorded("label-studio-predict.json")
        (prediction,) = asked("predict", request)["results"]
        (result,) = prediction["result"]
        assert (result["from_name"], result["to_name"], result["type"]) == ("brush", "photo", "brushlabels")
        assert result["value"]["brushlabels"] == ["Petal"]
        size = result["original_height"], result["original_width"]
        mask = unpacked(result["value"]["rle"]).reshape(*size, 4)[..., 3] > 0
        assert iou(mask, expected) == 1
        assert prediction["score"] == pytest.approx(Segmenter("flowers").predict(photograph).confidence, abs=1e-3)
        request["tasks"][0]["data"]["url"] = "/data/upload/4/other.jpg"
        with pytest.raises(HTTPError, match="422"):
            asked("predict", request)
        request["tasks"][0]["data"]["url"] = "file:///etc/passwd"
        with pytest.raises(HTTPError, match="422"):
            asked("predict", request)
        with pytest.raises(HTTPError, match="422"):
            asked("predict", request | {"label_config": "<View/>"})


def test_the_token_is_sent_to_label_studio_alone(photograph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    backend = module(EXAMPLES / "label_studio" / "backend.py")
    with label_studio(photograph) as elsewhere:
        monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", "abc")
        with pytest.raises(HTTPError, match="404"):  # it has the picture only for those with the token
            backend.fetched(f"{elsewhere}/data/upload/4/76606931-tulip.jpg")


def test_the_docs_name_the_examples() -> None:
    page = (ROOT / "docs" / "serving.md").read_text()
    named = re.findall(r"`(examples/[\w/.]+)`", page)
    assert {"examples/label_studio/backend.py", "examples/cvat/", "examples/redoseg.ipynb"} <= set(named)
    assert all((ROOT / name).exists() for name in named)
