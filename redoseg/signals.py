"""Signals that ask to stop: Ctrl-C, SIGTERM, and SIGHUP from a terminal that is closed."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_came: list[int] = []  # the signals that have asked this process to stop, in order


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

    Only Ctrl-C does so twice: a terminal that closes sends several, and the second should not end what the first has
    begun, such as writing what is done.
    """
    _came.clear()

    def stop(number: int, _: FrameType | None) -> None:
        if not note(number) or number == signal.SIGINT:
            raise KeyboardInterrupt

    with handling(stop):
        yield


def note(number: int) -> bool:
    """Note that a signal has asked to stop; returns whether one had before."""
    _came.append(number)
    return len(_came) > 1


def have_come() -> bool:
    """Whether a signal has asked this process to stop."""
    return bool(_came)


def exit_code() -> int:
    """What a stopped program ends with: 128 and the number of the signal, as shells have it; 130 for Ctrl-C."""
    return 128 + (_came[0] if _came else signal.SIGINT)


def how() -> str:
    """What stopped the program, in words."""
    first = _came[0] if _came else signal.SIGINT
    return "by hand" if first == signal.SIGINT else f"by {signal.Signals(first).name}"
