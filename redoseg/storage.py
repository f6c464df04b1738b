"""Addresses, such as s3://bucket/photos/a.jpg: what is there is listed, read whole, and written whole.

Object storage goes through fsspec, which is imported at the first such address; http and https through the standard
library. Who may read and write is configured as for fsspec: by the environment or its configuration files.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from redoseg import __version__
from redoseg.errors import DataError, FullError, MissingError
from redoseg.files import cache_dir, describe_error, printable

_ADDRESS = re.compile(r"[a-z][a-z0-9+.\-]+://", re.I)
_WEB = re.compile(r"https?://", re.I)
# an object appears there when all of it has arrived, so that a kill leaves none by halves
_WHOLE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "memory")
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}
_TRIES, _PAUSE = 3, 1.0  # the pause doubles [s]
_TIMEOUT = 60.0  # seconds without an answer
_IN_MEMORY = 2**26  # bytes; what is larger is written by way of a file

# the name, the rights or the storage's abilities are at fault, and not the way to it
_FINAL = (
    *(DataError, MissingError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError),
    *(NotImplementedError, TypeError, ValueError),
)

Result = TypeVar("Result")
_OPENED: set[Any] = set()  # classes of file systems


@dataclass(frozen=True, order=True)
class Address(os.PathLike[str]):
    """A file or folder in storage. It has the part of a path's interface that names of results need."""

    text: str

    def __fspath__(self) -> str:
        return self.text

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, below: str | PurePath) -> Address:
        inside = below.as_posix() if isinstance(below, PurePath) else below
        return Address(f"{self.text.rstrip('/')}/{inside}") if inside not in ("", ".") else self

    @property
    def protocol(self) -> str:
        """The part before "://", in small letters."""
        return self.text.partition("://")[0].lower()

    @property
    def on_web(self) -> bool:
        """Whether it is one file on a web server, where nothing can be listed."""
        return _WEB.match(self.text) is not None

    @property
    def path(self) -> PurePosixPath:
        """What follows "://"; of a web page without its query."""
        if self.on_web:
            parts = urlsplit(self.text)
            return PurePosixPath(parts.netloc, unquote(parts.path).lstrip("/"))
        return PurePosixPath(self.text.partition("://")[2])

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self.path.stem

    @property
    def suffix(self) -> str:
        """The name's last suffix."""
        return self.path.suffix

    @property
    def parent(self) -> Address:
        """The folder that it is in."""
        return Address(self.text.rstrip("/").rpartition("/")[0])

    def with_stem(self, stem: str) -> Address:
        """The same with another name before the suffix."""
        return self.parent / f"{stem}{self.suffix}"

    def relative_to(self, folder: Address) -> PurePosixPath:
        """The path from a folder that it is in. Raises ValueError for another."""
        start = folder.text.rstrip("/") + "/"
        if not self.text.startswith(start):
            raise ValueError(f"{self.text} is not in {folder.text}")
        return PurePosixPath(self.text.removeprefix(start))

    def read_bytes(self, most: int | None = None) -> bytes:
        """What the file contains; of more than `most` bytes from a web server only the first `most` + 1.

        Raises DataError.
        """
        return _read(self, most)


Place = Path | Address
"""Where a picture or a result is."""


def is_address(text: str | os.PathLike[str]) -> bool:
    """Whether a text is an address and not a path. file:// counts as a path, see `place_of`."""
    return _ADDRESS.match(os.fspath(text)) is not None and not os.fspath(text).lower().startswith("file://")


def place_of(text: str | os.PathLike[str]) -> Place:
    """The address, or the path with its ~ replaced."""
    whole = os.fspath(text)
    if is_address(whole):
        return Address(whole)
    if whole.lower().startswith("file://"):
        return Path(unquote(urlsplit(whole).path))
    return Path(os.path.expanduser(whole))


def forget_listings() -> None:
    """Let storage be asked again: fsspec has a file system for each thread, which remembers its listings."""
    for kind in _OPENED:
        kind.clear_instance_cache()


class Stored(NamedTuple):
    """What a listing says of a file."""

    size: int
    """[bytes]"""
    version: str
    """What changes when the file does."""


def files_below(folder: Address) -> dict[str, Stored]:
    """The files below a folder by their path from it, sorted; none where it does not exist.

    Raises DataError.
    """
    system, root = _opened(folder)
    try:
        found: dict[str, dict[str, Any]] = _tried(lambda: system.find(root, detail=True))
    except FileNotFoundError:
        return {}
    except Exception as error:
        raise _unreadable(folder, error) from error
    start = root.rstrip("/") + "/"
    return {
        name.removeprefix(start): Stored(int(about.get("size") or 0), _version(about))
        for name, about in sorted(found.items())
        if name.startswith(start) and about.get("type") != "directory" and not name.endswith("/")
    }


def version_of(address: Address) -> str:
    """What changes when the file does: its time, hash or size, as the storage gives it. Raises DataError.

    Of a web page "" where its server does not say.
    """
    try:
        if address.on_web:
            return _version_on_web(address)
        system, path = _opened(address)
        return _version(_tried(lambda: system.info(path)))
    except Exception as error:
        raise _unreadable(address, error) from error


def _version(about: dict[str, Any]) -> str:
    known = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "created", "mtime", "blob_id", "size")
    return repr([str(about[key]) for key in known if about.get(key) is not None])


def _version_on_web(address: Address) -> str:
    try:
        with _tried(lambda: _asked(address, "HEAD")) as answer:
            about = [answer.headers.get(name) for name in ("ETag", "Last-Modified", "Content-Length")]
    except OSError as error:
        if getattr(error, "code", None) is None:
            raise
        return ""  # some servers and signed addresses allow nothing but fetching
    return repr(about) if about[0] or about[1] else ""


def matching(pattern: Address) -> list[Address]:
    """The files that a pattern such as s3://bucket/*.jpg means. Raises DataError."""
    system, path = _opened(pattern)
    try:
        found = sorted(_tried(lambda: system.glob(path)))
    except Exception as error:
        raise _unreadable(pattern, error) from error
    start = pattern.text[: len(pattern.text) - len(path.lstrip("/"))]
    return [Address(start + name.lstrip("/")) for name in found]


def is_folder(address: Address) -> bool:
    """Whether something is below it. Raises DataError where the storage cannot be asked."""
    if address.on_web:
        return False
    system, path = _opened(address)
    try:
        return bool(_tried(lambda: system.isdir(path)))
    except Exception as error:
        raise _unreadable(address, error) from error


def head_of(address: Address, count: int) -> bytes:
    """The first bytes of a file; none where it does not exist. Raises DataError."""
    system, path = _opened(address)

    def get() -> bytes:
        try:
            found: bytes = system.cat_file(path, 0, count)
        except OSError as error:
            if "range" not in str(error).lower():
                raise
            found = system.cat_file(path)  # some servers refuse a part that ends behind the file
        return found[:count]

    try:
        found = _tried(get)
    except FileNotFoundError:
        return b""
    except Exception as error:
        raise _unreadable(address, error) from error
    return found


def write(address: Address, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file, which is there whole or not at all. Raises FullError: another file would not do better."""
    system, path = _opened(address)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        for piece in pieces:
            file.write(piece)
        size = file.tell()

        def put() -> None:
            file.seek(0)
            if size <= _IN_MEMORY:
                system.pipe_file(path, file.read())
                return
            with tempfile.NamedTemporaryFile() as named:
                for block in iter(lambda: file.read(2**20), b""):
                    named.write(block)
                named.flush()
                system.put_file(named.name, path)

        try:
            _tried(put)
        except Exception as error:
            fix = "check the name, and whether you may write there"
            raise FullError(f"{printable(address)}: cannot be written ({_reason(error)}); {fix}") from error


def save(address: Address, path: Path) -> None:
    """Fetch a file, which appears at `path` whole or not at all. Raises DataError, OSError."""
    part = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        if address.on_web:
            part.write_bytes(_read(address, None))
        else:
            system, source = _opened(address)
            _tried(lambda: system.get_file(source, str(part)))
        os.replace(part, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise _unreadable(address, error) from error
    except Exception as error:
        raise _unreadable(address, error) from error
    finally:
        part.unlink(missing_ok=True)


def remove(address: Address) -> None:
    """Remove a file, if it is there."""
    system, path = _opened(address)
    with contextlib.suppress(FileNotFoundError):
        system.rm_file(path)


@contextlib.contextmanager
def streamed(address: Address) -> Any:
    """The file, open to be read from its start to its end. Raises DataError where it cannot be opened."""
    try:
        if address.on_web:
            file: Any = _tried(lambda: _web(address))
        else:
            system, path = _opened(address)
            file = _tried(lambda: system.open(path, "rb"))
    except DataError:
        raise
    except Exception as error:
        raise _unreadable(address, error) from error
    with file:
        yield file


def check_target(address: Address) -> None:
    """Raises DataError where no results can be written to an address, before the work."""
    if address.protocol not in _WHOLE:
        raise DataError(
            f"{printable(address)} is an address to which no results are written; choose a folder, or an address that "
            "begins with s3://, gs://, az:// or hf://"
        )
    _opened(address)


def local_notes(address: Address) -> Path:
    """A folder on this machine, below the user's cache, for what work on an address has to note."""
    import hashlib

    return cache_dir() / "storage" / hashlib.sha256(address.text.rstrip("/").encode()).hexdigest()[:24]


def _opened(address: Address) -> tuple[Any, str]:
    """The file system of an address and the path in it. Raises MissingError without its package, DataError."""
    try:
        import fsspec
    except ImportError:
        raise MissingError.of(f"fsspec, which {printable(address)} needs,", "cloud") from None
    try:
        system, path = fsspec.core.url_to_fs(address.text)
    except ImportError as error:
        package = _PACKAGES.get(address.protocol)
        if package is not None:
            raise MissingError.of(f"{package}, which {address.protocol}:// needs,", "cloud") from None
        raise MissingError(f"{printable(address)} cannot be opened: {describe_error(error)}") from None
    except ValueError as error:
        raise DataError(
            f"{printable(address)} is an address of a kind that is not known ({describe_error(error)}); expected one "
            "that begins with https://, s3://, gs:// or hf://"
        ) from None
    _OPENED.add(type(system))
    return system, str(path)


def _read(address: Address, most: int | None) -> bytes:
    end = None if most is None else most + 1

    def get() -> bytes:
        if address.on_web:
            with _web(address) as file:
                return file.read() if end is None else file.read(end)
        system, path = _opened(address)
        found: bytes = system.cat_file(path)  # in one request; its size is known where it was listed
        return found

    try:
        return _tried(get)
    except (DataError, MissingError):
        raise
    except Exception as error:
        raise _unreadable(address, error) from error


def _web(address: Address) -> IO[bytes]:
    return io.BufferedReader(_asked(address, "GET"))


def _asked(address: Address, method: str) -> Any:
    import urllib.error
    import urllib.request

    request = urllib.request.Request(address.text, headers={"User-Agent": f"redoseg/{__version__}"}, method=method)
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()  # the connection
        raise


def _tried(call: Callable[[], Result]) -> Result:
    """What a call gives. It is tried again where a server or the way to it failed."""
    for number in range(_TRIES):
        try:
            return call()
        except Exception as error:
            if number == _TRIES - 1 or _final(error):
                raise
            time.sleep(_PAUSE * 2**number)
    raise AssertionError


def _final(error: Exception) -> bool:
    """Whether the same call would fail again."""
    if isinstance(error, _FINAL):
        return True
    code = getattr(error, "code", None)  # of urllib's errors
    return "Credentials" in type(error).__name__ or (isinstance(code, int) and 400 <= code < 500 and code != 429)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    return describe_error(error)


def _unreadable(address: Address, error: Exception) -> Exception:
    if isinstance(error, DataError | MissingError):
        return error
    fix = "check the name" if isinstance(error, FileNotFoundError) else "check the name, the network and your rights"
    return DataError(f"{printable(address)}: cannot be read ({_reason(error)}); {fix}")
