"""What stands between the network and what answers: served routes, sizes, headers, the port, and disk used."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import re
import socket
import stat
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redoseg.errors import ConfigError
from redoseg.files import describe_error, printable

EXAMPLES_FOLDER = "examples"  # below the page's folder; kept as long as the page is served

_TEXT = 2**20  # bytes of a request that is not an upload
_PATIENCE = 3  # seconds for the rest of a request that is too large

# The routes of gradio that the page needs. Others fetch addresses for the caller, keep histories or edit code.
_SERVED = re.compile(
    r"/(?:(?:config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)?|(?:assets|static|svelte)/.+"
    r"|gradio_api/(?:info|app_id|config|theme\.css|startup-events|upload|upload_progress|reset|cancel|queue/(?:join|data)"
    r"|(?:call|run|heartbeat)/.+|file=(?!.*://).+))/?",
    re.S,
)
API_ROUTES = frozenset({"/segment", "/model", "/health", "/openapi.json"})
"""Those of the HTTP interface beside the page (`redoseg.web.api`)."""

_HEADERS = [
    (
        b"content-security-policy",  # the browser loads nothing from elsewhere, whatever a later gradio asks for
        b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class TooLarge(Exception):
    """More was sent than is taken, in words."""


class Guard:
    """An ASGI application that passes what the page needs to another, and refuses the rest with a line of text.

    What is for the HTTP interface goes there, and is refused with a line of JSON.

    It refuses unknown routes (404), requests that are too large (413), and requests for another host or from
    another page (403). A link on another page may lead here, also by way of the page where somebody logs in.

    Args:
        app: the application that answers what is passed on; None where there is only the HTTP interface.
        upload: most bytes of the files in an upload.
        hosts: names by which a request may call this host; any name if empty. Without this list, a page elsewhere
            whose name resolves to this computer could read what a loopback address serves.
        others: names that a proxy in front is called by: a request from a page there is not from elsewhere.
        root: the path below which a proxy serves the page, or its address; a proxy may remove the path or not.
        api: the application of the HTTP interface, which takes files of at most `api_upload` bytes.
        sweep: is called after each upload, and deletes the oldest files if there are too many.
    """

    def __init__(
        self,
        app: Any,
        upload: int = 0,
        hosts: frozenset[str] = frozenset(),
        others: frozenset[str] = frozenset(),
        *,
        sweep: Callable[[], None] | None = None,
        root: str = "",
        api: Any = None,
        api_upload: int = 0,
    ) -> None:
        self.app, self.upload, self.hosts, self.others, self.sweep = app, upload, hosts, others, sweep
        self.api, self.api_upload = api, api_upload
        self.root = urllib.parse.unquote(urllib.parse.urlsplit(root).path.rstrip("/"))

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" and self.app is not None:
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        headers = dict(scope["headers"])
        path: str = re.sub("^/+", "/", scope["path"])  # a proxy that joins two paths may have doubled the slash
        if self.root and path.startswith(self.root + "/"):
            path = re.sub("^/+", "/", path[len(self.root) :])
        elif self.root and path == self.root and self.app is not None:
            return await _redirect(send, scope)
        if path != scope["path"]:
            scope = scope | {"path": path, "raw_path": path.encode()}
        for_api = self.api is not None and path in API_ROUTES
        uploads = path.rstrip("/").endswith("/upload")
        largest = self.api_upload if for_api else self.upload if uploads else 0
        most = largest + _TEXT  # what surrounds a file in a form is small

        async def refuse(status: int, why: str) -> None:
            await _refuse(send, status, why, as_json=for_api or self.app is None)

        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self.hosts and _name(host) not in self.hosts | self.others:
            return await refuse(403, "This page is only for the computer that serves it.")
        follows_link = path == "/" and scope.get("method") == "GET" and headers.get(b"sec-fetch-mode") == b"navigate"
        crossed = headers.get(b"sec-fetch-site") == b"cross-site" and not follows_link
        if crossed or _elsewhere(headers.get(b"origin"), host, self.others):
            return await refuse(403, "Other pages may not send requests to this page.")
        if not for_api and (self.app is None or not _SERVED.fullmatch(path)):
            there = f" Choose one of {', '.join(sorted(API_ROUTES))}." if self.app is None else ""
            return await refuse(404, f"This page has no such address.{there}")
        stated = headers.get(b"content-length", b"0")
        if not stated.isdigit() or int(stated) > most:
            await _read_on(receive)
            return await refuse(413, _too_large(most))
        got, started = 0, False

        async def counted() -> Any:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > most:
                await _read_on(receive)
                raise TooLarge(_too_large(most))
            return message

        async def answered(message: dict[str, Any]) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = message | {"headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        try:
            await (self.api if for_api else self.app)(scope, counted, answered)
            if self.sweep is not None and uploads:
                await asyncio.to_thread(self.sweep)
        except TooLarge as error:
            if not started:
                await refuse(413, str(error))
        except Exception as error:  # gradio's, over a request that no browser sends
            if started:  # such as events for a page that is not known; a client that waits for them sees the end
                with contextlib.suppress(Exception):
                    await send({"type": "http.response.body", "body": b""})
                return
            if type(error).__name__ == "FnIndexInferError":
                return await refuse(404, "This page has no such call. /gradio_api/info lists those it has.")
            await refuse(400, f"The request is not valid ({type(error).__name__}).")


def _too_large(most: int) -> str:
    return f"The request has more than {most / 2**20:.0f} MB. Send less at a time."


def _name(host: str) -> str:
    """A host without its port."""
    return re.sub(r":\d+$", "", host).rstrip(".")


def _elsewhere(origin: bytes | None, host: str, others: frozenset[str] = frozenset()) -> bool:
    """Whether the browser states that the request comes from a page of another host."""
    named = host if origin is None else origin.decode("latin-1").lower().rpartition("//")[2]
    return named != host and _name(named) not in others


async def _read_on(receive: Any) -> None:
    """Read what is still being sent, for a moment: most senders read an answer only when they have sent all."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            more = True
            while more:
                more = (await receive()).get("more_body", False)


async def _refuse(send: Any, status: int, why: str, as_json: bool = False) -> None:
    kind = b"application/json" if as_json else b"text/plain; charset=utf-8"
    headers = [(b"content-type", kind), (b"connection", b"close"), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": (json.dumps({"error": why}) if as_json else why).encode()})


async def _redirect(send: Any, scope: dict[str, Any]) -> None:
    """To the same address with a slash at its end, below which the page has its files; relative, as a proxy has it."""
    here = urllib.parse.quote(scope["path"].rpartition("/")[2]) + "/"
    query = scope.get("query_string", b"")
    headers = [(b"location", here.encode() + (b"?" + query if query else b"")), *_HEADERS]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def tidy(folder: Path, seconds: float, most: int) -> None:
    """Delete old files below `folder`, then the oldest others until all have at most `most` bytes together.

    A file is old after `seconds`. Examples stay. The folder is searched, since gradio forgets the file of an upload
    that its sender broke off.
    """
    found = []
    for path in _all_below(folder):
        with contextlib.suppress(OSError):
            seen = path.lstat()
            if stat.S_ISREG(seen.st_mode) and path.relative_to(folder).parts[0] != EXAMPLES_FOLDER:
                found.append((max(seen.st_mtime, seen.st_ctime), seen.st_size, path))
    found.sort(reverse=True)
    total = 0
    for written, size, path in found:
        total += size
        if total > most or written < time.time() - seconds:
            with contextlib.suppress(OSError):
                path.unlink()
    for path in sorted(_all_below(folder), reverse=True):  # each upload has a folder of its own
        with contextlib.suppress(OSError):
            if path.is_dir() and path.stat().st_mtime < time.time() - seconds:
                path.rmdir()  # fails unless it is empty


def _all_below(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):  # another sweep deletes folders at the same time
        return list(folder.rglob("*"))
    return []


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches what listens at `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def free_port(host: str, port: int) -> int:
    """The port, or a free one for 0. Raises ConfigError if nothing can listen there."""
    try:
        if not 0 <= port < 2**16:  # the system would take the remainder
            raise OverflowError("no such port")
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            if os.name == "posix":  # elsewhere it lets two listen at once
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            found: int = listener.getsockname()[1]
            return found
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(
            f"Port {port} of {printable(host)} cannot be used ({describe_error(error)}). End the program that uses "
            "it, or choose another --port or --host."
        ) from None
