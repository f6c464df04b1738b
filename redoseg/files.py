"""Files and folders: printable names, what went wrong, writing whole or not at all, locks, the cache."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import re
import secrets
import shlex
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from redoseg.errors import DataError, FullError, RedosegError
from redoseg.own_results import marked

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")
_FULL = {  # errors that every other file would meet too
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "ESTALE", "ENOTCONN", "ENODEV")
    if hasattr(errno, name)
}
_swept: set[str] = set()
_HELD = ".redoseg-held"  # in a temporary folder: locked as long as the process that made the folder lives


def at_home(path: str | os.PathLike[str]) -> Path:
    """A path with ~ or ~user at its start replaced, as a shell does; of a user who does not exist it stays."""
    return Path(os.path.expanduser(path))


def cache_dir() -> Path:
    """The folder of redoseg in the user's cache: below $XDG_CACHE_HOME, or ~/.cache. It need not exist.

    A relative path in the variable does not count, by the XDG Base Directory Specification: each folder that a command
    is started in would have a cache of its own.
    """
    base = at_home(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "redoseg"


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process alone has the folder within the block; with `wait` it waits until it has.

    The lock ends with the process, however that ends. Where the system or the file system has no locks, the answer is
    always yes. Raises FileNotFoundError if the folder does not exist, or no longer exists once it is free.
    """
    if fcntl is None:
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


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Within the block this process alone writes results into the folder, which is made if it does not exist.

    Every verb that writes several files into a folder does so within such a block; blocks of one folder do not nest.
    What a killed writer has left there is removed first. Raises DataError if another process writes there, or if the
    folder cannot be made.
    """
    make_folder(folder)
    with contextlib.ExitStack() as stack:
        mine = True
        with contextlib.suppress(PermissionError):  # a folder that may be written but not listed
            mine = stack.enter_context(locked(folder))
        if not mine:
            raise DataError(
                f"{printable(folder)} is in use by another redoseg, which writes there. Wait until it ends, or choose "
                "another folder."
            )
        sweep(folder)
        check_writable(folder)
        yield


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed writers have left in a folder. Those that are being written stay."""
    _swept.add(os.path.abspath(folder))
    with contextlib.suppress(OSError):
        for name in filter(_TEMPORARY.fullmatch, os.listdir(folder)):
            with contextlib.suppress(OSError), open(folder / name, "rb") as file:
                if _lock(file):
                    os.unlink(folder / name)


@contextlib.contextmanager
def temporary_folder(kind: str) -> Iterator[Path]:
    """An empty folder for the block, which is deleted after it, in the system's folder for temporary files.

    Those of the same kind that killed processes have left there are deleted first. Raises DataError if none can be
    made.
    """
    import shutil
    import tempfile

    prefix = f"redoseg-{kind}-"
    try:
        _remove_left(Path(tempfile.gettempdir()), prefix)
        made = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    except OSError as error:
        raise DataError(
            f"a folder for temporary files cannot be made ({describe_error(error)}); set TMPDIR to a folder that can "
            "be written, or free space"
        ) from None
    with made as name, open(Path(name) / _HELD, "xb") as file:
        with contextlib.suppress(OSError):  # without locks it is never removed by others
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
        file.write(_HELD.encode())  # only now: before it is locked, nobody may take it for left
        file.flush()
        inner = Path(name).resolve() / "files"
        inner.mkdir()
        try:
            yield inner
        finally:
            shutil.rmtree(inner, ignore_errors=True)


def _remove_left(where: Path, prefix: str) -> None:
    """Remove the folders of `temporary_folder` that no process holds any more."""
    import shutil

    if fcntl is None:  # nothing says whether another process still uses one
        return
    for name in os.listdir(where):
        held = where / name / _HELD
        if name.startswith(prefix) and not (where / name).is_symlink():
            with contextlib.suppress(OSError), open(held, "rb") as file:
                if os.fstat(file.fileno()).st_uid == os.getuid() and _lock(file) and file.read() == _HELD.encode():
                    shutil.rmtree(where / name, ignore_errors=True)


def _lock(file: IO[bytes]) -> bool:
    """Whether the lock of a file was free and is now held until the file is closed. Raises OSError without locks."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def text_of(data: bytes) -> str:
    """The text of a file that a person wrote: UTF-8, or what its byte-order mark says. Raises UnicodeDecodeError."""
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if marked else "utf-8-sig")
    if "\0" in text:  # two or four bytes a character, but no mark
        raise UnicodeDecodeError("utf-8", data, data.index(0), data.index(0) + 1, "a byte of 0")
    return text


def _escaped(text: str) -> str:
    return "".join(
        # a byte b of a path that is not text comes from the system as the surrogate 0xDC00 + b
        c if c.isprintable() else f"\\x{ord(c) - 0xDC00:x}" if "\udc80" <= c <= "\udcff" else ascii(c)[1:-1]
        for c in text
    )


def printable(path: str | os.PathLike[str]) -> str:
    """A path as one printable line, whatever bytes are in it."""
    return _escaped(os.fspath(path))


def in_shell(path: str | os.PathLike[str]) -> str:
    """A path as one word of a command that a person may copy."""
    text = printable(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def describe_error(error: BaseException) -> str:
    """Why a file could not be read or written, as one printable line of at most 200 characters."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, FileExistsError):  # of a folder that should be made
        text = os.strerror(errno.ENOTDIR)
    if isinstance(error, UnicodeDecodeError):
        text = f"line {error.object.count(10, 0, error.start) + 1} is not UTF-8; save it as UTF-8"
    return _escaped(" ".join(text.split()))[:200] or type(error).__name__


def why_not_there(path: str | os.PathLike[str]) -> str:
    """What is wrong with a path where a folder is needed: a verb and its object. A folder alone is "is a folder"."""
    try:
        return "is a folder" if stat.S_ISDIR(os.stat(path).st_mode) else "is a file"
    except FileNotFoundError:
        return "does not exist"
    except (OSError, ValueError) as error:
        return f"cannot be opened ({describe_error(error)})"


def suggest_fix(error: OSError, path: Path) -> str:
    """What to do about a path that cannot be written."""
    if _in_cache(path):
        return "set XDG_CACHE_HOME to a folder that can be written"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "change its permissions or choose another path"
    if error.errno == errno.EISDIR:
        return "remove the folder of that name or choose another path"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "make its folder or choose another path"
    return "free space or choose another path"


def _in_cache(path: Path) -> bool:
    """Whether a path is in the user's cache, which nobody chose on the command line."""
    with contextlib.suppress(RuntimeError):  # no home
        return path.is_relative_to(cache_dir())
    return False


def write_atomic(path: str | Path, data: bytes | Iterable[bytes], key: str = "") -> None:
    """Write a file so that it is there whole or not at all.

    `data` may come in pieces; what raises an error between them leaves no file. A picture gets a mark in a comment, by
    which later runs know it as a result (`is_result`). The first piece has the whole head of a picture. `key`, 32
    hexadecimal digits, is stored in a PNG file too, for `key_of`. Raises DataError if the file cannot be written,
    FullError where no other could be either.
    """
    with whole_file(Path(path)) as file:
        file.writelines(marked(data, key))


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write within the block, which then gets its name, or else leaves none. Errors as `write_atomic`."""
    if os.path.abspath(path.parent) not in _swept:
        sweep(path.parent)
    try:
        temporary, file = _new_temporary(path)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if fcntl is not None:
                    os.replace(temporary, path)
            if fcntl is None:  # Windows does not rename an open file
                os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(error, path) from error


def cannot_write(error: OSError, path: Path) -> DataError:
    """The mistake that a path cannot be written; a FullError where no other could be either."""
    return _unwritable(error)(
        f"{printable(path)}: cannot be written ({describe_error(error)}): {suggest_fix(error, path)}"
    )


def _new_temporary(path: Path) -> tuple[Path, IO[bytes]]:
    """A new file beside a path, locked until it is closed, so that nobody sweeps it. Raises OSError."""
    while True:
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        file = open(temporary, "xb")  # noqa: SIM115
        try:
            if _lock(file) and temporary.exists():
                return temporary, file
        except OSError:  # without locks nobody sweeps either
            return temporary, file
        # another thread or process swept the folder before the lock was held
        file.close()
        temporary.unlink(missing_ok=True)


def _unwritable(error: OSError) -> type[DataError]:
    return FullError if error.errno in _FULL else DataError


def make_folder(folder: Path) -> None:
    """Make a folder for results and those above it. Raises DataError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "expected a folder for the results; choose another place"
        if _in_cache(folder) or not isinstance(error, FileExistsError | NotADirectoryError):
            remedy = suggest_fix(error, folder)
        raise _unwritable(error)(f"{printable(folder)} cannot be made ({describe_error(error)}); {remedy}") from error


@contextlib.contextmanager
def whole_folder(out: Path, what: str = "folder", *, replace: bool = False) -> Iterator[Path]:
    """A new folder to fill within the block, which then gets the name `out`; a kill leaves none of that name.

    `what` it is, for messages. Raises RedosegError if `out` exists, DataError if it cannot be made. With `replace` a
    folder `out` that exists stays until the new one is filled.
    """
    if out.exists() and not replace:
        raise RedosegError(f"{printable(out)} exists; expected a new {what}; choose another path")
    partial, old = (out.parent / f".{out.name}.{secrets.token_hex(4)}.{end}" for end in ("partial", "old"))
    try:
        try:
            partial.mkdir(parents=True)
            with locked(partial):
                _remove_partial(out)
                yield partial
                if out.exists():
                    if not replace:
                        raise RedosegError(f"{printable(out)} exists, made by another redoseg; choose another path")
                    os.rename(out, old)
                os.rename(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            _remove_old(old, out)
    except OSError as error:
        raise DataError(
            f"{printable(out)} cannot be made ({describe_error(error)}): {suggest_fix(error, out)}"
        ) from error


def _remove_partial(out: Path) -> None:
    """Remove what killed calls have left of a folder that never got its name `out`, or has lost it."""
    name = re.compile(rf"\.{re.escape(out.name)}\.[0-9a-f]{{8}}\.(partial|old)")
    if fcntl is None:  # nothing says whether another process still fills one
        return
    with contextlib.suppress(OSError):
        for found in filter(name.fullmatch, os.listdir(out.parent)):
            with contextlib.suppress(OSError), locked(out.parent / found) as mine:
                if mine:
                    _remove_old(out.parent / found, out)


def _remove_old(folder: Path, out: Path) -> None:
    """Remove a folder under another name; one that had the name `out` gets it back where nothing else has it."""
    if folder.suffix == ".old" and folder.exists() and not out.exists():
        os.rename(folder, out)
    shutil.rmtree(folder, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """Raises DataError where no file can be written into a folder, which is made if it does not exist.

    To be called before the work whose result goes there.
    """
    make_folder(folder)
    error = why_unwritable(folder)
    if error is not None:
        raise _unwritable(error)(
            f"{printable(folder)} cannot be written to ({describe_error(error)}): {suggest_fix(error, folder)}"
        )


def why_unwritable(folder: Path) -> OSError | None:
    """Why no file can be written into a folder, or why it cannot be made; None if it can. Nothing is left behind."""
    try:
        os.stat(folder)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return error
    here = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    probe = here / f".{secrets.token_hex(8)}.tmp"
    try:
        try:
            probe.touch(exist_ok=False)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        return error
    return None


def check_file(path: Path) -> None:
    """Raises DataError where a result cannot be written to a path. To be called before the work."""
    error = why_unwritable(path.parent)
    if error is None and os.path.isdir(path):
        error = IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if error is not None:
        fix = suggest_fix(error, path) if isinstance(error, PermissionError) else "choose another file"
        raise DataError(f"{printable(path)} cannot be written ({describe_error(error)}). {fix.capitalize()}.")


def check_folder(folder: Path, option: str = "--out") -> None:
    """Raises DataError where results cannot be written into a folder that an option names. To be called before."""
    error = why_unwritable(folder)
    if error is not None:
        what = "written to" if os.path.isdir(folder) else "made"
        raise DataError(f"{printable(folder)} cannot be {what} ({describe_error(error)}); choose another {option}")


def why_not_write(
    target: Path, inputs: set[str], overwrite: bool, an_input: str = "a picture to segment"
) -> str | None:
    """Why a result may not be written to `target`, if it may not; `inputs` are real paths of what is read."""
    if os.path.realpath(target) in inputs:
        return f"is {an_input}: choose another folder for the results"
    if target.exists() and not overwrite:
        return "exists: choose another path, or allow overwriting (--overwrite)"
    return None
