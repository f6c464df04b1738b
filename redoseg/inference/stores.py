"""Where results go: a folder on this machine, or a folder in storage. Both have the same few calls."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from redoseg import files, own_results, storage
from redoseg.errors import DataError
from redoseg.files import printable
from redoseg.storage import Address, Place

_EXISTS = "exists: choose another path, or allow overwriting (--overwrite)"
_HEAD = 1024  # bytes that have the mark and the key of all formats but WebP


class Folder:
    """A folder on this machine."""

    def __init__(self, place: Path) -> None:
        self.place: Place = place
        self.notes = place / ".decoding"  # for what is noted while files are decoded
        self._folder = place

    def alone(self) -> AbstractContextManager[None]:
        """As `files.alone`."""
        return files.alone(self._folder)

    def exists(self, target: Place) -> bool:
        """Whether a file is there."""
        return os.path.exists(target)

    def read(self, target: Place) -> bytes:
        """What a file contains. Raises OSError."""
        return Path(target).read_bytes()

    def key_of(self, target: Place) -> str | None:
        """As `own_results.key_of`."""
        return own_results.key_of(target)

    def why_not_write(self, target: Place, inputs: set[str], overwrite: bool) -> str | None:
        """As `files.why_not_write`."""
        return files.why_not_write(Path(target), inputs, overwrite)

    def write(self, target: Place, pieces: Iterable[bytes], key: str = "") -> None:
        """As `files.write_atomic`, in a folder that need not exist."""
        files.make_folder(Path(target).parent)
        files.write_atomic(Path(target), pieces, key)

    def remove(self, target: Place) -> None:
        """Remove a file, if it is there. Raises OSError."""
        Path(target).unlink(missing_ok=True)


class Bucket:
    """A folder in storage. What is there is listed once, so that looking for a result costs nothing.

    Others who write there at the same time are not seen, but every file is whole, and the same
    work gives the same bytes. Raises DataError where nothing can be written to such an address.
    """

    def __init__(self, place: Address) -> None:
        storage.check_target(place)
        self.place: Place = place
        self.notes = storage.local_notes(place) / "decoding"
        self._folder = place
        self._there: set[str] | None = None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Within the block no other redoseg on this machine writes there."""
        with files.alone(self.notes.parent):
            self._there = {str(self._folder / name) for name in storage.files_below(self._folder)}
            yield

    def exists(self, target: Place) -> bool:
        """Whether a file is there."""
        if self._there is not None:
            return str(target) in self._there
        return storage.head_of(_address(target), 1) != b""

    def read(self, target: Place) -> bytes:
        """What a file contains. Raises FileNotFoundError, DataError."""
        if not self.exists(target):
            raise FileNotFoundError(printable(target))
        return _address(target).read_bytes()

    def key_of(self, target: Place) -> str | None:
        """As `own_results.key_of`."""
        if self._there is not None and not self.exists(target):
            return None
        head = storage.head_of(_address(target), _HEAD)
        return own_results.key_of(self.read(target) if head[:4] == b"RIFF" else head)

    def why_not_write(self, target: Place, inputs: set[str], overwrite: bool) -> str | None:
        """As `files.why_not_write`."""
        if str(target) in inputs:
            return "is a picture to segment: choose another folder for the results"
        return _EXISTS if not overwrite and self.exists(target) else None

    def write(self, target: Place, pieces: Iterable[bytes], key: str = "") -> None:
        """Write a file whole or not at all. Raises FullError."""
        storage.write(_address(target), own_results.marked(pieces, key))
        if self._there is not None:
            self._there.add(str(target))

    def remove(self, target: Place) -> None:
        """Remove a file, if it is there."""
        storage.remove(_address(target))
        if self._there is not None:
            self._there.discard(str(target))


Store = Folder | Bucket
"""What the work needs of the place of its results. Each call raises DataError where it cannot do its work."""


def store_of(place: Place) -> Store:
    """The store of a folder or an address. Raises DataError."""
    return Bucket(place) if isinstance(place, Address) else Folder(place)


def _address(target: Place) -> Address:
    if not isinstance(target, Address):
        raise DataError(f"{printable(target)} is a path, but expected an address")
    return target
