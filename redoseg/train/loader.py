"""Where training gets its pictures from: the device's memory, or a file that a thread reads ahead."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from redoseg.config.schema import Config
from redoseg.data import ImageSet
from redoseg.system import free_memory, world
from redoseg.train import distributed
from redoseg.train.compute import memory_layout
from redoseg.train.random_draws import RandomDraws, StepDraws

RESIDENT_SHARE = 0.25  # of the device's free memory: a set up to this size lives there
RESIDENT_MOST = 16 * 2**30  # bytes: reading more before the first step takes longer than it saves
COPIED = 64 * 2**20  # bytes copied at once to the device
AHEAD = 4  # steps whose pictures are read before they are asked for


def resident_limit(device: torch.device) -> int:
    """The size up to which a set is kept in the memory of the device, or of the host that is one [bytes]."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory() // world().local_size
    return min(int(RESIDENT_SHARE * free), RESIDENT_MOST)


class ImageStore:
    """Pictures as bytes, given out as float batches in the networks' value range, on the device."""

    def __init__(self, images: ImageSet, config: Config, device: torch.device) -> None:
        self.pixels = images.pixels
        self.signed, self.device = config.data.value_range == "signed", device
        self.layout = memory_layout(config.speed)
        fits = config.data.resident == "auto" and self.pixels.nbytes <= resident_limit(device)
        self.resident = self._copied() if fits else None
        self.masks: UInt8[Tensor, "p h w"] | None = None
        """Of each picture how much a pixel is region 0, of two, where masks do not change; 255 is wholly."""

    def _copied(self) -> UInt8[Tensor, "p h w 3"]:
        """All pictures in the device's memory, part by part: they may be more than the host's can hold."""
        whole = torch.empty(self.pixels.shape, dtype=torch.uint8, device=self.device)
        part = max(1, COPIED // max(1, self.pixels[:1].nbytes))
        for start in range(0, len(whole), part):
            whole[start : start + part].copy_(torch.from_numpy(np.array(self.pixels[start : start + part])))
        return whole

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def size(self) -> int:
        """Side of the pictures [pixels]."""
        return int(self.pixels.shape[1])

    def __call__(
        self, indices: Int[np.ndarray, " b"], flips: Bool[np.ndarray, " b"] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """The pictures of these numbers, mirrored where `flips` is true."""
        return self.floats(self.stored(indices).to(self.device), flips)

    def regions(
        self, indices: Int[np.ndarray, " b"], flips: Bool[np.ndarray, " b"] | None = None
    ) -> Float[Tensor, "b 2 h w"]:
        """The masks that do not change, of the pictures of these numbers, mirrored where `flips` is true."""
        assert self.masks is not None
        mask = self.masks[torch.from_numpy(indices)].to(self.device).float() / 255
        if flips is not None:
            mask = torch.where(torch.from_numpy(flips).to(self.device)[:, None, None], mask.flip(2), mask)
        return torch.stack([mask, 1 - mask], 1).contiguous(memory_format=self.layout)

    def stored(self, indices: Int[np.ndarray, " b"]) -> UInt8[Tensor, "b h w 3"]:
        """The pictures of these numbers as they are stored: on the device if all are, else on the host."""
        if self.resident is not None:
            return self.resident.index_select(0, torch.from_numpy(indices).to(self.device))
        order, places = np.unique(indices, return_inverse=True)  # a memory map likes to be read in order
        return torch.from_numpy(self.pixels[order][places])

    def floats(
        self, taken: UInt8[Tensor, "b h w 3"], flips: Bool[np.ndarray, " b"] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Stored pictures as the networks see them, mirrored where `flips` is true."""
        batch = taken.permute(0, 3, 1, 2).float() / (127.5 if self.signed else 255)
        if self.signed:
            batch = batch - 1
        if flips is not None and flips.any():
            where = torch.from_numpy(flips).to(self.device)
            batch = torch.where(where[:, None, None, None], batch.flip(3), batch)
        return batch.contiguous(memory_format=self.layout)


@dataclass(frozen=True)
class Batch:
    """What one step is about: its draws, the pictures to redraw and the discriminator's real ones."""

    drawn: StepDraws
    images: Float[Tensor, "b 3 h w"]
    real: Float[Tensor, "b 3 h w"]
    masks: Float[Tensor, "b n h w"] | None
    """Of the pictures to redraw, where they do not change; else the extractor gives them."""


class BatchLoader:
    """The batches of a run, step after step; of several ranks, each has its part of them.

    Pictures that are not resident are read AHEAD steps early by a thread of this object, which ends with the `with`
    block. It can, since what a step draws depends on no earlier step. Its errors are raised where the batch is taken.
    """

    def __init__(self, store: ImageStore, config: Config) -> None:
        self.store, self.config = store, config
        self._reader = ThreadPoolExecutor(1, "feed")  # one: reads in order, and no other thread draws
        self._stream = torch.cuda.Stream(store.device) if store.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._coming: deque[Future[tuple[StepDraws, Tensor]]] = deque()
        self._waited = 0.0
        self._since: float | None = None

    def __enter__(self) -> BatchLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.shutdown(cancel_futures=True)

    def begin(self, seed: int, step: int) -> None:
        """The next batch is that of this step of the attempt with this seed."""
        self._coming.clear()
        nets = self.config.nets
        self._draws = RandomDraws(seed, len(self.store), self.config.batch, nets.regions, nets.latent)
        self._step = step
        self._read_ahead()

    def take(self) -> Batch:
        """The batch of the next step, on the device."""
        asked = time.monotonic()
        self._since = asked if self._since is None else self._since
        if self.store.resident is None:
            drawn, taken = self._coming.popleft().result()
        else:
            drawn, taken = self._read(self._draws, self._step)
        taken = taken.to(self.store.device)
        self._waited += time.monotonic() - asked

        self._step += 1
        self._read_ahead()
        if self._stream is not None:  # made on that stream: not to be used again before this one is done with it
            taken.record_stream(torch.cuda.current_stream(self.store.device))
        flips = drawn.flips if self.config.data.flip else (None, None)
        count = len(drawn.redrawn)
        images = real = self.store.floats(taken[:count], flips[0])
        if self.config.objective.other_real:
            real = self.store.floats(taken[count:], flips[1])
        masks = None if self.store.masks is None else self.store.regions(drawn.redrawn, flips[0])
        return Batch(drawn, images, real, masks)

    def waited_share(self) -> float:
        """Share of the time that `take` waited for bytes to be on the device, since this was last asked.

        That time begins with the first batch taken and ends now: what is done before training continues does not count.
        Making floats of the bytes and mirroring is not waiting. 0 if no batch was taken.
        """
        share = 0.0 if self._since is None else self._waited / max(time.monotonic() - self._since, 1e-9)
        self._waited, self._since = 0.0, None
        return share

    def _read_ahead(self) -> None:
        """Have the thread read the next AHEAD steps."""
        while self.store.resident is None and len(self._coming) < AHEAD:
            step = self._step + len(self._coming)
            self._coming.append(self._reader.submit(self._fetch, self._draws, step))

    def _read(self, draws: RandomDraws, step: int) -> tuple[StepDraws, UInt8[Tensor, "b h w 3"]]:
        """A step's draws and its pictures, the real ones after those to redraw: all are read at once."""
        drawn = draws.step(step).part(distributed.rank(), distributed.world_size())
        wanted = [drawn.redrawn, drawn.real] if self.config.objective.other_real else [drawn.redrawn]
        return drawn, self.store.stored(np.concatenate(wanted))

    def _fetch(self, draws: RandomDraws, step: int) -> tuple[StepDraws, UInt8[Tensor, "b h w 3"]]:
        """The same from the file, in the reader's thread: copied to a GPU while that computes."""
        drawn, taken = self._read(draws, step)
        if self._stream is not None:
            with torch.cuda.stream(self._stream):
                taken = taken.pin_memory().to(self.store.device, non_blocking=True)
            self._stream.synchronize()  # so that nobody has to ask whether the copy has arrived
        return drawn, taken
