"""Where training gets its pictures from: resident or read ahead, the same run; waiting; errors; no thread left."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from redoseg import system
from redoseg.config.schema import Config
from redoseg.data import ImageSet, open_data
from redoseg.train import loader
from redoseg.train.loader import AHEAD, BatchLoader, ImageStore
from redoseg.train.loop import Hooks, train
from redoseg.train.random_draws import RandomDraws
from redoseg.train.state import TrainState

Tiny = Callable[..., Config]
CPU = torch.device("cpu")
BOTH = pytest.mark.parametrize("most", [2**30, 0], ids=["resident", "read ahead"])


@pytest.fixture
def mapped(photos: Path) -> ImageSet:
    """Twelve pictures of 16 pixels in a memory-mapped file."""
    pictures = open_data(photos, 16)
    assert isinstance(pictures.pixels, np.memmap)
    return pictures


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Any:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Odd(ImageStore):
    """Does something before it reads; counts its reads."""

    def __init__(self, pictures: ImageSet, config: Config, before: Callable[[int], object]) -> None:
        super().__init__(pictures, config, CPU)
        self.before, self.reads = before, 0

    def stored(self, indices: Any) -> torch.Tensor:
        self.reads += 1
        self.before(self.reads)
        return super().stored(indices)


def until(done: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 10
    while not done() and time.monotonic() < end:
        time.sleep(0.005)
    assert done()


# ----------------------------------------------------------------------------------------- what is resident


def test_how_large_a_set_may_be_to_be_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "free_memory", lambda: 1000)
    assert loader.resident_limit(CPU) == 250
    monkeypatch.setattr(loader, "free_memory", lambda: 2**50)
    assert loader.resident_limit(CPU) == loader.RESIDENT_MOST


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="known on Linux alone")
def test_the_hosts_memory() -> None:
    assert 2**26 < loader.free_memory() < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_cores_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16), raising=False)
    for told, expected in (("max 100000", 16), ("250000 100000", 3), ("10000 100000", 1), ("9900000 100000", 16)):
        monkeypatch.setattr(Path, "read_text", lambda _, told=told: told + "\n")
        assert system.cores() == expected


def test_a_set_is_resident_up_to_the_limit(mapped: ImageSet, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "COPIED", 5 * 16 * 16 * 3 + 1)  # copied in three parts
    monkeypatch.setattr(loader, "RESIDENT_MOST", mapped.pixels.nbytes)
    resident = ImageStore(mapped, tiny(), CPU).resident
    assert resident is not None
    assert np.array_equal(resident.numpy(), mapped.pixels)
    assert ImageStore(mapped, tiny({"data.resident": "never"}), CPU).resident is None
    monkeypatch.setattr(loader, "RESIDENT_MOST", mapped.pixels.nbytes - 1)
    assert ImageStore(mapped, tiny(), CPU).resident is None


# ----------------------------------------------------------------------------------------------- the batches


@BOTH
@pytest.mark.parametrize("flip", [True, False])
def test_both_batches_are_what_was_drawn_and_mirrored_picture_by_picture(
    flip: bool, most: int, mapped: ImageSet, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "RESIDENT_MOST", most)
    config = tiny({"data.flip": flip})
    draws = RandomDraws(5, 12, 4, 2, 4)
    mirrored = []
    with BatchLoader(ImageStore(mapped, config, CPU), config) as source:
        source.begin(5, 3)
        for step in range(3, 11):
            batch, drawn = source.take(), draws.step(step)
            assert torch.equal(batch.drawn.latents, drawn.latents)
            numbers = (drawn.redrawn, drawn.real)
            for got, indices, flips in zip((batch.images, batch.real), numbers, drawn.flips, strict=True):
                expected = mapped.pixels[indices] / 127.5 - 1
                if flip:
                    expected[flips] = expected[flips][:, :, ::-1]
                    mirrored.append(tuple(flips))
                assert np.abs(got.numpy() - expected.transpose(0, 3, 1, 2)).max() < 1e-6
    if flip:
        assert any(0 < sum(flips) < 4 for flips in mirrored)  # some of a batch
        assert mirrored[::2] != mirrored[1::2]  # and others of the real ones


@BOTH
def test_the_pictures_redrawn_can_be_the_real_ones(
    most: int, mapped: ImageSet, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "RESIDENT_MOST", most)
    config = tiny({"objective.other_real": False, "data.flip": True})
    with BatchLoader(ImageStore(mapped, config, CPU), config) as source:
        source.begin(0, 1)
        batch = source.take()
    assert batch.real is batch.images
    assert batch.real.shape == (4, 3, 16, 16)


def test_another_attempt_gets_its_own_batches(mapped: ImageSet, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "RESIDENT_MOST", 0)
    config = tiny()
    store = ImageStore(mapped, config, CPU)
    with BatchLoader(store, config) as source:
        source.begin(1, 1)
        source.take()
        for seed, step in ((2, 1), (1, 7)):
            source.begin(seed, step)
            drawn = RandomDraws(seed, 12, 4, 2, 4).step(step)
            batch = source.take()
            assert torch.equal(batch.images, store(drawn.redrawn))
            assert torch.equal(batch.real, store(drawn.real))


def test_the_coming_steps_are_read_while_one_computes(
    mapped: ImageSet, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "RESIDENT_MOST", 0)
    where: set[str] = set()
    store = Odd(mapped, tiny(), lambda _: where.add(threading.current_thread().name))
    with BatchLoader(store, tiny()) as source:
        source.begin(0, 1)
        for taken in range(1, 4):
            source.take()
            until(lambda taken=taken: store.reads == taken + AHEAD)  # type: ignore[misc]
            time.sleep(0.02)
            assert store.reads == taken + AHEAD  # and no more
    assert threading.current_thread().name not in where


def test_resident_pictures_need_no_thread(mapped: ImageSet, tiny: Tiny) -> None:
    before = threading.active_count()
    with BatchLoader(ImageStore(mapped, tiny(), CPU), tiny()) as source:
        source.begin(0, 1)
        source.take()
        assert threading.active_count() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_read_ahead_onto_a_gpu(mapped: ImageSet, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, config = torch.device("cuda"), tiny({"data.flip": True})
    seen = {}
    for most in (2**30, 0):
        monkeypatch.setattr(loader, "RESIDENT_MOST", most)
        with BatchLoader(ImageStore(mapped, config, gpu), config) as source:
            source.begin(0, 1)
            batches = [source.take() for _ in range(40)]
            seen[most] = torch.stack([torch.stack([batch.images, batch.real]) for batch in batches])
    assert seen[0].device.type == "cuda"
    assert torch.equal(seen[0], seen[2**30])


# --------------------------------------------------------------------------------------------- a run as a whole


def nothing(*_: Any) -> None:
    pass


Trained = tuple[dict[str, torch.Tensor], list[dict[str, Any]]]


@pytest.fixture
def go(mapped: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trained]:
    """Trains on `mapped`, resident if it has up to `most` bytes; gives all tensors of the state, and log entries."""

    def go(config: Config, most: int, path: Path | None = None) -> Trained:
        monkeypatch.setattr(loader, "RESIDENT_MOST", most)
        state = TrainState.fresh(config, CPU) if path is None else TrainState.load(path, CPU)
        state.config = config
        entries: list[dict[str, Any]] = []
        state = train(
            state, ImageStore(mapped, config, CPU), None, Hooks(entries.append, nothing, nothing, lambda: False)
        )
        state.save(tmp_path / "state.safetensors")
        return load_file(tmp_path / "state.safetensors"), entries

    return go


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    assert a.keys() == b.keys()
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.slow
def test_read_ahead_gives_the_same_weights_also_resumed(go: Callable[..., Trained], tiny: Tiny, tmp_path: Path) -> None:
    config = tiny({"steps": 4, "data.flip": True})
    weights, _ = go(config, 2**30)
    ahead, entries = go(config, 0)
    assert same(weights, ahead)
    assert len(entries) == 4
    assert all(0 < entry["waited"] < 1 for entry in entries)
    half, _ = go(replace(config, steps=2), 0)
    assert not same(weights, half)
    resumed, entries = go(config, 0, tmp_path / "state.safetensors")
    assert [entry["step"] for entry in entries] == [3, 4]
    assert same(weights, resumed)


@pytest.mark.slow
def test_read_ahead_starts_again_as_resident_does(go: Callable[..., Trained], tiny: Tiny) -> None:
    config = tiny({"steps": 3, "watch.collapse_share": 0.5, "watch.collapse_every": 2, "watch.restarts": 1})
    weights, _ = go(config, 2**30)
    ahead, entries = go(config, 0)
    assert [(entry["restarts"], entry["step"]) for entry in entries] == [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3)]
    assert same(weights, ahead)


# ----------------------------------------------------------------------------------------------- what goes wrong


@BOTH
def test_an_error_of_reading_stops_the_training_unchanged(
    most: int, mapped: ImageSet, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "RESIDENT_MOST", most)
    config, broken, steps = tiny({"watch.evaluate_every": 100}), OSError(errno.EIO, "Input/output error"), []

    def read(number: int) -> None:
        if number == 4:
            raise broken

    hooks = Hooks(lambda entry: steps.append(entry["step"]), nothing, nothing, lambda: False)
    with pytest.raises(OSError, match="Input/output error") as caught:
        train(TrainState.fresh(config, CPU), Odd(mapped, config, read), None, hooks)
    assert caught.value is broken
    assert steps == [1, 2, 3]  # what could be read was trained on


def test_an_error_of_the_step_ends_the_reading(mapped: ImageSet, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "RESIDENT_MOST", 0)

    def log(_: Any) -> None:
        assert any(thread.name.startswith("feed") for thread in threading.enumerate())
        raise KeyboardInterrupt  # the second Ctrl-C

    state, store = TrainState.fresh(tiny(), CPU), ImageStore(mapped, tiny(), CPU)
    with pytest.raises(KeyboardInterrupt):
        train(state, store, None, Hooks(log, nothing, nothing, lambda: False))


def test_ctrl_c_while_waiting(mapped: ImageSet, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "RESIDENT_MOST", 0)
    arrived = threading.Event()
    store = Odd(mapped, tiny(), lambda _: arrived.wait(120))  # a disk that does not answer
    main = threading.main_thread().ident
    assert main is not None
    ctrl_c = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
    started = time.monotonic()
    with BatchLoader(store, tiny()) as source:
        source.begin(0, 1)
        ctrl_c.start()
        with pytest.raises(KeyboardInterrupt):
            source.take()
        assert time.monotonic() - started < 60  # half of what the disk would take
        arrived.set()
    ctrl_c.join()
    assert store.reads == 1  # the rest is not read any more


# ------------------------------------------------------------------------------------------------------- waiting


class Clock:
    """Time that passes when a test lets it; knows when it was read."""

    def __init__(self) -> None:
        self.now, self.read = 0.0, threading.Event()

    def monotonic(self) -> float:
        self.read.set()
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loader, "time", clock)
    return clock


def test_reading_within_a_step_is_waiting(mapped: ImageSet, tiny: Tiny, clock: Clock) -> None:
    def slow(_: int) -> None:
        clock.now += 1

    with BatchLoader(Odd(mapped, tiny(), slow), tiny()) as source:
        assert source.waited_share() == 0
        source.begin(0, 1)
        for _ in range(4):
            source.take()
            clock.now += 3  # training
        assert source.waited_share() == 0.25
        assert source.waited_share() == 0
        clock.now += 100  # scoring, say: time between asking and the next batch does not count
        source.take()
        assert source.waited_share() == 1


def test_reading_ahead_is_waiting_only_where_a_step_needs_it(
    mapped: ImageSet, tiny: Tiny, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "RESIDENT_MOST", 0)

    def slow_once(reads: int) -> None:
        if reads == 1:
            assert clock.read.wait(10)  # somebody waits for it
            clock.now += 1

    store = Odd(mapped, tiny(), slow_once)
    with BatchLoader(store, tiny()) as source:
        source.begin(0, 1)
        source.take()
        clock.now += 3
        assert source.waited_share() == 0.25
        until(lambda: store.reads == 1 + AHEAD)
        for _ in range(AHEAD):
            source.take()
            clock.now += 1
        assert source.waited_share() == 0
