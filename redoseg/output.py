"""What goes to stdout and stderr: no odd name, full disk or closed pipe ends the work."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO


class Output:
    r"""A text stream that never raises. A letter that the terminal's encoding lacks is written as `\xe9`.

    Once it cannot be written (a full disk, a reader that has gone), what follows is dropped, and `lost` is the reason.
    All else is the stream's own.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | ValueError | None = None
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write text; returns its length."""
        if self.lost is None:
            try:
                self._stream.write(text)
            except (OSError, ValueError) as error:  # ValueError where it has been closed
                self._drop(error)
        return len(text)

    def write_bytes(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Write what a file contains, piece by piece, and nothing else."""
        for piece in pieces:
            if self.lost is None:
                try:
                    self._stream.flush()
                    self._stream.buffer.write(piece)
                except (OSError, ValueError) as error:
                    self._drop(error)
        self.flush()

    def flush(self) -> None:
        """Write what is buffered."""
        if self.lost is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._drop(error)

    def _drop(self, error: OSError | ValueError) -> None:
        self.lost = error
        with contextlib.suppress(OSError, ValueError):  # Python itself writes its buffer when it ends
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def guarded_output() -> Iterator[None]:
    """Within the block stdout and stderr are an `Output`. One that was closed from the start is the null device."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # else the next file that is opened would get its number
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # open to the end
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Output(sys.stdout), Output(sys.stderr)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def why_output_lost() -> str | None:
    """Why stdout cannot be written any more, in words; "" where its reader has gone; None where it still can."""
    lost = getattr(sys.stdout, "lost", None)
    if lost is None:
        return None
    if isinstance(lost, OSError):
        return "" if lost.errno == errno.EPIPE else lost.strerror or str(lost)
    return str(lost)
