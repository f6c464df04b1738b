"""One picture through a pipe: read from standard input, its result written to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from redoseg.errors import DataError
from redoseg.files import describe_error
from redoseg.images.read import MAX_BYTES
from redoseg.output import Output

NAME = "stdin"  # of the picture, where its result needs one


def received() -> bytes:
    """The file that comes through standard input. Raises DataError for none, or one that is too large."""
    if sys.stdin is None or sys.stdin.isatty():
        raise DataError("- is standard input, but nothing is piped into it; pipe a picture into it, or choose a file")
    try:
        content = sys.stdin.buffer.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise DataError(f"standard input cannot be read ({describe_error(error)}); pipe a picture into it") from error
    if not content:
        raise DataError("standard input is empty, but expected a picture; check the command before the pipe")
    return content


def check_sendable() -> None:
    """Raises DataError where standard output is closed, or a terminal, which would take a picture for commands."""
    if getattr(sys.stdout, "name", "") == os.devnull:  # `guarded_output` has put that in its place
        raise DataError("-o - writes to standard output, which is closed; add > FILE, or choose a file")
    if sys.stdout.isatty():
        raise DataError("-o - writes to standard output, which is a terminal; add > FILE, or choose a file")


def send(pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file to standard output. Where that is closed or full, what follows is dropped, as lines of text are."""
    if isinstance(sys.stdout, Output):
        sys.stdout.write_bytes(pieces)
        return
    for piece in pieces:
        sys.stdout.buffer.write(piece)
    sys.stdout.flush()
