"""Which picture is in which split: as a file says, or drawn here so that the draw stays the same."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from redoseg.data.listing import Item, Listing
from redoseg.errors import DataError
from redoseg.files import at_home, describe_error, printable, text_of

NAMES = ("train", "val", "dev", "test")
_NUMBERS = {"0": "train", "1": "val", "2": "test"}  # as the lists of the paper's authors have them

_OTHER_NAMES = ("training", "trn", "validation", "valid", "eval", "testing", "tests", "tst")  # what they get called

# What a note on where splits come from begins with; the note goes when others take their place.
_NOTE = "splits "


# -------------------------------------------------------------------------------------------------- reading


def read_splits(path: str | Path) -> dict[str, str]:
    """Name of a picture -> its split, from a file or a folder of lists.

    A file has a header with the columns `name` and `split` (as the `items.csv` of a prepared set; an empty
    split there is one of its own) or lines `NAME SPLIT` with a comma, tab or spaces between, where SPLIT may also be
    0, 1 or 2 for train, val and test. A folder has any of train.txt, val.txt, dev.txt and test.txt, one name a line.
    Blank lines and those that begin with # are skipped.

    Raises DataError: not there, no UTF-8, no name, no split or an unknown one, a name in two splits.
    """
    path = at_home(path)
    found: dict[str, str] = {}
    for where, name, split in _listed_in_folder(path) if os.path.isdir(path) else _listed(path):
        if not name:
            raise DataError(f"{where} has no name, but needs a picture's name and its split; correct the line")
        if found.setdefault(name, split) != split:
            raise DataError(
                f"{where}: {_short(name)} is in split {split!r}, but an earlier line puts it in {found[name]!r}; "
                "remove one of the lines"
            )
    if not any(found.values()):
        raise DataError(
            f"{printable(path)} puts no picture in a split; add names to {', '.join(NAMES)}, or choose another file"
        )
    return found


def read_lines(path: Path) -> list[tuple[str, str]]:
    """The lines of a text file without the blank ones, each as (file and line number, text).

    It is UTF-8, or what its byte-order mark says. Raises DataError if it cannot be read or is neither.
    """
    try:
        data = path.read_bytes()
        text = text_of(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{printable(path)}, line {line} is not UTF-8; expected a text file; save it as UTF-8"
        ) from None
    except OSError as error:
        raise DataError(
            f"{printable(path)}: cannot be read ({describe_error(error)}); expected a text file; choose another"
        ) from error
    lines = [line.strip() for line in re.split(r"\r\n?|\n", text)]
    return [(f"{printable(path)}, line {number}", line) for number, line in enumerate(lines, 1) if line]


def _listed(path: Path) -> Iterator[tuple[str, str, str]]:
    """(place, name, split) of each line of a file."""
    lines = read_lines(path)
    start = next((i for i, (_, line) in enumerate(lines) if not line.startswith("#")), len(lines))
    if start < len(lines):
        where, header = lines[start]
        delimiter = max(",;\t", key=header.count)  # a spreadsheet writes any of these
        columns = fields_of(header, delimiter, where)
        if "name" in columns and "split" in columns:
            yield from _listed_in_table(lines[start + 1 :], columns, delimiter)
            return
    for where, line in lines[start:]:
        if line.startswith("#"):
            continue
        if line.startswith('"'):  # as a spreadsheet writes a name with a comma in it
            name, *rest = fields_of(line, ";" if '";' in line else ",", where)
            yield where, name, _known("".join(rest), where)
            continue
        at = max(line.rfind(c) for c in ",; \t")
        if at < 0:
            raise DataError(f"{where}: {_short(line)} has no split; expected NAME,SPLIT; add one of {', '.join(NAMES)}")
        yield where, line[:at].rstrip(",; \t"), _known(line[at + 1 :], where)


def _listed_in_table(
    lines: Sequence[tuple[str, str]], columns: Sequence[str], delimiter: str
) -> Iterator[tuple[str, str, str]]:
    """(place, name, split) of each row below a header."""
    name, split = columns.index("name"), columns.index("split")
    for where, line in lines:
        row = fields_of(line, delimiter, where)
        whole = len(row) == len(columns)
        # A name may begin with #, too: its split shows that such a row is not a comment.
        if line.startswith("#") and not (whole and row[split] in (*NAMES, "")):
            continue
        if not whole:
            raise DataError(
                f"{where} has {len(row)} fields; expected {len(columns)} as in the header; correct the line"
            )
        yield where, row[name], row[split] and _known(row[split], where)


def _listed_in_folder(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(place, name, split) of each line of a folder's lists."""
    there = [split for split in NAMES if os.path.isfile(folder / f"{split}.txt")]
    meant = [f"{other}.txt" for other in _OTHER_NAMES if os.path.isfile(folder / f"{other}.txt")]
    if meant:
        expected = ", ".join(f"{s}.txt" for s in NAMES)
        raise DataError(f"{printable(folder)} has {meant[0]}; expected lists called {expected}; rename or remove it")
    if not there:
        raise DataError(
            f"{printable(folder)} has no list; expected any of {', '.join(f'{s}.txt' for s in NAMES)}; add one"
        )
    for split in there:
        for where, line in read_lines(folder / f"{split}.txt"):
            if not line.startswith("#"):
                yield where, line, split


def fields_of(line: str, delimiter: str, where: str) -> list[str]:
    """The values in a line of a table. Raises DataError for one that is too long."""
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=delimiter))]
    except csv.Error as error:  # a field of 128 KiB
        raise DataError(f"{where}: {error}; correct the line") from None


def _known(split: str, where: str) -> str:
    split = split.strip().lower()
    split = _NUMBERS.get(split, split)
    if split not in NAMES:
        raise DataError(f"{where}: the split is {_short(split)}; expected one of {', '.join(NAMES)}; correct the line")
    return split


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


# ------------------------------------------------------------------------------------------------- applying


def apply_splits(listing: Listing, splits: Mapping[str, str], where: str) -> Listing:
    """The listing with the splits that `read_splits` read from `where`, in place of any it has.

    A name is the item's name, or else the end of its image's path, with or without the suffix, or else its number in
    the set's own list, with or without zeros in front. Images that are not named go to
    "train" if nothing else is in it, else to no split.

    Raises DataError: a name of several pictures, a picture that is named for two splits, no picture is named.
    """
    items = listing.items
    names: dict[str, list[int]] = defaultdict(list)
    numbers: dict[str, list[int]] = defaultdict(list)
    for i, item in enumerate(items):
        names[printable(item.name).strip()].append(i)  # as lines are read
        if item.number:
            numbers[item.number].append(i)
    keys = {key: PurePosixPath(printable(key)).parts for key in splits}
    by_end = _by_end(items, {len(parts) for parts in keys.values() if parts})
    named: dict[int, str] = {}
    unknown = 0
    for key, parts in keys.items():
        found = names.get(printable(key).strip()) or next((ends[parts] for ends in by_end if parts in ends), [])
        found = found or numbers.get(key.lstrip("0"), [])
        if len(found) > 1:
            images = " and ".join(printable(items[i].image) for i in found[:2])
            raise DataError(f"{where}: {_short(key)} fits {images}; write more of its path")
        if not found:
            unknown += 1
        elif splits[named.setdefault(found[0], key)] != splits[key]:
            raise DataError(
                f"{where}: {_short(named[found[0]])} and {_short(key)} are the same picture, but in different "
                "splits; remove one of them"
            )
    if not named:
        here = _short(printable(items[0].name)) if items else "none"
        raise DataError(
            f"{where} does not name any of these pictures: it has names such as {_short(next(iter(splits), ''))}, and "
            f"they have names such as {here}; choose the list that belongs to these pictures"
        )
    rest = "" if "train" in splits.values() else "train"
    result = tuple(replace(item, split=splits[named[i]] if i in named else rest) for i, item in enumerate(items))
    note = f"{_NOTE}from {where}: {_counts(result)}"
    if len(named) < len(items):
        note += f"; pictures it does not name: {len(items) - len(named):,}, {f'in {rest}' if rest else 'in no split'}"
    if unknown:
        note += f"; names without a picture: {unknown:,}"
    return replace(listing, items=result, notes=(*drop_splits(listing).notes, note))


def drop_splits(listing: Listing) -> Listing:
    """The listing with every picture in no split, and without the notes on splits."""
    return replace(
        listing,
        items=tuple(replace(item, split="") for item in listing.items),
        notes=tuple(note for note in listing.notes if not note.startswith(_NOTE)),
    )


def _by_end(items: Sequence[Item], depths: set[int]) -> tuple[dict[tuple[str, ...], list[int]], ...]:
    """The last parts of each picture's path, so many as in `depths` -> the pictures; with suffix and without."""
    whole: dict[tuple[str, ...], list[int]] = defaultdict(list)
    bare: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, item in enumerate(items):
        path = PurePosixPath(printable(item.image.absolute()))
        for depth in depths:
            if depth <= len(path.parts):
                whole[path.parts[-depth:]].append(i)
                bare[path.with_suffix("").parts[-depth:]].append(i)
    return whole, bare


# -------------------------------------------------------------------------------------------------- drawing


def draw_splits(
    items: Sequence[Item], sizes: Mapping[str, int], official: int, salt: str
) -> tuple[tuple[Item, ...], str]:
    """A fixed draw for a set whose list of names is not part of the set: the items with their splits, and a note.

    Args:
        items: the pictures that are here; splits are drawn from the labelled ones if there are any.
        sizes: split -> pictures in it, drawn in this order; all others are "train".
        official: pictures of the whole set. Where fewer are here, or too few to draw from, sizes shrink alike.
        salt: what makes the draw this set's own. With it a name alone decides the order of the draw, so that
            a picture keeps its place whatever else is here.
    """
    eligible = [item for item in items if item.mask is not None] or list(items)
    share = min(1.0, len(items) / official, len(eligible) / sum(sizes.values()))
    order = sorted((hashlib.sha256(f"{salt}:{printable(item.name)}".encode()).digest(), item.name) for item in eligible)
    split: dict[str, str] = {}
    for name, size in sizes.items():
        split |= {drawn: name for _, drawn in order[len(split) : len(split) + round(size * share)]}
    result = tuple(replace(item, split=split.get(item.name, "train")) for item in items)
    return result, (
        f"{_NOTE}drawn here (fixed): {_counts(result)}; the paper's own list is published beside its "
        "authors' code, in datasplits/: use a copy of it with redoseg prepare --splits FILE"
    )


def _counts(items: Sequence[Item]) -> str:
    counts = Counter(item.split for item in items)
    return ", ".join(f"{counts[name]:,} {name}" for name in NAMES if counts[name]) or "none"
