"""What this machine gives a job."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

UNTOLD = 8 * 2**30  # bytes of memory, where the system does not tell
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # what it tells each process that it starts


@dataclass(frozen=True)
class Place:
    """This process among those of its job: `rank` of `size`, and the same among those on this machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int


def place() -> Place:
    """What torchrun said when it started this process; rank 0 of 1 where it did not."""
    try:
        return Place(*(int(os.environ[name]) for name in TORCHRUN))
    except (KeyError, ValueError):
        return Place(0, 1, 0, 1)


def forget_place() -> None:
    """Programs that this one starts are on their own, and not of its job."""
    for name in list(os.environ):
        if name in TORCHRUN or name.startswith(("TORCHELASTIC_", "MASTER_")):
            del os.environ[name]


def cores() -> int:
    """Processor cores that this process may use: fewer than the machine has where a container or taskset says so."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        share, period = map(int, Path("/sys/fs/cgroup/cpu.max").read_text().split())
        here = min(here, max(1, -(-share // period)))
    return here


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Whether the folder is this process's alone within the block; if `wait`, it is waited for.

    The lock ends with the process, however that ends. Where the system or the file system has none, nothing guards.
    Raises FileNotFoundError if the folder is not there, or no longer once it is free.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield True
        return
    mine = True
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if not os.path.samestat(os.stat(folder), os.fstat(descriptor)):
                raise FileNotFoundError(folder)  # another of that name
        except BlockingIOError:
            mine = False
        except FileNotFoundError:
            raise
        except OSError:  # a file system without locks
            pass
        yield mine
    finally:
        os.close(descriptor)


def free_memory() -> int:
    """What the host can give without swapping, within the limit of a container [bytes]."""
    free = UNTOLD
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
