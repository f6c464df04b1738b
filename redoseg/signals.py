"""Signals that ask to stop: Ctrl-C, SIGTERM, and SIGHUP from a terminal that is closed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import NoReturn

STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_AGAIN = 1.0  # seconds after the first signal from which Ctrl-C is a second one, of a person who waits no longer


class Heard:
    """The signals that have asked to stop, and which of them came first.

    Python hears those that came during a long call in order of number. So their order is read from a pipe, to which
    each writes its number when it comes.
    """

    def __init__(self) -> None:
        self.numbers: list[int] = []  # as Python has heard them
        self.since = 0.0  # when the first was heard [s]
        self._order: list[int] = []
        self._said: list[int] = []
        self._pipe: tuple[int, int] | None = None

    @contextlib.contextmanager
    def in_order(self) -> Iterator[None]:
        """Within the block the order in which signals come is known. Outside the main thread nothing changes."""
        if not _in_main_thread():
            yield
            return
        arrived, mark = self._pipe = os.pipe()
        os.set_blocking(arrived, False)
        os.set_blocking(mark, False)
        before = signal.set_wakeup_fd(mark, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            self._read()
            self._pipe = None
            os.close(arrived)
            os.close(mark)

    def add(self, number: int) -> None:
        """Python has heard a signal."""
        self.numbers.append(number)
        if len(self.numbers) == 1:
            self.since = time.monotonic()

    def first(self) -> int:
        """The first signal that came; Ctrl-C where none is known. It stays what was said: line and code agree."""
        if not self._said:
            self._read()
            self._said = [number for number in (*self._order, *self.numbers) if number in self.numbers][:1]
        return self._said[0] if self._said else signal.SIGINT

    def _read(self) -> None:
        if self._pipe is not None:
            with contextlib.suppress(OSError):  # nothing has come
                self._order.extend(number for number in os.read(self._pipe[0], 1024) if number in STOPS)


_heard = Heard()  # by this process


def _in_main_thread() -> bool:
    """Whether this is the thread in which Python sets handlers."""
    threading = sys.modules.get("threading")  # loading it here would delay when signals are first heard
    return threading is None or threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def handling(
    handler: Callable[[int, FrameType | None], None] | signal.Handlers, restore: bool = True
) -> Iterator[None]:
    """Within the block `handler` gets the signals that ask to stop, and afterwards too without `restore`.

    A signal that this process was started to ignore stays ignored: nohup, background jobs of scripts. Outside the main
    thread nothing changes.
    """
    if not _in_main_thread():
        yield
        return
    heard = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items() if restore else ():
            signal.signal(number, old)


@contextlib.contextmanager
def as_ctrl_c() -> Iterator[None]:
    """Within the block each of the signals raises KeyboardInterrupt.

    Only Ctrl-C does so twice, and only a second after the first signal: a terminal that closes sends several, keys
    bounce, and the second should not end what the first has begun, such as writing what is done.
    """
    global _heard
    _heard = Heard()

    def stop(number: int, _: FrameType | None) -> None:
        first = not _heard.numbers
        if note(number) or first:
            raise KeyboardInterrupt

    with handling(stop), _heard.in_order():
        yield


def note(number: int) -> bool:
    """Note that a signal has asked to stop; returns whether it is a Ctrl-C that ends also what the first has begun."""
    _heard.add(number)
    return number == signal.SIGINT and time.monotonic() - _heard.since >= _AGAIN


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Within the block a signal ends the process at once, with its line and its code.

    For modules whose loading cannot be left by an exception: in the midst of it, PyTorch then aborts the process.
    Nothing may be half written there.
    """

    def end(number: int, _: FrameType | None) -> None:
        note(number)
        end_process(_heard.first())

    with handling(end):
        yield


def end_process(first: int) -> NoReturn:
    """End at once, with the line and the code of a signal, without what half-loaded modules would print."""
    with contextlib.suppress(OSError):  # it is closed
        os.write(2, f"redoseg: stopped {_how(first)}\n".encode())
    os._exit(_code(first))


def ignore() -> None:
    """Hear no signal any more: the process is about to end."""
    if _in_main_thread():
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)


def have_come() -> bool:
    """Whether a signal has asked this process to stop."""
    return bool(_heard.numbers)


def exit_code() -> int:
    """What a stopped program ends with: 128 and the number of the signal, as shells have it; 130 for Ctrl-C."""
    return _code(_heard.first())


def how() -> str:
    """What stopped the program, in words."""
    return _how(_heard.first())


def _code(first: int) -> int:
    return 128 + first


def _how(first: int) -> str:
    return "by hand" if first == signal.SIGINT else f"by {signal.Signals(first).name}"
