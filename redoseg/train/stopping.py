"""Ctrl-C, SIGTERM and SIGHUP, noted until the step under way is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch.distributed as dist

from redoseg import signals
from redoseg.system import world


@contextmanager
def asked_to_stop() -> Iterator[list[int]]:
    """Collects the signals that ask to stop, so that a step is never cut in half; a Ctrl-C later interrupts at once.

    Under torchrun a second one does not, since torchrun repeats what the terminal has sent already. There the signals
    also stay collected after the block: when one process fails, torchrun stops the others, which have to finish what
    they print and write.
    """
    asked: list[int] = []
    alone = world().size == 1 and not dist.is_torchelastic_launched()

    def ask(number: int, _: FrameType | None) -> None:
        again = signals.note(number)
        if alone and asked and again:
            raise KeyboardInterrupt
        asked.append(number)

    with signals.handling(ask, restore=alone):
        yield asked
