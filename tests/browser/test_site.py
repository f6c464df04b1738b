"""What `export --web` writes, and where ONNX Runtime Web comes from. No browser and no network."""

from __future__ import annotations

import functools
import gzip
import hashlib
import html
import io
import json
import re
import tarfile
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from redoseg import RedrawModel, Segmenter
from redoseg.browser import runtime
from redoseg.browser.runtime import NAME, SCRIPT, WASM, find_runtime, plain_script
from redoseg.browser.site import SCRIPTS, write_site
from redoseg.cli.main import run_command
from redoseg.errors import ConfigError, DataError, ModelError, RedosegError
from redoseg.files import cache_dir
from redoseg.inference.model_file import find_model

ROOT = Path(__file__).parents[2]
MODULE = b"var a=1,b=2,c=3,d=import.meta.url;export{a as InferenceSession,c as default,b as Tensor,c as env};\n//# x"
FILES = {SCRIPT: MODULE, WASM: b"\0asm of the test"}


def packed(files: dict[str, bytes]) -> bytes:
    """A package of npm."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as package:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(data)
            package.addfile(member, io.BytesIO(data))
    return content.getvalue()


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A package that is the pinned one, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(runtime, "SUMS", {name: hashlib.sha512(data).hexdigest() for name, data in FILES.items()})
    content = packed(FILES)
    monkeypatch.setattr(runtime, "INTEGRITY", b64encode(hashlib.sha512(content).digest()).decode())
    path = tmp_path / f"{NAME}.tgz"
    path.write_bytes(content)
    return path


@pytest.fixture
def registry(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A registry that has the package; gives its file there."""
    served = tmp_path / "registry" / "onnxruntime-web" / "-" / package.name
    served.parent.mkdir(parents=True)
    served.write_bytes(package.read_bytes())

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "registry"))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/")
        yield served
        server.shutdown()


def block(page: str, name: str) -> str:
    found = re.search(rf'<script type="[^"]+" id="{name}">(.*?)</script>', page, re.S)
    assert found is not None, name
    return found[1]


def test_the_folder_is_one_page_with_everything(package: Path, tmp_path: Path) -> None:
    size = write_site("flowers", tmp_path / "site", ["<My> licence"], runtime=package)
    files = {path.name: path.read_text() for path in (tmp_path / "site").iterdir()}
    assert sorted(files) == ["index.html", "worker.js"]
    assert size == sum(path.stat().st_size for path in (tmp_path / "site").iterdir())
    page = files["index.html"]
    for name, content in (
        ("runtime", FILES[WASM]),
        ("mask-model", find_model("flowers").content),
        ("redraw-model", find_model("flowers", "redraw.onnx").content),
    ):
        assert gzip.decompress(b64decode(block(page, name))) == content
    about, model = json.loads(block(page, "about-model")), RedrawModel("flowers")
    assert about["redraw"] == {"size": model.size, "latent": model.latent}
    assert (about["size"], about["object"]) == (model.segmenter.size, model.segmenter.object_region)
    assert "&lt;My&gt; licence" in page
    assert html.escape((ROOT / "LICENSE").read_text()) in page
    assert "MIT License\n\nCopyright (c) Microsoft Corporation" in page
    assert write_site("flowers", tmp_path / "again", ["<My> licence"], runtime=package) == size
    assert (tmp_path / "again" / "index.html").read_text() == page


def test_the_page_loads_nothing_and_allows_only_its_own_script(package: Path, tmp_path: Path) -> None:
    write_site("flowers-int8", tmp_path / "site", runtime=package)
    page = (tmp_path / "site" / "index.html").read_text()
    assert 'id="redraw-model"' not in page
    assert "redraw" not in json.loads(block(page, "about-model"))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; ")
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.S)
    for text in (script, style):
        assert f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy[1]
    assert script.startswith("const ort=")
    assert len(re.findall('^"use strict";$', script, re.M)) == len(SCRIPTS)
    assert not re.search(
        r"\s(?:src|srcset)=|<script[^>]+src|<link[^>]+stylesheet|@import|url\(", page.replace(script, "")
    )
    assert not re.search(r"\b(?:fetch|XMLHttpRequest|import)\(", script[script.index("})();") :])
    assert not re.search(
        r"{(?:policy|name|version|runtime|notes|licences|style|data|scripts)}", page.replace(script, "")
    )


def test_every_script_of_the_package_is_on_the_page() -> None:
    folder = ROOT / "redoseg" / "browser" / "page"
    assert {path.stem for path in folder.glob("*.js")} == {*SCRIPTS, "worker"}


def test_a_module_becomes_a_plain_script() -> None:
    script = plain_script(MODULE.decode())
    assert script.endswith("return{InferenceSession:a,Tensor:b,env:c}})();")
    assert not re.search(r"import\.meta|export ?{", script)


def test_the_runtime_is_fetched_once(registry: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    found = find_runtime(on_bytes=lambda *now: seen.append(now))
    assert found.wasm == FILES[WASM]
    assert seen[-1] == (registry.stat().st_size,) * 2
    registry.unlink()
    assert find_runtime() == found
    (cache_dir() / NAME / WASM).write_bytes(b"damaged")
    with pytest.raises(DataError, match="File not found"):
        find_runtime()


def test_a_package_that_is_another_is_refused(registry: Path, package: Path) -> None:
    registry.write_bytes(packed(FILES | {WASM: b"evil"}))
    with pytest.raises(DataError, match=r"has another SHA-512 .* or run `npm pack onnxruntime-web@"):
        find_runtime()
    assert not (cache_dir() / NAME).exists()
    with pytest.raises(DataError, match=rf"{WASM} of {NAME} has .* another version: run `npm pack"):
        find_runtime(registry)
    assert find_runtime(package).wasm == FILES[WASM]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("http://127.0.0.1:1", "Connection refused"),
        ("http://user:secret@127.0.0.1:1/npm", ""),
        ("file:///", "not the address of a registry"),
        ("http://[", "Invalid IPv6 URL"),
    ],
)
def test_without_a_registry_there_is_one_line(
    package: Path, monkeypatch: pytest.MonkeyPatch, address: str, why: str
) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
    with pytest.raises(
        DataError, match=rf"cannot be fetched \(.*{why}.*\); check the network, or run `npm pack"
    ) as said:
        run_command(["export", "flowers", "-o", str(package.parent / "site"), "--web"])
    assert "secret" not in str(said.value)
    assert "\n" not in str(said.value)
    assert [path.name for path in package.parent.iterdir()] == [package.name]


def test_a_local_copy_in_all_its_forms(package: Path, tmp_path: Path) -> None:
    wanted = find_runtime(package)
    with tarfile.open(package) as members:
        members.extractall(tmp_path / "copy", filter="data")
    for folder in ("copy", "copy/package", "copy/package/dist"):
        assert find_runtime(tmp_path / folder) == wanted
    (tmp_path / "copy" / "package" / "dist" / SCRIPT).write_bytes(b"another version")
    with pytest.raises(DataError, match=rf"{SCRIPT} has the SHA-512 .*, but {SCRIPT} of {NAME} has"):
        find_runtime(tmp_path / "copy")
    with pytest.raises(DataError, match=rf"has no {SCRIPT}\. Expected the files of {NAME}\."):
        find_runtime(tmp_path)
    with pytest.raises(DataError, match=rf"nowhere does not exist\. Expected {NAME}\.tgz or its folder\."):
        find_runtime(tmp_path / "nowhere")
    (tmp_path / "text.tgz").write_text("text")
    with pytest.raises(DataError, match=r"text\.tgz is not a package of npm \(.*\): run `npm pack"):
        find_runtime(tmp_path / "text.tgz")


def test_what_cannot_be_exported(package: Path, tmp_path: Path, trained: Any) -> None:
    with pytest.raises(ModelError, match="model roses does not exist"):
        write_site("roses", tmp_path / "site", runtime=package)
    (tmp_path / "full").mkdir()
    with pytest.raises(RedosegError, match="full exists; expected a new folder; choose another path"):
        write_site("flowers", tmp_path / "full", runtime=package)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", package.name]
    write_site(trained.folder, tmp_path / "of a run", runtime=package)
    about = json.loads(block((tmp_path / "of a run" / "index.html").read_text(), "about-model"))
    assert about["size"] == Segmenter(trained.folder).size


def test_a_space_is_the_page_with_a_card(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yaml = pytest.importorskip("yaml")
    said = ("--licence", "cc-by-4.0", "--limits", "Only tulips: red ones.")
    command = ["export", "flowers", "--runtime", str(package), *said, "-o"]
    for folder, how in (("space", "--space"), ("site", "--web")):
        assert run_command([*command, str(tmp_path / folder), how]) == 0
    names = sorted(path.name for path in (tmp_path / "space").iterdir())
    assert names == ["README.md", "index.html", "worker.js"]
    for name in names[1:]:
        assert (tmp_path / "space" / name).read_bytes() == (tmp_path / "site" / name).read_bytes()
    empty, head, text = (tmp_path / "space" / "README.md").read_text().split("---\n")
    header = yaml.safe_load(head)
    assert not empty
    assert (header["sdk"], header["license"], header["title"]) == ("static", "cc-by-4.0", "redoseg: flowers")
    assert (tmp_path / "space" / header["app_file"]).is_file()
    known = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {header["colorFrom"], header["colorTo"]} <= known
    assert len(header["short_description"]) <= 60  # more is refused by the hub
    assert "Limits: Only tulips: red ones." in text
    assert "hf upload" in capsys.readouterr().out


def test_a_runtime_is_for_a_page(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--runtime is for a page only: add --web or --space, or remove --runtime\."):
        run_command(["export", "runs/mine", "-o", str(tmp_path / "out"), "--runtime", "x.tgz"])
