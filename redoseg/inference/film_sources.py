"""The films that a command names, and those in its folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from redoseg.errors import DataError, MissingError
from redoseg.files import printable
from redoseg.images.kinds import FILM_SUFFIXES, is_film
from redoseg.inference.animations import pyav
from redoseg.inference.film_writing import film_key
from redoseg.inference.sources import result_stems
from redoseg.storage import Address, Place


class Films(NamedTuple):
    """Films to segment."""

    paths: list[Path]
    stems: list[str]
    """Where the results of each go, below the folder of the results, without their suffix."""
    passed_over: list[Path] = []  # noqa: RUF012
    """Films in folders that this call cannot segment."""
    why: str = ""


def find_films(sources: Sequence[Place], out: Place, why_not: str = "") -> tuple[Films, list[Place]]:
    """The films among sources and in their folders, and the sources without those that are films themselves.

    Results of redoseg and what is in `out` are not among them. `why_not` says why this call takes no films: those that
    are named are refused, and those in folders are passed over. Raises DataError, MissingError.
    """
    for source in sources:
        if isinstance(source, Address) and Path(source.name).suffix.lower() in FILM_SUFFIXES:
            raise DataError(f"{printable(source)} is a film elsewhere, but films are read from this machine; fetch it")
    named = [source for source in sources if isinstance(source, Path) and source.is_file() and is_film(source)]
    rest = [source for source in sources if source not in named]
    here = os.path.realpath(out) if isinstance(out, Path) else ""
    below = [path for source in rest if isinstance(source, Path) and source.is_dir() for path in _films_in(source)]
    below = [path for path in below if not (here and Path(os.path.realpath(path)).is_relative_to(here))]
    if not named and not below:
        return Films([], []), rest
    if named and why_not:
        raise DataError(f"{printable(named[0])} is a film, and {why_not}")
    try:
        pyav("films need")
    except MissingError as error:
        if named:
            raise
        why_not = why_not or str(error)
    else:
        below = [path for path in below if film_key(path) is None]
    if why_not:
        return Films([], [], below, why_not), rest
    films = list({os.path.abspath(path): path for path in (*named, *below)}.values())
    roots = [os.path.abspath(one if one.is_dir() else one.parent) for one in sources if isinstance(one, Path)]
    try:
        common = os.path.commonpath(roots)
    except ValueError:  # Windows
        raise DataError("the films are on several drives; segment those of each drive in a call of its own") from None
    return Films(films, result_stems([Path(os.path.relpath(path, common)) for path in films])), rest


def _films_in(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(where, name)
            if not name.startswith(".") and path.suffix.lower() in FILM_SUFFIXES and path.is_file():
                yield path
