"""Write a prepared set: decode in parallel, append in order, continue where an earlier call was stopped.

While it is written a set is the hidden folder `.NAME.partial` beside its place:

    plan         digest of everything that the result depends on; another plan starts again
    done.jsonl   what is finished, a line for every few hundred items, written after their pixels are on disk
    decoding/    the files that are being decoded (`images/crashes.py`)
    set/         what becomes the set; renamed to its place when it is whole

Nothing but that last rename makes a set, so a half-written one is never taken for a whole one.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import PIL

from redoseg import __version__
from redoseg.data.decoding import Decoded, decode
from redoseg.data.listing import Item, Listing
from redoseg.data.mask_values import AUTO, settle
from redoseg.data.prepared import AT_LEAST, FORMAT, SPLITS, open_prepared
from redoseg.errors import DataError
from redoseg.files import describe_error, locked, printable, suggest_fix
from redoseg.images.crashes import DecodingNotes
from redoseg.images.cut_short import notes_of
from redoseg.images.read import BACKGROUND, OBJECT, UNLABELLED
from redoseg.system import cores

# What is decoded but not yet noted in done.jsonl is lost in a kill.
COMMIT_ITEMS = 1024
COMMIT_SECONDS = 2.0

LEFT_OUT, NO_MASK, WITH_MASK = "-", "o", "m"  # what became of an item, in done.jsonl


@dataclass(frozen=True)
class Prepared:
    """What came of preparing a set."""

    out: Path
    pictures: int
    labelled: int
    bad: tuple[tuple[str, str], ...] = ()
    """Files that could not be used, each with its reason."""
    notes: tuple[str, ...] = ()
    found: int = 0
    """Items that an earlier, stopped call had already done."""


OnItem = Callable[[int, int], None]
"""Called with the items done and their total."""


def write_prepared(
    out: str | Path,
    name: str,
    listing: Listing,
    *,
    size: int,
    source: str | Path,
    nearest: bool = False,
    at_least: int = AT_LEAST,
    workers: int = 0,
    wait: bool = False,
    on_item: OnItem | None = None,
) -> Prepared:
    """Decode a listing into a prepared set of side `size` [pixels] in the new folder `out`.

    A picture that cannot be read is listed with its reason and the rest is prepared; one whose mask cannot be used is
    kept as not labelled. Called again after a stop of any kind, it continues, and the result has the
    same bytes; where the very same set is there already, nothing is done.

    Args:
        name: the set's.
        source: folder that the items' paths are given relative to in the set.
        nearest: take nearest pixels of the whole picture, as the published runs did, instead of smoothed ones.
        at_least: fewer good pictures are refused.
        workers: threads that decode; 0 for one a core.
        wait: for another process that writes the same set, instead of refusing.

    Which values of masks are the object is decided for the whole set (`settle`), and a note says what was found.

    Raises DataError: `out` exists and is not this set, fewer than `at_least` pictures are good, another process is
    writing it, or it cannot be written (full disk ...); what is done is then kept for the next call.
    """
    out, source = Path(out), Path(source)
    _refuse_what_cannot_be(listing, source, size=size, workers=workers, at_least=at_least)
    # Splits lie together, so that one split is a slice of the mapped file.
    items = sorted(listing.items, key=lambda item: SPLITS.index(item.split))
    plan = plan_of(name, listing, size, source, nearest)
    writer: _Writer | None = None
    try:
        with contextlib.ExitStack() as stack:
            partial = out.parent / f".{out.name}.partial"
            if not os.path.lexists(out):
                out.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(_alone(partial, out, wait))
            if os.path.lexists(out):
                done = _already(out, plan)
                shutil.rmtree(partial, ignore_errors=True)
                return done
            decoding = DecodingNotes(partial / "decoding")
            settled, about_masks = settle(items, listing.mask_values, decoding)
            items, notes = list(settled), (*listing.notes, *about_masks)
            writer = _Writer(partial, plan, size, with_masks=any(item.mask for item in items))
            _refuse_without_space(out.parent, size, len(items) - writer.items, writer.with_masks)
            found = writer.items
            if on_item is not None and found:
                on_item(found, len(items))
            rest = decode(items[found:], size, nearest=nearest, threads=workers or cores(), notes=decoding)
            with writer, contextlib.closing(rest):
                _add_all(writer, rest, items, source, on_item)
            notes = (*notes, *notes_of(writer.noted))
            problems = [*listing.bad, *writer.problems]
            _refuse_too_few(writer, at_least, len(items), problems, source)
            about = _how_made(name, size, nearest) | {
                "pictures": writer.pictures,
                "labelled": writer.labelled,
                "splits": writer.splits(items),
                "source": printable(source.absolute()),
                "plan": plan,
                "object_values": listing.mask_values,
                "notes": list(notes),
                "bad": [list(pair) for pair in problems],
            }
            writer.finish(out, items, source, about)
            return Prepared(
                out=out,
                pictures=writer.pictures,
                labelled=writer.labelled,
                bad=tuple(problems),
                notes=notes,
                found=found,
            )
    except OSError as error:
        kept = writer is not None and writer.items > 0
        raise DataError(
            f"{printable(out)}: cannot be written ({describe_error(error)}): {suggest_fix(error, out)}"
            f"{'; what is done is kept, and the same command continues from there' if kept else ''}"
        ) from error


def _add_all(
    writer: _Writer, rest: Iterable[Decoded], items: Sequence[Item], source: Path, on_item: OnItem | None
) -> None:
    """Write what is decoded, item after item, with what was found wrong in it."""
    for decoded in rest:
        bad = [(_relative(path, source), text) for path, text in decoded.problems]
        noted = [(_relative(items[writer.items].image, source), decoded.note)] if decoded.note else []
        writer.add(decoded.image, decoded.mask, bad, noted)
        if on_item is not None:
            on_item(writer.items, len(items))


def _refuse_what_cannot_be(listing: Listing, source: Path, *, size: int, workers: int, at_least: int) -> None:
    """Raises DataError for numbers out of range, and for too few pictures."""
    if not 4 <= size <= 2048:
        raise DataError(f"the size is {size} px, but must be from 4 to 2048; choose another size")
    if workers < 0:
        raise DataError(
            f"the number of workers is {workers}, but must be 1 or more, or 0 for one a core; choose another number"
        )
    if len(listing.items) < at_least:
        raise DataError(
            f"pictures found in {printable(source)}: {len(listing.items)}, but at least {at_least} are needed; "
            "add pictures or choose another folder"
        )


def _refuse_too_few(
    writer: _Writer, at_least: int, items: int, problems: Sequence[tuple[str, str]], source: Path
) -> None:
    """Raises DataError, and removes what was written, where fewer than `at_least` of so many pictures are good."""
    if writer.pictures < at_least:
        shutil.rmtree(writer.partial, ignore_errors=True)
        first, why = problems[0]
        raise DataError(
            f"only {writer.pictures} of {items} pictures in {printable(source)} can be read, but at least "
            f"{at_least} are needed; replace the broken ones, such as {first} ({why})"
        )


def _how_made(name: str, size: int, nearest: bool) -> dict[str, object]:
    """What a set says of itself that does not depend on its pictures."""
    way = "nearest" if nearest else "bilinear (antialiased), large JPEGs decoded at reduced size"
    return {
        "format": FORMAT,
        "name": name,
        "size": size,
        "regions": 2,
        "made": f"shorter side to the size, centre crop; pictures {way}, masks nearest",
        "made_with": {"redoseg": __version__, "pillow": PIL.__version__, "numpy": np.__version__},
        "mask_values": {"background": BACKGROUND, "object": OBJECT, "not labelled": UNLABELLED},
    }


def plan_of(name: str, listing: Listing, size: int, source: Path, nearest: bool = False) -> str:
    """Digest of all that a prepared set depends on: settings, versions, and name, size and time of every file."""
    made_with = (FORMAT, __version__, PIL.__version__, np.__version__)
    settings = repr((made_with, name, size, nearest, listing.bad, listing.notes))
    digest = hashlib.sha256(settings.encode("utf-8", "backslashreplace"))
    if listing.mask_values != AUTO:
        digest.update(f"\nmasks {listing.mask_values}".encode())
    for item in listing.items:
        digest.update(f"\n{item.name}\0{item.split}\0{item.read_mask.__qualname__}".encode("utf-8", "backslashreplace"))
        for path in (item.image, item.mask):
            if path is not None:
                digest.update(b"\0" + os.fsencode(os.path.relpath(path, source)))
                with contextlib.suppress(OSError):
                    state = path.stat()
                    digest.update(f"\0{state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest()


def _already(out: Path, plan: str) -> Prepared:
    """The set that is there. Raises DataError unless it is what this plan would make."""
    seen = "exists and is not a prepared set"
    with contextlib.suppress(DataError, OSError, ValueError, AttributeError, RecursionError):
        there = open_prepared(out)
        if json.loads((out / "dataset.json").read_text("utf-8")).get("plan") == plan:
            return Prepared(
                out=out,
                pictures=len(there),
                labelled=int(there.labelled.sum()),
                bad=there.bad,
                notes=there.notes,
                found=len(there),
            )
        seen = f"is a set prepared from other pictures or settings ({len(there):,} pictures, {there.size} px)"
    raise DataError(f"{printable(out)} {seen}; choose a new folder")


@contextlib.contextmanager
def _alone(partial: Path, out: Path, wait: bool) -> Iterator[None]:
    """Only one process writes a set."""
    with contextlib.ExitStack() as stack:
        while True:
            partial.mkdir(exist_ok=True)
            try:
                mine = stack.enter_context(locked(partial, wait))
                break
            except FileNotFoundError:  # another process has just finished
                continue
        if not mine:
            raise DataError(
                f"{printable(out)} is being written by another process; wait for it, or choose another folder"
            )
        yield


def remove_partial(partial: Path) -> None:
    """Remove what a stopped call left; nothing if another process is writing it."""
    with contextlib.suppress(OSError), locked(partial) as mine:
        if mine:
            shutil.rmtree(partial, ignore_errors=True)


def _refuse_without_space(folder: Path, size: int, items: int, with_masks: bool) -> None:
    needed, free = items * size * size * (4 if with_masks else 3), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{items:,} pictures need {needed / 1e6:,.0f} MB, but {printable(folder)} has {free / 1e6:,.0f} MB free; "
            "free space, or choose another path or a smaller size"
        )


def _relative(path: Path, source: Path) -> str:
    inside = path.is_relative_to(source) and source != Path(source.anchor)
    return printable(path.relative_to(source).as_posix() if inside else path)


class _Writer:
    """The partial folder: what is done in it, and what is added."""

    def __init__(self, partial: Path, plan: str, size: int, with_masks: bool) -> None:
        self.partial, self.set, self.size, self.with_masks = partial, partial / "set", size, with_masks
        self.statuses = ""
        self.problems: list[tuple[str, str]] = []
        self.noted: list[tuple[str, str]] = []
        self.pending: tuple[list[str], list[tuple[str, str]], list[tuple[str, str]]] = ([], [], [])
        self.committed = time.monotonic()
        planned = partial / "plan"
        if not (planned.is_file() and planned.read_bytes() == plan.encode() and self._read_journal()):
            _empty(partial)
            self.statuses, self.problems, self.noted = "", [], []
            self.set.mkdir()
            (partial / "done.jsonl").touch()
            planned.write_text(plan)

    @property
    def items(self) -> int:
        return len(self.statuses) + len(self.pending[0])

    @property
    def pictures(self) -> int:
        return len(self.statuses) - self.statuses.count(LEFT_OUT)

    @property
    def labelled(self) -> int:
        return self.statuses.count(WITH_MASK)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"images.npy": (self.size, self.size, 3)}
        if self.with_masks:
            shapes["masks.npy"] = (self.size, self.size)
        return shapes

    def _read_journal(self) -> bool:
        """What is done; False if the files do not hold it (after a power cut), so that nothing of it counts."""
        journal = self.partial / "done.jsonl"
        whole = 0
        try:
            with open(journal, "rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):  # torn
                        break
                    statuses, problems, noted = json.loads(line)
                    self.statuses += statuses
                    self.problems += [(path, why) for path, why in problems]
                    self.noted += [(path, what) for path, what in noted]
                    whole += len(line)
            os.truncate(journal, whole)
            return all(
                (self.set / name).stat().st_size >= _HEADER + self.pictures * int(np.prod(shape))
                for name, shape in self._shapes().items()
                if self.statuses
            )
        except (OSError, ValueError, TypeError, RecursionError):
            return False

    def __enter__(self) -> _Writer:
        with contextlib.ExitStack() as stack:
            self.arrays: list[IO[bytes]] = []
            for name, shape in self._shapes().items():
                file = stack.enter_context(open(self.set / name, "ab"))
                if not self.statuses:
                    file.truncate(0)
                    file.write(_header(0, shape))
                file.flush()
                file.truncate(_HEADER + self.pictures * int(np.prod(shape)))
                self.arrays.append(file)
            self.journal = stack.enter_context(open(self.partial / "done.jsonl", "ab"))
            self.files = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self.files:
            if kind is None or not issubclass(kind, OSError):  # also on Ctrl-C: nothing that is done is lost
                self._commit()

    def add(self, image: Any, mask: Any, problems: list[tuple[str, str]], noted: list[tuple[str, str]]) -> None:
        """Append one item's pixels and what became of it; `noted` are pictures that are used, with what to say."""
        if image is not None:
            self.arrays[0].write(image.tobytes())
            if self.with_masks:
                blank = np.full((self.size, self.size), UNLABELLED, np.uint8)
                self.arrays[1].write((blank if mask is None else mask).tobytes())
        self.pending[0].append(LEFT_OUT if image is None else NO_MASK if mask is None else WITH_MASK)
        self.pending[1].extend(problems)
        self.pending[2].extend(noted)
        if len(self.pending[0]) >= COMMIT_ITEMS or time.monotonic() - self.committed > COMMIT_SECONDS:
            self._commit()

    def _commit(self) -> None:
        for file in self.arrays:
            _through(file)
        statuses, problems, noted = "".join(self.pending[0]), *self.pending[1:]
        self.journal.write(json.dumps([statuses, problems, noted]).encode() + b"\n")
        _through(self.journal)
        self.statuses += statuses
        self.problems += problems
        self.noted += noted
        self.pending = ([], [], [])
        self.committed = time.monotonic()

    def splits(self, items: Sequence[Item]) -> dict[str, int]:
        """How many of the pictures written are in each split that has a name."""
        kept = (item for item, status in zip(items, self.statuses, strict=True) if status != LEFT_OUT)
        return dict(Counter(item.split for item in kept if item.split))

    def finish(self, out: Path, items: Sequence[Item], source: Path, about: dict[str, Any]) -> None:
        """Write headers and tables, and put the whole set in its place."""
        for name, shape in self._shapes().items():
            with open(self.set / name, "r+b") as array:
                array.write(_header(self.pictures, shape))
                _through(array)
        if self.with_masks and not self.labelled:
            (self.set / "masks.npy").unlink()
        with open(self.set / "items.csv", "w", encoding="utf-8", newline="") as table:
            rows = csv.writer(table, lineterminator="\n")
            rows.writerow(("name", "source", "split", "labelled"))
            for item, status in zip(items, self.statuses, strict=True):
                if status != LEFT_OUT:
                    where = _relative(item.image, source)
                    rows.writerow((printable(item.name), where, item.split, int(status == WITH_MASK)))
            _through(table)
        with open(self.set / "dataset.json", "wb") as described:
            described.write(json.dumps(about, indent=1, ensure_ascii=False).encode() + b"\n")
            _through(described)
        os.rename(self.set, out)
        shutil.rmtree(self.partial, ignore_errors=True)


def _through(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


_HEADER = 128  # bytes


def _header(count: int, shape: tuple[int, ...]) -> bytes:
    """Version 1.0 .npy header of 128 bytes, whatever the count."""
    text = repr({"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})
    return b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little") + text.ljust(_HEADER - 11).encode() + b"\n"
