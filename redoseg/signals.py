"""Signals that ask to stop: Ctrl-C, SIGTERM, and SIGHUP from a terminal that is closed."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_AGAIN = 1.0  # seconds after the first signal from which Ctrl-C is a second one, of a person who waits no longer
_came: list[int] = []  # the signals that have asked this process to stop, as Python has heard them
_order: list[int] = []  # the same as they came; Python hears those that came during a long call in order of number
_since = 0.0  # when the first was heard [s]


@contextlib.contextmanager
def handling(
    handler: Callable[[int, FrameType | None], None] | signal.Handlers, restore: bool = True
) -> Iterator[None]:
    """Within the block `handler` gets the signals that ask to stop, and afterwards too without `restore`.

    A signal that this process was started to ignore stays ignored: nohup, background jobs of scripts. Outside the main
    thread, where Python sets no handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
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
    _came.clear()
    _order.clear()

    def stop(number: int, _: FrameType | None) -> None:
        first = not _came
        if note(number) or first:
            raise KeyboardInterrupt

    with handling(stop), _in_order():
        yield


@contextlib.contextmanager
def _in_order() -> Iterator[None]:
    """Within the block the order in which signals came is known."""
    global _read_order
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived, mark = os.pipe()
    os.set_blocking(arrived, False)
    os.set_blocking(mark, False)

    def read_order() -> None:
        with contextlib.suppress(OSError):  # nothing has come
            _order.extend(number for number in os.read(arrived, 1024) if number in STOPS)

    before = signal.set_wakeup_fd(mark, warn_on_full_buffer=False)
    _read_order = read_order
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        read_order()
        _read_order = _nothing
        os.close(arrived)
        os.close(mark)


def _nothing() -> None:
    pass


_read_order: Callable[[], None] = _nothing


def note(number: int) -> bool:
    """Note that a signal has asked to stop; returns whether it is a Ctrl-C that ends also what the first has begun."""
    global _since
    _came.append(number)
    if len(_came) == 1:
        _since = time.monotonic()
    return number == signal.SIGINT and time.monotonic() - _since >= _AGAIN


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Within the block a signal ends the process at once, with its line and its code.

    For modules whose loading cannot be left by an exception: in the midst of it, PyTorch then aborts the process.
    Nothing may be half written there.
    """

    def end(number: int, _: FrameType | None) -> None:
        note(number)
        with contextlib.suppress(OSError):  # it is closed
            os.write(2, f"redoseg: stopped {how()}\n".encode())
        os._exit(exit_code())

    with handling(end):
        yield


def ignore() -> None:
    """Hear no signal any more: the process is about to end."""
    if threading.current_thread() is threading.main_thread():
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)


def have_come() -> bool:
    """Whether a signal has asked this process to stop."""
    return bool(_came)


def exit_code() -> int:
    """What a stopped program ends with: 128 and the number of the signal, as shells have it; 130 for Ctrl-C."""
    return 128 + _first()


def how() -> str:
    """What stopped the program, in words."""
    first = _first()
    return "by hand" if first == signal.SIGINT else f"by {signal.Signals(first).name}"


def _first() -> int:
    """The first signal that asked to stop; Ctrl-C where none is known."""
    _read_order()
    return next((number for number in (*_order, *_came) if number in _came), signal.SIGINT)
