"""Arguments to a verb's options, with tyro. A mistake becomes one line.

tyro reports a mistake in a drawn box. The shape of that box is known here and nowhere else; pyproject.toml bounds
tyro's version, and tests/cli/test_parse.py fails first when the box changes.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

from redoseg.config.recipe import at_home_in
from redoseg.errors import ConfigError

T = TypeVar("T")


def parse(kind: type[T], verb: str, arguments: Sequence[str], default: T | None = None) -> T:
    """A verb's options, of the dataclass `kind`; `default` gives the values that the arguments do not.

    Raises ConfigError with one line for a mistake, and SystemExit after --help.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            read: Callable[..., T] = tyro.cli
            command = read(kind, prog=f"redoseg {verb}", args=list(arguments), default=default)
            return at_home_in(command)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
    mistake, similar = read_box(printed.getvalue())
    hint = f"Did you mean {similar}? " if similar else ""
    raise ConfigError(f"{mistake}. {hint}See `redoseg {verb} --help`.")


def read_box(box: str) -> tuple[str, str]:
    """What tyro's box says is wrong, and for an unknown option the most similar one, or "".

    The box has a title and parts with rules between them. It is drawn in ASCII where stdout is not UTF-8.
    """
    lines = [re.sub(r"^[│|╭╰+]|[│|╮╯+]$", "", line).strip() for line in box.splitlines()]
    first, *others = re.split(r"\n[─-]{3,}\n", "\n".join(lines[1:-1]).strip("─-\n"))
    mistake = " ".join(first.split()).rstrip(".")
    similar = re.search(r"^--\S.*$", "\n".join(others), re.M) if "Unrecognized" in mistake else None
    return mistake, similar[0].split(" (")[0] if similar else ""
