"""Files that crash their decoder: the command that one of them ended skips and names it when it is started again.

Images are decoded in this process, by libraries in C. A damaged file that makes one of them crash ends the whole
process, so nothing can be reported then. Each file is therefore noted on disk while it is decoded. Where a note is left
from an earlier call, that call was killed or its decoder crashed: a process of its own tries the file first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from redoseg.errors import DataError
from redoseg.files import printable
from redoseg.storage import Place

_TRY = (
    "import sys; from redoseg.images.read import read_photo; "
    "read_photo(sys.argv[1], int(sys.argv[2]) or None, content=sys.stdin.buffer.read() or None)"
)


class DecodingNotes:
    """The files that are being decoded, an empty file for each in `folder`, which need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.left = set(os.listdir(folder))
        except OSError:
            self.left = set()

    @contextlib.contextmanager
    def decoding(self, path: Place, size: int | None = None, content: bytes | None = None) -> Iterator[None]:
        """To be held while the file is decoded, with `size` and `content` as `read_photo` takes them, in any thread.

        Raises DataError for a file that crashed its decoder before and does so again. Its note stays.
        """
        note = self.folder / hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:24]
        if note.name in self.left and (how := _crash_of(path, size, content)):
            raise DataError(
                f"{printable(path)}: reading it crashed the decoder ({how}), so it may be damaged; replace or remove it"
            )
        with contextlib.suppress(OSError):  # nothing depends on a note but what happens after a crash
            self.folder.mkdir(parents=True, exist_ok=True)
            note.touch()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                note.unlink()

    def close(self) -> None:
        """Remove the folder, unless it has notes of files that crash their decoder."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def _crash_of(path: Place, size: int | None, content: bytes | None) -> str:
    """How a process ends that decodes this file alone; empty if it does not crash."""
    here = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-P", "-c", _TRY, str(path), str(size or 0)]
    code = subprocess.run(command, env=environment, capture_output=True, input=content or b"").returncode
    if code < 0:
        return f"signal {-code}"
    return f"exit code {code:#x}" if code > 255 else ""  # Windows gives the exception's number
