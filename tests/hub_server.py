"""A small server that speaks the endpoints of Hugging Face's hub which huggingface_hub uses."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

TOKEN = "hf_may_write"


class Hub:
    """Models, and data sets as datasets/NAME: each a list of commits, {path: content}, the last the newest."""

    def __init__(self) -> None:
        self.commits: dict[str, list[dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.large: dict[str, bytes] | None = None
        """Large files by their SHA-256, apart from commits as on the real hub; None has all files in commits."""
        self.address = ""

    def sha(self, repo: str, number: int) -> str:
        return hashlib.sha1(f"{repo} {number}".encode()).hexdigest()

    def found(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.commits[repo]
        for number, files in enumerate(commits):
            if revision == self.sha(repo, number):
                return revision, files
        return (self.sha(repo, len(commits) - 1), commits[-1]) if revision == "main" else None

    def fetched(self) -> set[str]:
        """Names of the files that were asked for."""
        return {path.rpartition("/")[2] for _, path in self.asked if "/resolve/" in path}


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("_", str(len(content))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def may_write(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        found = re.fullmatch(
            r"(?:/api(?:/models)?)?/((?:datasets/)?[^/]+/[^/]+)(?:/(revision|tree|resolve)/([^/]+)(?:/(.+))?)?", path
        )
        repo, kind, revision, file = found.groups() if found else ("", "", "", "")
        if repo not in self.hub.commits or (repo in self.hub.private and not self.may_write()):
            return self.answer(401, {"error": "no"}, X_Error_Code="RepoNotFound", X_Error_Message="no")
        at = self.hub.found(repo, revision or "main")
        if at is None:
            return self.answer(404, {"error": "no"}, X_Error_Code="RevisionNotFound", X_Error_Message="no")
        sha, files = at
        if kind == "tree":
            return self.answer(200, entries(files, file, "recursive=true" in self.path.lower()))
        if kind == "resolve":
            if file not in files:
                return self.answer(404, {"error": "no"}, X_Error_Code="EntryNotFound", X_Error_Message="no")
            return self.answer(200, files[file], ETag=f'"{oid(files[file])}"', X_Repo_Commit=sha)
        siblings = [{"rfilename": p} for p in sorted(files)]
        info = {"_id": "1", "id": repo, "sha": sha, "private": repo in self.hub.private, "siblings": siblings}
        return self.answer(200, info | {"tags": [], "downloads": 0, "likes": 0})

    def do_PUT(self) -> None:
        content = self.read()
        assert self.hub.large is not None
        assert self.path == f"/large/{hashlib.sha256(content).hexdigest()}"
        self.hub.large[self.path.rpartition("/")[2]] = content
        self.answer(200)

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        content = self.read()
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if not self.may_write():
            return self.answer(401, {"error": "Invalid username or password."})
        if path == "/api/repos/create":
            asked = json.loads(content)
            repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if repo in self.hub.commits:
                return self.answer(409, {"error": "there", "url": f"{self.hub.address}/{repo}"})
            self.hub.commits[repo] = [{}]
            if asked.get("private") or asked.get("visibility") == "private":
                self.hub.private.add(repo)
            return self.answer(200, {"url": f"{self.hub.address}/{repo}"})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(content)["objects"]
            for entry in objects:
                entry["actions"] = {"upload": {"href": f"{self.hub.address}/large/{entry['oid']}"}}
            return self.answer(200, {"transfer": "basic", "objects": objects})
        found = re.fullmatch(r"/api/(?:models/)?((?:datasets/)?[^/]+/[^/]+)/(preupload|commit|paths-info)/main", path)
        assert found is not None, path
        repo = found[1]
        if found[2] == "paths-info":
            everything = entries(self.hub.commits[repo][-1], None, True)
            asked_for = parse_qs(content.decode())["paths"]
            return self.answer(200, [entry for entry in everything if entry["path"] in asked_for])
        if found[2] == "preupload":
            names = [file["path"] for file in json.loads(content)["files"]]
            large = () if self.hub.large is None else (".onnx", ".safetensors")
            modes = [(name, "lfs" if Path(name).suffix in large else "regular") for name in names]
            answers = [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes]
            return self.answer(200, {"files": answers})
        new = {}
        for line in map(json.loads, content.splitlines()[1:]):
            value = line["value"]
            if line["key"] == "lfsFile":
                assert self.hub.large is not None
                new[value["path"]] = self.hub.large[value["oid"]]
            else:
                new[value["path"]] = base64.b64decode(value["content"])
        self.hub.commits[repo].append(self.hub.commits[repo][-1] | new)
        sha = self.hub.sha(repo, len(self.hub.commits[repo]) - 1)
        return self.answer(200, {"commitUrl": f"{self.hub.address}/{repo}/commit/{sha}", "commitOid": sha})


def entries(files: dict[str, bytes], folder: str | None, below: bool) -> list[dict[str, Any]]:
    """What the hub says of the files and folders in a folder, or of all below it."""
    start = f"{folder}/" if folder else ""
    found: dict[str, dict[str, Any]] = {}
    for path, content in sorted(files.items()):
        parts = path.removeprefix(start).split("/") if path.startswith(start) else []
        for depth in range(1, len(parts)):
            above = start + "/".join(parts[:depth])
            found[above] = {"type": "directory", "path": above, "size": 0, "oid": "0"}
        if parts:
            found[path] = {"type": "file", "path": path, "size": len(content), "oid": oid(content)}
    return [entry for path, entry in found.items() if below or "/" not in path.removeprefix(start)]


def oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The server, and huggingface_hub made to talk to it, with a cache of its own and no token."""
    served = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"hub": served}))
    served.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    at(served.address, tmp_path, monkeypatch)
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def at(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
