"""What the command line shows: lines, progress, lists of failures; and the exit codes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redoseg import signals
from redoseg.errors import summed_up
from redoseg.files import at_home, in_shell, printable

if TYPE_CHECKING:
    from rich.console import Console

DONE, IN_PART, MISTAKE, STOPPED = 0, 1, 2, 130


def forget_odd_widths() -> None:
    """Drop COLUMNS and LINES where no terminal has such a width or height, so that everything is printed still."""
    for name, least in (("COLUMNS", 20), ("LINES", 2)):
        value = os.environ.get(name, "")
        if not (value.isascii() and value.isdigit() and len(value) < 5 and int(value) >= least):
            os.environ.pop(name, None)


def new_console(stderr: bool = False) -> Console:
    """A console on stdout or stderr, such as it is now. It changes nothing in names."""
    from rich.console import Console

    forget_odd_widths()
    return Console(stderr=stderr, markup=False, emoji=False)


def say(message: str, stderr: bool = False) -> None:
    """Print a line, or several; what a terminal would obey in a file's name is escaped."""
    lines = "\n".join(printable(line) for line in message.split("\n"))
    new_console(stderr).print(lines, highlight=False, soft_wrap=True)


def note_unfinished(model: str | Path) -> None:
    """Say on stderr if a model is a run whose second stage is not finished."""
    from redoseg.run_folder import RunFolder

    left = RunFolder(at_home(model)).read_outcome().get("rounds_left")
    if left:
        new_console(stderr=True).print(
            f"note: the second stage of {printable(model)} is not finished ({left} rounds left): its masks should get "
            f"better. To continue it: redoseg train --resume --out {in_shell(model)}",
            highlight=False,
            soft_wrap=True,
        )


def load_torch() -> None:
    """Import PyTorch, which takes seconds; a signal meanwhile is answered at once."""
    with signals.loading():
        import torch  # noqa: F401


def list_failed(failed: Sequence[tuple[str, str]], total: int) -> int:
    """Print each file that failed, with its reason, or one line where most of `total` did; returns the exit code."""
    for path, why in summed_up(failed, total):
        say(f"skipped: {printable(path)}: {why}")
    return IN_PART if failed else DONE


@contextlib.contextmanager
def progress(what: str, in_bytes: bool = False) -> Any:
    """A progress bar on stderr; gives a function of (done, total, what is done if it changes)."""
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = new_console(stderr=True)
    counted = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), counted, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def advance(done: int, total: int | None, now: str = what) -> None:
            bar.update(task, completed=done, total=total, description=now)

        yield advance


def listed(verbs: Mapping[str, tuple[type[Any], Any]]) -> list[str]:
    """A line for each verb: its name and the first line of its docstring."""
    return [f"  {verb:<12}{(kind.__doc__ or '').splitlines()[0]}" for verb, (kind, _) in verbs.items()]
