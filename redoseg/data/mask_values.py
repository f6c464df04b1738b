"""Which values of a set's masks are the object: decided for the whole set, or said by the user."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace

import numpy as np

from redoseg.data.listing import Item
from redoseg.errors import DataError
from redoseg.files import printable
from redoseg.images.crashes import DecodingNotes
from redoseg.images.masks import DARK, Form, listed, mask_numbers, read_mask
from redoseg.images.read import BACKGROUND, OBJECT
from redoseg.system import cores, in_order

AUTO, NONZERO = "auto", "nonzero"
LOOKED_AT = 1024  # masks: each of the others is still checked by itself when it is read
_NAMED = 3  # masks in a note


def checked_values(said: str) -> str:
    """`--mask-values` without spaces. Raises DataError unless it is auto, nonzero or whole numbers up to 65535."""
    values = re.sub(r"\s+", "", said)
    numbers = re.fullmatch(r"\d+(,\d+)*", values)
    if values in (AUTO, NONZERO) or (numbers and max(map(int, values.split(","))) < 2**16):
        return values
    raise DataError(
        f"--mask-values is {said!r}, but must be auto, nonzero (anything but 0), or numbers up to 65535 such as 1,2"
    )


@dataclass(frozen=True)
class _Seen:
    """What one mask file has."""

    item: Item
    form: Form | None
    """None if it cannot be read."""
    values: frozenset[int] = frozenset()
    palette: bool = False
    has_object: bool = True
    has_ground: bool = True


def settle(
    items: Sequence[Item], said: str = AUTO, notes: DecodingNotes | None = None
) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    """The items with masks that say what the object is, and what was decided, in words.

    Only masks without a reader of their own are looked at. Where all of them have 0 and one other value, that value is
    the object. Classes and instances are not guessed: then no mask is used, and the note says which values there are.
    `said` is what `checked_values` takes. Masks are in `notes` while they are decoded.
    """
    plain = [item for item in items if item.mask is not None and item.read_mask is read_mask]
    if said != AUTO:
        items = tuple(replace(item, values=said) if item.read_mask is read_mask else item for item in items)
        plain = [item for item in items if item.mask is not None and item.read_mask is read_mask]
        return items, _about_empty(_look_at(plain, notes), said)
    seen = _look_at(plain, notes)
    forms = {one.form for one in seen} - {None, "empty"}
    nonzero = frozenset().union(*(one.values for one in seen if one.form != "empty")) - {0}
    which = ""
    found: tuple[str, ...] = ()
    if "grey" in forms:
        which = "grey" if "half" in forms and not {"ones", "numbers"} & forms else ""
    elif "numbers" in forms:
        labels = nonzero - {255} if all(one.palette for one in seen if one.form == "numbers") else nonzero
        if len(labels) == 1 and any(0 in one.values for one in seen):
            which = str(next(iter(labels)))
            found = (f"masks have the values {_of_all(seen)}; {which} is read as the object",)
        else:
            return _without_masks(items, seen)
    settled = tuple(replace(item, values=which) if item.read_mask is read_mask else item for item in items)
    return settled, (*found, *_about_empty(seen, which))


def _look_at(items: Sequence[Item], notes: DecodingNotes | None) -> list[_Seen]:
    """What the masks have, evenly spaced ones of many."""
    chosen = np.unique(np.linspace(0, len(items) - 1, min(len(items), LOOKED_AT)).astype(int))
    with closing(in_order(lambda item: _look(item, notes), [items[i] for i in chosen], cores())) as found:
        return list(found)


def _look(item: Item, notes: DecodingNotes | None) -> _Seen:
    assert item.mask is not None
    try:
        with notes.decoding(item.mask) if notes else nullcontext():
            numbers = mask_numbers(item.mask, colours=item.values == NONZERO)
            seen = numbers.seen()
            form = numbers.form
            if item.values:
                labels = item.labels()
                has_object, has_ground = bool((labels == OBJECT).any()), bool((labels == BACKGROUND).any())
            else:
                has_object, has_ground = form != "empty", min(seen) < (DARK if form == "grey" else 1)
        return _Seen(
            item=item,
            form=form,
            values=frozenset(seen),
            palette=numbers.palette,
            has_object=has_object,
            has_ground=has_ground,
        )
    except DataError:  # listed when it is read
        return _Seen(item, None)


def _without_masks(items: Sequence[Item], seen: Sequence[_Seen]) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    unmasked = tuple(replace(item, mask=None) if item.read_mask is read_mask else item for item in items)
    return unmasked, (
        f"no mask is used: they have the values {_of_all(seen)}, which do not say what is the object; set "
        "--mask-values nonzero for anything but 0, or numbers, such as --mask-values 1,2",
    )


def _of_all(seen: Sequence[_Seen]) -> str:
    return listed(set().union(*(one.values for one in seen)))


def _about_empty(seen: Sequence[_Seen], which: str) -> tuple[str, ...]:
    """The note on masks without an object, if there are any; or where none has a background."""
    readable = [one for one in seen if one.form is not None]
    empty = [one for one in readable if not one.has_object]
    if not empty:
        if not readable or any(one.has_ground for one in readable):
            return ()
        return (f"no mask has a background: they have only {_of_all(seen)} {_named(readable)}",)
    if len(empty) < len(readable):
        return (f"masks without an object: {len(empty):,} {_named(empty)}",)
    what = f"the values {which}" if which not in ("", NONZERO, "grey") else "an object"
    return (f"no mask has {what}: they have only {_of_all(seen)} {_named(empty)}",)


def _named(seen: Sequence[_Seen]) -> str:
    """The first of these masks in parentheses."""
    names = ", ".join(printable(one.item.mask.name) for one in seen[:_NAMED] if one.item.mask is not None)
    return f"({names}{', ...' if len(seen) > _NAMED else ''})"
