"""Pictures that are elsewhere, brought to this machine once: folders in storage, and shards, into the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from redoseg.errors import DataError
from redoseg.files import cache_dir, describe_error, locked, printable, suggest_fix
from redoseg.images.lists import is_list, listed_in, names_of
from redoseg.images.shards import is_shard, samples_of
from redoseg.storage import Address, Place, Stored, files_below, forget_listings, place_of, save, version_of
from redoseg.system import in_order

_FETCHERS = 16
_JOURNAL, _WHOLE = "fetched.jsonl", "whole"

OnFile = Callable[[int, int], None]
"""Called with the files done and their total."""


def local_folder(spec: str | Path, on_file: OnFile | None = None) -> str | Path:
    """What is named, on this machine: a folder in storage, or what a list of addresses names, as its copy; a shard
    unpacked; all else is left alone.

    The copy is in the user's cache. Called again, it fetches what has changed. Raises DataError, MissingError.
    """
    place = place_of(spec)
    forget_listings()
    if is_shard(place) and (isinstance(place, Address) or place.is_file()):
        return unpacked([place])
    if is_list(place) and (isinstance(place, Address) or place.is_file()):
        return _listed(place, on_file)
    if isinstance(place, Address):
        return _copied(place, on_file)
    return place if str(spec).lower().startswith("file://") else spec


def local_folders(specs: Sequence[str | Path]) -> list[Path]:
    """As `local_folder` for each; shards alone are unpacked into one folder together. Raises DataError."""
    places = [place_of(spec) for spec in specs]
    forget_listings()
    if places and all(is_shard(place) for place in places):
        return [unpacked(places)]
    return [Path(local_folder(spec)) if not isinstance(spec, Path) else spec for spec in specs]


def _copied(folder: Address, on_file: OnFile | None) -> Path:
    """The copy of a folder in storage."""
    if folder.on_web:
        raise DataError(
            f"{printable(folder)} is an address on the web, where files cannot be listed, but a folder is needed; "
            "write a list of the addresses of its files, which ends in .txt, and choose it"
        )
    with _place_for(folder.text.rstrip("/"), folder.name) as copy:
        there = files_below(folder)
        wrong = next((name for name in there if ".." in PurePosixPath(name).parts or "\\" in name), None)
        if wrong is not None or not there:
            seen = f"has a file called {printable(wrong)}" if wrong else "has no files"
            raise DataError(f"{printable(folder)} {seen}; expected a folder of pictures; check the address")
        _bring({name: folder / name for name in there}, there, copy, on_file)
        return copy


def _listed(file: Place, on_file: OnFile | None) -> Path:
    """The copy of what a list of addresses names, in folders as it is there; of shards, what is in them."""
    places = listed_in(file)
    if all(is_shard(place) for place in places):
        return unpacked(places)
    path = next((place for place in places if isinstance(place, Path)), None)
    if path is not None:
        raise DataError(
            f"{printable(file)} lists {printable(path)}, which is a path; expected addresses; choose the folder of it"
        )
    addresses = sorted({place for place in places if isinstance(place, Address)})
    wanted = dict(zip(map(str, names_of(addresses)), addresses, strict=True))
    with _place_for(str(file.absolute() if isinstance(file, Path) else file), file.stem) as copy:
        with contextlib.closing(in_order(version_of, addresses, _FETCHERS)) as versions:
            there = {name: Stored(-1, version) for name, version in zip(wanted, versions, strict=True)}
        _bring(wanted, there, copy, on_file)
        return copy


def _bring(wanted: dict[str, Address], there: dict[str, Stored], copy: Path, on_file: OnFile | None) -> None:
    """Fetch what is not in the copy as it is there, and remove what is no longer there. Raises DataError, OSError."""
    journal = copy.parent / _JOURNAL
    known = _versions(journal)
    fresh = [
        name
        for name, about in there.items()
        if not about.version or known.get(name) != about.version or not _has(copy / name, about.size)
    ]
    lock = threading.Lock()
    with open(journal, "a", encoding="utf-8") as noted:

        def fetch(name: str) -> None:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            save(wanted[name], copy / name)
            with lock:
                noted.write(json.dumps([name, there[name].version]) + "\n")
                noted.flush()

        with contextlib.closing(in_order(fetch, fresh, _FETCHERS)) as fetched:
            for number, _ in enumerate(fetched, 1):
                if on_file is not None:
                    on_file(number, len(fresh))
    for path in [path for path in copy.rglob("*") if path.is_file()]:
        if path.relative_to(copy).as_posix() not in there:
            path.unlink()


def unpacked(shards: Sequence[Place]) -> Path:
    """The pictures of shards as a folder with images/ and, where there are some, masks/. Raises DataError."""
    made_of = [[str(shard), _version(shard)] for shard in shards]
    with _place_for(json.dumps(made_of), shards[0].stem) as folder:
        whole = folder.parent / _WHOLE
        if whole.exists():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        names = [shard.stem for shard in shards]
        if len(set(names)) < len(names):  # of several folders
            names = [f"{number}-{name}" for number, name in enumerate(names)]
        for shard, name in zip(shards, names, strict=True):
            inside = PurePosixPath(name if len(shards) > 1 else "")
            for sample in samples_of(shard):
                key = PurePosixPath(*(part for part in PurePosixPath(sample.key).parts if part not in ("/", "..")))
                suffix = PurePosixPath(sample.name).suffix or ".png"
                _put(folder / "images" / inside / f"{key}{suffix}", sample.content)
                if sample.mask is not None:
                    _put(folder / "masks" / inside / f"{key}.png", sample.mask)
        if not folder.exists():
            raise DataError(f"{printable(shards[0])}: no picture found in it; choose another")
        whole.touch()
        return folder


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@contextlib.contextmanager
def _place_for(identity: str, name: str) -> Iterator[Path]:
    """A folder in the cache for this process alone, whose name is that of the set. Raises DataError."""
    above = cache_dir() / "fetched" / hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    try:
        above.mkdir(parents=True, exist_ok=True)
        with locked(above, wait=True):
            yield above / (name if name not in ("", ".", "..") else "pictures")
    except OSError as error:
        raise DataError(
            f"{printable(above)}: cannot be written ({describe_error(error)}); {suggest_fix(error, above)}"
        ) from error


def _versions(journal: Path) -> dict[str, str]:
    """The versions of the files that were fetched."""
    known: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in journal.read_text("utf-8").splitlines():
            with contextlib.suppress(ValueError):  # torn by a kill
                name, version = json.loads(line)
                known[name] = version
    return known


def _has(path: Path, size: int) -> bool:
    """Whether a file is there, of this size; -1 is any."""
    try:
        return size in (-1, path.stat().st_size)
    except OSError:
        return False


def _version(shard: Place) -> str:
    if isinstance(shard, Address):
        return version_of(shard)
    state = os.stat(shard)
    return f"{state.st_size} {state.st_mtime_ns}"
