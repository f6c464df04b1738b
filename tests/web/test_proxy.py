"""Proxies in front of the page: how they are named on the command line, and what they send."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redoseg.errors import ConfigError
from redoseg.web.guard import Guard
from redoseg.web.proxy import host_of, root_of


class Asked:
    """What a guard passed on, and what it answered."""

    def __init__(self, path: str, root: str = "", others: frozenset[str] = frozenset(), **headers: str) -> None:
        self.passed, self.status, self.headers = "", 0, dict[bytes, bytes]()
        guard = Guard(self._app, 1000, frozenset({"localhost"}), others, root=root)
        found = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        plain, _, query = path.partition("?")
        scope = {"type": "http", "method": "GET", "path": plain, "query_string": query.encode()}
        asyncio.run(guard(scope | {"headers": [(b"host", b"localhost"), *found]}, None, self._send))

    async def _app(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.passed = scope["path"]
        assert scope["raw_path"] == self.passed.encode() if "raw_path" in scope else True

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])


@pytest.mark.parametrize(
    ("given", "root", "paths"),
    [
        ("", "", ["/config"]),
        ("/", "", ["/config", "//config"]),
        ("/redoseg", "/redoseg", ["/redoseg/config", "/config"]),
        ("redoseg", "/redoseg", ["/redoseg/config"]),
        (" redoseg/ ", "/redoseg", ["/redoseg/config"]),
        ("//redoseg//", "/redoseg", ["/redoseg/config", "/redoseg//config", "//config"]),
        ("/a/b c", "/a/b c", ["/a/b c/config"]),
        ("/user/j%40x.org/proxy/7860", "/user/j%40x.org/proxy/7860", ["/user/j@x.org/proxy/7860/config"]),
        ("/user/j@x.org/proxy/7860", "/user/j@x.org/proxy/7860", ["/user/j@x.org/proxy/7860/config"]),
        ("https://photos.example/redoseg/", "https://photos.example/redoseg", ["/redoseg/config", "/config"]),
        ("http://[::1]:8080/x", "http://[::1]:8080/x", ["/x/config"]),
        ("https://photos.example", "https://photos.example", ["/config"]),
    ],
)
def test_a_path_with_and_without_slashes(given: str, root: str, paths: list[str]) -> None:
    """The proxy may remove it or not, and double the slash where it joins two."""
    assert root_of(given) == root
    for path in paths:
        assert Asked(path, root_of(given)).passed == "/config"


@pytest.mark.parametrize(
    "given",
    [
        "photos.example/redoseg",
        "localhost:8000/x",
        "ftp://x/y",
        "https://",
        "/x?y=1",
        "/x#y",
        "\\x",
        "/x\ny",
        "http://a:b/",
    ],
)
def test_what_is_no_path_is_one_line(given: str) -> None:
    with pytest.raises(ConfigError, match=r"--root-path is .*, but must be a path such as /redoseg") as caught:
        root_of(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "root", "there"),
    [
        ("/redoseg", "/redoseg", b"redoseg/"),
        ("/a/b c", "/a/b%20c", b"b%20c/"),
        ("/x?y=1", "https://h.example/x", b"x/?y=1"),
    ],
)
def test_the_path_itself_leads_to_the_page(path: str, root: str, there: bytes) -> None:
    """Relative, since a proxy may serve it below another path; without the slash the page would not find its files."""
    asked = Asked(path, root)
    assert (asked.status, asked.headers[b"location"], asked.passed) == (307, there, "")


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("photos.example", "photos.example"),
        ("PHOTOS.example.", "photos.example"),
        ("photos.example:8443", "photos.example"),
        ("https://photos.example/redoseg", "photos.example"),
        ("b\u00fccher.example", "xn--bcher-kva.example"),
        ("[::1]:80", "[::1]"),
        ("my_host", "my_host"),
    ],
)
def test_a_host_as_people_write_it(given: str, host: str) -> None:
    assert host_of(given) == host
    others = frozenset({host_of(given)})
    for header in (host, f"{host}:8443", f"{host}.".replace("].", "]")):
        assert Asked("/config", others=others, host=header, origin=f"https://{header}").passed == "/config"


@pytest.mark.parametrize("given", ["", " ", "*", "*.example", "a b", "http://", "/redoseg", "x\ny", "[::1", "a,b"])
def test_what_is_no_host_is_one_line(given: str) -> None:
    with pytest.raises(ConfigError, match=r"--allow-host is .*, but must be the name of a host") as caught:
        host_of(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "more", "passes"),
    [
        ("/", {"sec_fetch_mode": "navigate"}, True),
        ("/redoseg/", {"sec_fetch_mode": "navigate"}, True),
        ("/", {"sec_fetch_mode": "cors"}, False),
        ("/", {"sec_fetch_mode": "navigate", "origin": "https://evil.example"}, False),
        ("/config", {"sec_fetch_mode": "navigate"}, False),
        ("/gradio_api/upload", {"sec_fetch_mode": "navigate"}, False),
    ],
)
def test_a_link_elsewhere_may_lead_to_the_page(path: str, more: dict[str, str], passes: bool) -> None:
    """As on JupyterHub, where it leads by way of the page of a person who knows the password."""
    asked = Asked(path, "/redoseg", sec_fetch_site="cross-site", **more)
    assert (asked.passed == "/") == passes
    assert asked.status == (0 if passes else 403)
