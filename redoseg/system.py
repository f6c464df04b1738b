"""What this machine gives a job: cores, memory, threads in order, OpenCV."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from redoseg.errors import MissingError

STARTED = time.monotonic()  # about when this process started: nothing of the package is loaded earlier
UNKNOWN_MEMORY = 8 * 2**30  # bytes, assumed where the system does not say
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # what it sets for each process that it starts


@dataclass(frozen=True)
class WorldInfo:
    """This process among those of its job: `rank` of `size`, and the same among those on this machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int


def world() -> WorldInfo:
    """What torchrun said when it started this process; rank 0 of 1 where it did not, or where `world_problem`."""
    if world_problem() or _number("WORLD_SIZE") in (None, 1):
        return WorldInfo(0, 1, 0, 1)
    return WorldInfo(*(int(os.environ[name]) for name in TORCHRUN))


def world_problem() -> str:
    """Why the variables of torchrun make no sense; empty if they do, or if they speak of one process."""
    if not os.environ.get("WORLD_SIZE", "").strip() or _number("WORLD_SIZE") == 1:
        return ""
    for name in ("WORLD_SIZE", *TORCHRUN):
        if not os.environ.get(name, "").strip():
            return f"{name} is not set, but WORLD_SIZE is"
        if _number(name) is None:
            return f"{name} is not a whole number"
    rank, size, local_rank, local_size = (int(os.environ[name]) for name in TORCHRUN)
    if not (0 <= rank < size and 0 <= local_rank < local_size <= size):
        return "the numbers that torchrun sets contradict each other"
    return ""


def _number(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 10 else None


def forget_world() -> None:
    """Programs that this one starts are on their own, and not of its job."""
    for name in list(os.environ):
        if name in TORCHRUN or name.startswith(("TORCHELASTIC_", "MASTER_")):
            del os.environ[name]


def cores() -> int:
    """Processor cores that this process may use: fewer than the machine has in a container or under taskset."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        share, period = map(int, Path("/sys/fs/cgroup/cpu.max").read_text().split())
        here = min(here, max(1, -(-share // period)))
    return here


def free_memory() -> int:
    """What the host can give without swapping, within the limit of a container [bytes]."""
    free = UNKNOWN_MEMORY
    with contextlib.suppress(OSError):
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        free = int(found[1]) * 1024 if found else free
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return free


def own_memory(pid: int) -> int:
    """Memory of its own of a process and its children [bytes], mapped files not counted; 0 where /proc is missing."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1]) * 1024
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return total
    return total + sum(own_memory(int(child)) for child in children)


def opencv() -> ModuleType:
    """The module cv2. Raises MissingError."""
    try:
        import cv2
    except ImportError:
        what = "methods to compare with, scores of edges, edges grabcut and refine.sharpen need OpenCV, which"
        raise MissingError.of(what, "grabcut") from None
    module: ModuleType = cv2
    return module


class Room:
    """Room for so much work at a time, such as pixels in memory. One job that needs more than all of it works alone."""

    def __init__(self, most: int) -> None:
        self._most, self._taken, self._changed = most, 0, threading.Condition()

    @contextlib.contextmanager
    def shared(self) -> Iterator[Callable[[int], None]]:
        """Gives what takes room, waiting until there is some. What was taken is free after the block."""
        mine = 0

        def take(amount: int) -> None:
            nonlocal mine
            with self._changed:
                # what this job took before does not count: it would wait for itself
                self._changed.wait_for(lambda: self._taken == mine or self._taken + amount <= self._most)
                self._taken += amount
                mine += amount

        try:
            yield take
        finally:
            with self._changed:
                self._taken -= mine
                self._changed.notify_all()


Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Generator[Result, None, None]:
    """`work` of each item, done on several threads and given in the order of the items.

    Twice as many items as threads are under way at most, however many there are. Threads are enough: Pillow, zlib
    and ONNX Runtime let others run while they work. Closed early, it waits for what is under way.
    """
    pool = ThreadPoolExecutor(threads)
    under_way: deque[Future[Result]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) == 2 * threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
