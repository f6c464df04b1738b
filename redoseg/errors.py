"""The errors a user can cause. The command line prints each as one line and exits with code 2.

A message says what was seen, what was expected and what to do, in that order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MANY = 10  # files with one reason, of which each has a line up to then


def did_you_mean(word: str, known: Iterable[str], start: str = "did") -> str:
    """`did you mean X? ` for the known word that is most like this one; empty where none is."""
    import difflib

    words = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), words, 1, 0.65)
    return f"{start} you mean {words[near[0]]}? " if near else ""


def summed_up(failed: Sequence[tuple[str, str]], total: int) -> list[tuple[str, str]]:
    """Files that failed, each with its reason; as one where most of `total` pictures, or their masks, failed alike.

    That one has their number and the first name for a name, and the reason of the first. Reasons are alike if they
    differ in numbers only.
    """
    alike: dict[str, list[tuple[str, str]]] = {}
    for name, why in failed:
        alike.setdefault(re.sub(r"\d+", "0", why), []).append((name, why))
    shown: list[tuple[str, str]] = []
    for group in alike.values():
        if len(group) >= _MANY and 2 * len(group) > total:
            name, why = group[0]
            shown.append((f"{len(group):,} files, first of all {name}", why))
        else:
            shown += group
    return shown


def pip_install(extra: str) -> str:
    """The command that installs the part `extra` of redoseg."""
    return f'pip install "redoseg[{extra}]"'


class RedosegError(Exception):
    """Base of every error that redoseg raises on purpose."""


class ConfigError(RedosegError):
    """A recipe or a setting is wrong."""


class DataError(RedosegError):
    """Pictures, masks or a prepared set cannot be used."""


class FullError(DataError):
    """Nothing more can be written: the disk or the quota is full, or the disk has become read-only or has failed."""


class TooLargeError(DataError):
    """A picture has more bytes or pixels than are read."""


class FormatError(DataError):
    """A file is not a picture of a format that is read."""


class ModelError(RedosegError):
    """A run folder, model folder or model file cannot be used."""


class MissingError(RedosegError):
    """An optional package is not installed."""

    @classmethod
    def of(cls, what: str, extra: str) -> MissingError:
        """`what` is not installed; the part `extra` of redoseg has it."""
        return cls(f"{what} is not installed; run: {pip_install(extra)}")


class RunError(RedosegError):
    """A training run cannot start, continue or end well."""


class DivergedError(RunError):
    """A loss or a weight is no longer finite."""


class LostRankError(RunError):
    """Another process of a run on several devices has gone."""
