"""What is made of one shard: the results of its pictures are in a shard of its name, under the same keys."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tempfile
import threading
from collections import defaultdict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redoseg.config.kinds import DRAWN, Kind
from redoseg.errors import DataError, FullError
from redoseg.files import printable
from redoseg.images.read import MAX_PIXELS
from redoseg.images.shards import PARQUET, ROWS, columns_of, key_and_ending, opened, pyarrow_parquet, samples_of
from redoseg.inference.one_image import Job, Made, Places, Plan, Work
from redoseg.inference.report import Tally
from redoseg.inference.request import Request
from redoseg.inference.segmenter import Segmenter
from redoseg.inference.steps import Done, Steps
from redoseg.inference.stores import Bucket, Folder, Store
from redoseg.own_results import key_of, marked
from redoseg.storage import Address, Place
from redoseg.system import Room, in_order

_BLOCK = 512  # bytes of a tar


def segment_shard(segmenter: Segmenter, shard: Place, store: Store, request: Request) -> Tally:
    """Segment one shard; what became of its pictures, or why it failed. Raises FullError, MissingError."""
    target, tally = store.place / shard.name, Tally()
    here = str(shard) if isinstance(shard, Address) else os.path.realpath(shard)
    try:
        problem = store.why_not_write(target, {here}, request.overwrite or request.skip_existing)
        if problem:
            raise DataError(f"{printable(target)} {problem}")
        with contextlib.ExitStack() as stack:
            earlier = _Earlier()
            if request.skip_existing and store.exists(target):
                earlier = stack.enter_context(_earlier(target, store))
            places = _Members(store.place, request)
            work = Work(segmenter, request, places, set(), root=shard.parent.name, given=_Kept(store, earlier))
            run = _Shard(Steps(work, MAX_PIXELS, Room(MAX_PIXELS)), shard, earlier, tally)
            stack.callback(run.steps.notes.close)
            with contextlib.suppress(_Unchanged):
                store.write(target, run.parquet() if shard.suffix.lower() == PARQUET else run.tar())
                tally.written.append(target)
    except FullError:
        raise
    except DataError as error:
        return Tally([(shard, str(error).removeprefix(f"{printable(shard)}: "))])
    return tally


class _Unchanged(Exception):
    """The shard that is there already has all that can be made."""


@dataclass(frozen=True)
class _Members(Places):
    """Names of results in a shard: the picture's key, the kind, the suffix."""

    def own(self, kind: Kind, stem: str, number: int = 0) -> Place:
        numbered = f"-{number}" if number else ""
        return Path(f"{stem}.{kind}{numbered}{self.request.suffix(kind)}")


@dataclass
class _Earlier:
    """The results of a shard that an earlier call has written, by their names."""

    names: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By the picture's key."""
    kinds: list[str] = field(default_factory=list)
    """The columns that a Parquet file has of results."""
    read: Any = None
    """From a name to its content; None where there is no such result."""

    def content(self, name: str) -> bytes | None:
        return self.read(name) if self.read is not None else None


class _Kept(Folder):
    """The results in a shard, as the work asks for them. The shard itself is written elsewhere."""

    def __init__(self, store: Store, earlier: _Earlier) -> None:
        super().__init__(Path())
        self.notes, self._earlier = store.notes, earlier

    def exists(self, target: Place) -> bool:
        return self._earlier.content(str(target)) is not None

    def key_of(self, target: Place) -> str | None:
        content = self._earlier.content(str(target))
        return None if content is None else key_of(content)

    def why_not_write(self, target: Place, inputs: set[str], overwrite: bool) -> str | None:
        return None


@dataclass
class _Shard:
    """One shard on its way."""

    steps: Steps
    shard: Place
    earlier: _Earlier
    tally: Tally

    def _results(self) -> Generator[Done, None, None]:
        """What became of each picture, in order, counted. Raises _Unchanged after the last, if all was there."""
        jobs = (self._job(sample) for sample in samples_of(self.shard))
        made, any_image = False, False
        with contextlib.closing(in_order(self.steps.make, jobs, self.steps.work.segmenter.threads)) as results:
            for one in results:
                self.tally.take(one)
                made, any_image = made or isinstance(one.made, Made), True
                yield one
        if not any_image:
            raise DataError(
                f"{printable(self.shard)}: no picture found in it; expected members such as 0001.jpg; choose another"
            )
        if not made:
            raise _Unchanged

    def _job(self, sample: Any) -> Job | Done:
        job = Job(self.shard / sample.name, sample.name, sample.key, sample.content)
        return Done(job._replace(content=None), sample.problem) if sample.problem else job

    def _files(self, one: Done) -> dict[str, bytes]:
        """The results of a picture by their names: those made now, and those of earlier that stay."""
        if not isinstance(one.made, Made | Plan):
            return {}
        new = {str(path): b"".join(marked(pieces, key)) for path, pieces, key in getattr(one.made, "files", ())}
        if new and self.steps.work.request.parts:
            return new  # another number of parts than before
        old = {name: self.earlier.content(name) or b"" for name in self.earlier.names.get(one.job.stem, ())}
        return old | new

    def tar(self) -> Iterator[bytes]:
        """The tar of the results, in pieces."""
        for one in self._results():
            for name, content in self._files(one).items():
                about = tarfile.TarInfo(name)
                about.size = len(content)
                yield about.tobuf(tarfile.PAX_FORMAT)
                yield content
                yield bytes(-len(content) % _BLOCK)
        yield bytes(2 * _BLOCK)

    def parquet(self) -> Iterator[bytes]:
        """The Parquet file of the results, in pieces: the columns beside the pictures, and one for each kind."""
        parquet = pyarrow_parquet()
        import pyarrow as pa

        with contextlib.ExitStack() as stack:
            table = _parquet_of(self.shard, stack)
            names = columns_of(table.schema_arrow, self.shard).others
            others = table.read(columns=names)
            kinds = list(dict.fromkeys((*self.earlier.kinds, *self.steps.work.request.kinds)))
            image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            schema = pa.schema([*(others.schema.field(name) for name in names), *((kind, image) for kind in kinds)])
            sink = _Pieces()
            writer = parquet.ParquetWriter(sink, schema)
            row, waiting = 0, list[dict[str, Any]]()

            def flush() -> bytes:
                nonlocal row, waiting
                cells = [pa.array([files.get(kind) for files in waiting], image) for kind in kinds]
                kept = [others.column(name).slice(row, len(waiting)).combine_chunks() for name in names]
                writer.write_table(pa.table([*kept, *cells], schema=schema))
                row, waiting = row + len(waiting), []
                return sink.taken()

            for one in self._results():
                files = {Path(name).suffixes[0][1:]: (name, content) for name, content in self._files(one).items()}
                waiting.append({kind: {"bytes": content, "path": name} for kind, (name, content) in files.items()})
                if len(waiting) == ROWS:
                    yield flush()
            yield flush()
            writer.close()
            yield sink.taken()


class _Pieces(io.RawIOBase):
    """A file that is only written, whose content is taken away in pieces."""

    def __init__(self) -> None:
        self._waiting, self._at = bytearray(), 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        self._waiting += data
        self._at += len(data)
        return len(data)

    def taken(self) -> bytes:
        """What was written since the last call."""
        content = bytes(self._waiting)
        self._waiting.clear()
        return content


def _parquet_of(shard: Place, stack: contextlib.ExitStack) -> Any:
    return pyarrow_parquet().ParquetFile(stack.enter_context(opened(shard)))


@contextlib.contextmanager
def _earlier(target: Place, store: Store) -> Iterator[_Earlier]:
    """The results in the shard that is there; none where it cannot be read."""
    with contextlib.ExitStack() as stack:
        try:
            found = _of_parquet(target, stack) if target.suffix.lower() == PARQUET else _of_tar(target, store, stack)
        except (OSError, ValueError, tarfile.TarError, DataError):
            found = _Earlier()
        yield found


def _of_tar(target: Place, store: Store, stack: contextlib.ExitStack) -> _Earlier:
    if isinstance(store, Bucket):
        file: Any = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        file.write(store.read(target))
        file.seek(0)
    else:
        file = stack.enter_context(opened(target))
    archive = stack.enter_context(tarfile.open(fileobj=file, mode="r:"))  # noqa: SIM115
    members = {member.name: member for member in archive if member.isfile()}
    lock = threading.Lock()

    def read(name: str) -> bytes | None:
        if name not in members:
            return None
        with lock:
            content = archive.extractfile(members[name])
            return content.read() if content is not None else None

    found = _Earlier(read=read)
    for name in members:
        found.names[key_and_ending(name)[0]].append(name)
    return found


def _of_parquet(target: Place, stack: contextlib.ExitStack) -> _Earlier:
    table = _parquet_of(target, stack)
    kinds = [name for name in table.schema_arrow.names if name in DRAWN]
    files: dict[str, bytes] = {}
    found = _Earlier(kinds=kinds, read=files.get)
    for number, row in enumerate(table.read(columns=kinds).to_pylist()):
        for cell in (row[kind] for kind in kinds if row[kind] is not None):
            files[cell["path"]] = cell["bytes"]
            found.names[str(number)].append(cell["path"])
    return found
