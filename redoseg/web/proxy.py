"""How a proxy in front of the page is named: the hosts that browsers see, and the path below which it serves."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from redoseg.errors import ConfigError
from redoseg.files import printable


def host_of(given: str) -> str:
    """A host as requests name it, without a port. Raises ConfigError for what is none.

    An address, and a host with a port, are taken too.
    """
    text = given.strip()
    try:
        host = urlsplit(text if "://" in text else f"//{text}").hostname or ""
        host = f"[{host}]" if ":" in host else host.rstrip(".").encode("idna").decode()
    except ValueError:
        host = ""
    if re.search(r"\s", text) or not re.fullmatch(r"[\w.-]+|\[[0-9a-f:.]+\]", host):
        raise ConfigError(
            f"--allow-host is {printable(given)!r}, but must be the name of a host as browsers show it, such as "
            "photos.example."
        )
    return host


def root_of(given: str) -> str:
    """The path below which a proxy serves, or the whole address of it, without a slash at its end; "" for none.

    Raises ConfigError for what is neither.
    """
    text = given.strip().rstrip("/")
    whole = "://" in text
    path = text if whole else re.sub(r"^/*", "/", text) if text else ""
    try:
        parts = urlsplit(path)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 if whole else True
    except ValueError:
        known = False
    looks_like_host = not whole and not text.startswith("/") and re.match(r"[^/]*[.:]", text)
    if not known or looks_like_host or re.search(r"[?#\\\x00-\x1f\x7f]", text):
        raise ConfigError(
            f"--root-path is {printable(given)!r}, but must be a path such as /redoseg, or a whole address such as "
            "https://photos.example/redoseg."
        )
    return path
