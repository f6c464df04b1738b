"""The ranks of a run on several devices: processes that torchrun starts, each with a device and a part of the batch.

Any other process is rank 0 of 1, and then nothing here does anything.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from redoseg import signals
from redoseg.config.schema import Config
from redoseg.errors import DivergedError, LostRankError, RedosegError, RunError
from redoseg.files import printable
from redoseg.system import STARTED, TORCHRUN, world, world_problem
from redoseg.train.compute import pick_device

REMIND_AFTER = 30.0  # seconds after the start of this process that it waits for others in silence
LEAST_WAIT = 3.0  # seconds, where loading PyTorch has taken as long as that
_MEETING = ("MASTER_ADDR", "MASTER_PORT")
PATIENCE = timedelta(hours=1)  # for a rank that prepares pictures or looks, while the others wait
SECOND_STAGE = timedelta(days=7)  # for the first rank's second stage, likewise
STOPPED_QUIETLY, MISTAKE = 0, 2  # exit codes of the ranks that report nothing
BROKEN = r"gloo|nccl|connection|socket|broken pipe|timed? ?out"  # what libraries say when a peer has ended
_others_wait = False  # in the first process: whether the others wait until it leaves the group


def rank() -> int:
    """Number of this process, from 0."""
    return world().rank


def is_main() -> bool:
    """Whether this is the process that writes, prints and decides."""
    return rank() == 0


def world_size() -> int:
    """Processes that train together: 1 outside `process_group`, and in the first one after `leave`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _others_wait else 1


@contextmanager
def process_group() -> Iterator[None]:
    """Within the block the processes of this job train together. An error in it ends all, and one process reports it.

    The others leave with SystemExit, 0 where the first reports: torchrun would stop it if they failed before it.
    Raises LostRankError where another process has ended. A block within a block changes nothing.
    """
    if dist.is_initialized() or (world().size == 1 and not world_problem()):
        yield
        return
    _meet()
    try:
        yield
    except DivergedError:  # judged by what is the same everywhere
        if not is_main():
            raise SystemExit(STOPPED_QUIETLY) from None
        raise
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or re.search(BROKEN, str(error), re.I)):
            raise
        if not _speaks():
            raise SystemExit(MISTAKE) from None
        # gloo's first sentence says it, after the place in its source
        count, seen = world().size, re.sub(r"^\[\S+\] ", "", " ".join(str(error).split())).split(". ")[0]
        raise LostRankError(
            f"one of the {count} processes of this training has ended too early ({seen[:160]}); the last saved state "
            "is kept; read the output above for the reason, then run the same command with --resume"
        ) from None
    finally:
        if dist.is_initialized():
            _let_others_end()
            dist.destroy_process_group()


def _others() -> str:
    count = world().size - 1
    return "the other process" if count == 1 else f"the other {count} processes"


def _meet() -> None:
    """Wait for the other processes of this job, not in silence: what torchrun set may be left over in a shell.

    Raises RunError where the variables that say where to meet are missing or wrong.
    """
    given = {name: printable(os.environ[name])[:40] for name in (*TORCHRUN, *_MEETING) if name in os.environ}
    seen = ", ".join(f"{name}={value}" for name, value in given.items())
    names = " ".join((*TORCHRUN, *_MEETING))
    remedy = f"{seen} may be left over from torchrun; to train in one process, stop and run: unset {names}"
    problem = world_problem()
    if problem:
        raise RunError(f"{problem}, so this process cannot find the others of its training; {remedy}")
    missing = [name for name in _MEETING if not os.environ.get(name)]
    if missing:
        raise RunError(f"{missing[0]} is not set, so {_others()} cannot be found; {remedy}")

    def remind() -> None:
        print(f"redoseg: still waiting for {_others()}; {remedy}", file=sys.stderr, flush=True)

    reminder = threading.Timer(max(LEAST_WAIT, STARTED + REMIND_AFTER - time.monotonic()), remind)
    reminder.daemon = True
    reminder.start()
    try:
        # control goes by gloo in any case, so that it never waits for a GPU
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        with signals.handling(signal.SIG_DFL):  # Python hears a signal only after the waiting
            dist.init_process_group(backend, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        first = " ".join(str(error).split()).split(". ")[0][:160]
        raise RunError(f"{_others()} cannot be found ({first}); {remedy}") from None
    finally:
        reminder.cancel()


def _speaks() -> bool:
    """Whether this is the first survivor to ask. Only the store still works, which torchrun itself holds."""
    try:
        return int(dist.distributed_c10d._get_default_store().add("redoseg/speaks", 1)) == 1
    except RuntimeError:  # torchrun has gone too
        return is_main()


def leave() -> None:
    """End the training together: the first process continues alone, and here the others wait until it has finished.

    They may not end before it: each machine's torchrun waits for the others for five minutes and ends then, and with
    the one that all have met at, the job ends on every machine.
    """
    global _others_wait
    if world_size() == 1:
        return
    if is_main():
        _others_wait = True
        return
    finished = dist.irecv(torch.zeros(1), src=0)
    assert finished is not None
    with signals.handling(signal.SIG_DFL):  # Python hears a signal only after the waiting
        finished.wait(SECOND_STAGE)


def _let_others_end() -> None:
    """Say to the processes that wait in `leave`, if any, that this one has finished."""
    global _others_wait
    if not _others_wait:
        return
    _others_wait = False
    for other in range(1, dist.get_world_size()):
        with suppress(RuntimeError):  # it has gone
            dist.send(torch.zeros(1), other)


@contextmanager
def all_or_none() -> Iterator[None]:
    """All get through this block or none does: a mistake that one process finds is raised by the first as its own.

    Nothing in the block may talk to other processes.
    """
    found: RedosegError | None = None
    try:
        yield
    except RedosegError as error:
        if world_size() == 1:
            raise
        found = error
    if world_size() == 1:
        return
    said = _texts(str(found) if found else "")
    where = next((number for number, text in enumerate(said) if text), None)
    if where is None:
        return
    if not is_main():
        raise SystemExit(STOPPED_QUIETLY)
    raise found or RunError(f"process {where} of {world_size()}: {said[where]}")


def same_start(about: Mapping[str, Any]) -> None:
    """Refuse processes that would not do the same: RunError, naming the first difference from the main process."""
    if world_size() == 1:
        return
    mine = [f"{name} {value!r}" for name, value in about.items()]
    wanted = _texts("\n".join(mine))[0].splitlines()
    with all_or_none():
        for its, firsts in zip(mine, wanted, strict=True):
            if its != firsts:
                raise RunError(
                    f"this process has {its}, but the first one has {firsts}; start the same command on every machine, "
                    "with access to the same pictures and the same run folder"
                )


def own_device(name: str) -> torch.device:
    """The device of this rank: of several on a machine, each takes the GPU of its number there. Raises RunError."""
    device, here = pick_device(name), world()
    if here.size == 1:
        return device
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if here.local_size > count:
            raise RunError(
                f"{here.local_size} processes were started on a machine with {count} GPUs, and each needs its own; "
                f"use --nproc-per-node {count}, or --device cpu"
            )
        device = torch.device("cuda", here.local_rank)
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise RunError(f"several processes cannot train on {device.type}, only on cpu or cuda; start without torchrun")
    return device


def refuse_unshareable(config: Config, size: int) -> None:
    """Raises RunError where `size` ranks cannot share the batches of these settings."""
    if config.batch % size:
        more = -(-config.batch // size) * size
        raise RunError(
            f"{size} processes cannot share a batch of {config.batch} pictures equally; set --batch {more}, or start "
            "another number of processes"
        )
    if size > 1 and config.nets.norm == "batch":
        raise RunError(
            f"nets.norm batch does not work in {size} processes, since each would use the statistics of its own part "
            "of the batch; train in one process, or set --nets.norm instance"
        )


def any_rank(flag: bool) -> bool:
    """Whether `flag` is true in any process."""
    if world_size() == 1:
        return flag
    said = torch.tensor(int(flag))
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return bool(said.item())


def broadcast(number: int | None) -> int | None:
    """The number that the first process gives; the others' are ignored. Numbers are 0 or more."""
    if world_size() == 1:
        return number
    said = torch.tensor(-1 if number is None else number)
    dist.broadcast(said, 0)
    return None if said.item() < 0 else int(said.item())


@torch.no_grad()
def mean(value: Shaped[Tensor, "*any"]) -> Shaped[Tensor, "*any"]:
    """Mean over the processes, without gradient; the mean over the batch, since their parts are equally large."""
    if world_size() == 1:
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


@torch.no_grad()
def all_gather(part: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "whole ..."]:
    """The whole batch from each process's part, without gradient."""
    if world_size() == 1:
        return part
    parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, part.contiguous())
    return torch.cat(parts)


def wrap_ddp(player: nn.Module, all_learn: bool = True) -> nn.Module:
    """The player with gradients that are means over the processes; itself where there is one process.

    `all_learn` says that every weight gets a gradient.
    """
    if world_size() == 1:
        return player
    warnings.filterwarnings("ignore", "Grad strides do not match")  # of 1 x n weights, which cost nothing
    return DistributedDataParallel(player, find_unused_parameters=not all_learn)


def _texts(text: str) -> list[str]:
    """Each process's text."""
    mine = torch.tensor(list(text.encode()), dtype=torch.uint8)
    lengths = [torch.zeros((), dtype=torch.long) for _ in range(world_size())]
    dist.all_gather(lengths, torch.tensor(len(mine)))
    longest = max(int(length) for length in lengths)
    padded = torch.cat([mine, torch.zeros(longest - len(mine), dtype=torch.uint8)])
    parts = [torch.empty_like(padded) for _ in range(world_size())]
    if longest:
        dist.all_gather(parts, padded)
    return [bytes(p[: int(n)].tolist()).decode() for p, n in zip(parts, lengths, strict=True)]
