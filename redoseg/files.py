"""Files and folders: printable names, what went wrong, writing whole or not at all, locks, the cache."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from redoseg.errors import DataError


def cache_dir() -> Path:
    """The folder of redoseg in the user's cache: below $XDG_CACHE_HOME, or ~/.cache. It need not exist."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "redoseg"


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process alone has the folder within the block; with `wait` it waits until it has.

    The lock ends with the process, however that ends. Where the system or the file system has no locks, the answer is
    always yes. Raises FileNotFoundError if the folder does not exist, or no longer exists once it is free.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield True
        return
    mine = True
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if not os.path.samestat(os.stat(folder), os.fstat(descriptor)):
                raise FileNotFoundError(folder)  # a new folder of that name
        except BlockingIOError:
            mine = False
        except FileNotFoundError:
            raise
        except OSError:  # a file system without locks
            pass
        yield mine
    finally:
        os.close(descriptor)


def _escaped(text: str) -> str:
    return "".join(
        # a byte b of a path that is not text comes from the system as the surrogate 0xDC00 + b
        c if c.isprintable() else f"\\x{ord(c) - 0xDC00:x}" if "\udc80" <= c <= "\udcff" else ascii(c)[1:-1]
        for c in text
    )


def printable(path: str | os.PathLike[str]) -> str:
    """A path as one printable line, whatever bytes are in it."""
    return _escaped(os.fspath(path))


def describe_error(error: BaseException) -> str:
    """Why a file could not be read or written, as one printable line of at most 200 characters."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return _escaped(" ".join(text.split()))[:200] or type(error).__name__


def suggest_fix(error: OSError) -> str:
    """What to do about a file that cannot be written."""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "change its permissions or choose another path"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "make its folder or choose another path"
    return "free space or choose another path"


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all. Raises DataError if it cannot be written."""
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"{printable(path)}: cannot be written ({describe_error(error)}): {suggest_fix(error)}"
        ) from error


def make_folder(folder: Path) -> None:
    """Make a folder for results and those above it. Raises DataError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{printable(folder)} cannot be made ({describe_error(error)}); expected a folder for the results; choose "
            "another place"
        ) from error


def why_not_write(
    target: Path, inputs: set[str], overwrite: bool, an_input: str = "a picture to segment"
) -> str | None:
    """Why a result may not be written to `target`, if it may not; `inputs` are real paths of what is read."""
    if os.path.realpath(target) in inputs:
        return f"is {an_input}: choose another folder for the results"
    if target.exists() and not overwrite:
        return "exists: choose another path, or allow overwriting (--overwrite)"
    return None
