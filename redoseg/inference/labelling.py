"""The formats of labelling tools and of the measures in one table: which file each has, what writes and reads it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from redoseg.config.kinds import Kind
from redoseg.files import printable
from redoseg.images.labels import coco, labelme, labelstudio, yolo
from redoseg.images.labels.entry import Entry
from redoseg.images.objects import Described
from redoseg.inference import measures

_JOURNAL = ".redoseg-keys"


@dataclass(frozen=True)
class OneFile:
    """A format with one file for all photographs."""

    file: str
    entry: Callable[[Described], Entry]
    content: Callable[[Sequence[Entry], str], bytes]
    """Of the entries, and what an object is called."""
    entries_of: Callable[[bytes], list[Entry]]
    """Those of a file that `content` made; raises ValueError for another."""
    beside: str = ""
    """A small file that the tool needs beside it."""
    content_beside: Callable[[str], bytes] | None = None
    """Of what an object is called."""


@dataclass(frozen=True)
class FileEach:
    """A format with a file for each photograph."""

    suffix: str
    content: Callable[[Described], bytes]
    folder: str = ""
    """Below which the files are."""
    keeps_key: bool = False
    """Whether the file says what it was made of; otherwise a `Journal` does."""
    by_stem: bool = False
    """Whether the tool finds the file by the photograph's name without its suffix alone."""
    beside: str = ""
    content_beside: Callable[[str], bytes] | None = None


FORMATS: dict[Kind, OneFile | FileEach] = {
    "coco": OneFile("coco.json", coco.entry, coco.content, coco.entries_of),
    "labelstudio": OneFile(
        "labelstudio.json",
        labelstudio.entry,
        labelstudio.content,
        labelstudio.entries_of,
        beside="labelstudio.xml",
        content_beside=labelstudio.config,
    ),
    "measures": OneFile("measures.csv", measures.entry, measures.content, measures.entries_of),
    "labelme": FileEach(".json", labelme.content, keeps_key=True),
    "yolo": FileEach(
        ".txt", yolo.content, folder="labels", by_stem=True, beside="data.yaml", content_beside=yolo.data_yaml
    ),
}


def format_of(kind: Kind, polygons: bool = False) -> OneFile | FileEach | None:
    """A kind's format; None for pictures. COCO's masks are `polygons` or run-length codes."""
    if kind == "coco" and polygons:
        return OneFile("coco.json", coco.entry_of_polygons, coco.content, coco.entries_of)
    return FORMATS.get(kind)


class Journal:
    """What files were made of that have no room for it: lines of key, hash of the content, and name.

    A line is written before its file. So after a kill a file is known by its content or is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._path = folder, folder / _JOURNAL
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, str]] | None = None

    def note(self, target: Path, key: str, content: bytes) -> None:
        """Note what a file is made of, before it is written. Raises OSError."""
        name, digest = self._name(target), _digest(content)
        with self._lock:
            self._read()[name] = key, digest
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(f"{key} {digest} {name}\n")

    def key_of(self, target: Path) -> str | None:
        """The key of a file; "" where it has another content, None where no such file can be read."""
        try:
            content = target.read_bytes()
        except OSError:
            return None
        with self._lock:
            key, digest = self._read().get(self._name(target), ("", ""))
        return key if digest == _digest(content) else ""

    def _name(self, target: Path) -> str:
        return printable(target.relative_to(self.folder).as_posix())

    def _read(self) -> dict[str, tuple[str, str]]:
        if self._known is None:
            self._known = {}
            try:
                lines = self._path.read_text("utf-8", errors="replace").splitlines()
            except OSError:
                lines = []
            for line in lines:
                key, _, rest = line.partition(" ")
                digest, _, name = rest.partition(" ")
                self._known[name] = key, digest
        return self._known


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
