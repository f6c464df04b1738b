"""How the cost of training grows: with resolution, regions and pictures as measured, with devices as a small model."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from redoseg.bench.results import Devices, Growth, Link, Processes, ScalingResult
from redoseg.bench.timing import hardware, side_by_side
from redoseg.bench.train import IMAGES, WARM, Way, uncompiled
from redoseg.config.recipe import check, to_toml
from redoseg.config.schema import Config
from redoseg.data import ImageSet, open_shapes
from redoseg.errors import DataError
from redoseg.files import temporary_folder
from redoseg.run_folder import RunFolder
from redoseg.system import own_memory
from redoseg.train.loader import BatchLoader, ImageStore
from redoseg.train.players import Discriminator, Redrawer

# bytes a second that a device can send while it receives as many
LINKS = {"Ethernet 100 Gb/s": 12.5e9, "InfiniBand 400 Gb/s": 50e9, "NVLink 4, 900 GB/s both ways": 450e9}
RATES = (100e12, 300e12)  # what a device may sustain on these nets [operations a second]
BACKWARD = 2 / 3  # share of a step that is backward passes, under which sums of gradients can hide
DEVICES = (2, 8, 64)


def bench_scaling(
    config: Config,
    *,
    sizes: Sequence[int] = (32, 64, 128, 256),
    regions: Sequence[int] = (2, 3, 4),
    images: Sequence[int] = (1000, 10_000, 100_000),
    processes: Sequence[int] = (1, 2),
    rounds: int = 3,
    steps: int = 3,
) -> ScalingResult:
    """Steps a second on a CPU as sizes, regions, images or processes grow, and the model of several devices.

    Args:
        config: settings to start from.
        sizes: sides of the pictures [pixels].
        regions: numbers of regions.
        images: sizes of the set, whose images are 64 pixels.
        processes: that train together, each with `config.batch` pictures of a batch and one thread.
        rounds: times that all take turns.
        steps: steps in a turn.
    """
    if rounds < 1 or steps < 1:
        raise DataError(f"{rounds} rounds of {steps} steps cannot be timed; choose 1 or more of each")
    for name, values in (("sizes", sizes), ("regions", regions), ("pictures", images), ("processes", processes)):
        if not values or min(values) < 1:
            raise DataError(f"--{name} is {list(values)}; choose one or more numbers above 0")
    config = uncompiled(config)
    by_size = {f"{size} px": replace(config, data=replace(config.data, size=size)) for size in sizes}
    by_regions = {f"{n} regions": replace(config, nets=replace(config.nets, regions=n)) for n in regions}
    for one in (*by_size.values(), *by_regions.values()):
        check(one)
    return {
        "config": {"batch": config.batch, "precision": config.precision},
        "hardware": {**hardware(), "torch": torch.__version__},
        "threads": torch.get_num_threads(),
        "resolution": _growth(by_size, rounds, steps),
        "regions": _growth(by_regions, rounds, steps),
        "pictures": {f"{count:,}": _fed(config, count) for count in images},
        "processes": _processes(config, processes, rounds, max(steps, 10)),
        "devices": devices(),
    }


def _growth(settings: dict[str, Config], rounds: int, steps: int) -> Growth:
    """Training steps with each of these settings."""
    ways = {key: Way(one, torch.device("cpu")) for key, one in settings.items()}
    for way in ways.values():
        way.run(WARM)
    return {
        **side_by_side({key: partial(way.run, steps) for key, way in ways.items()}, steps, rounds),
        "gflop_a_step": {key: round(way.flop() / 1e9, 2) for key, way in ways.items()},
        "kept_for_backward_mb": {key: round(_kept(way) / 1e6, 1) for key, way in ways.items()},
    }


def _kept(way: Way) -> int:
    """What both players keep for their backward passes, normed copies of weights but not these [bytes]."""
    nets = (way.state.redrawer, way.state.discriminator)
    weights = {p.untyped_storage().data_ptr() for net in nets for p in net.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        way.run(1)
    return sum(storage.nbytes() for storage in kept.values())


def _fed(config: Config, count: int, size: int = 64, batches: int = 200) -> dict[str, float]:
    """Batches from a set of `count` pictures: time each in memory and read ahead from disk, and memory of its own."""
    with temporary_folder("bench") as folder:
        path = folder / "images.npy"
        images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, size, size, 3))
        some = open_shapes("shapes", size, regions=2, split="train", count=250).pixels
        for start in range(0, count, len(some)):
            images[start : start + len(some)] = some[: count - start]
        images.flush()
        del images
        found: dict[str, float] = {"mb_on_disk": round(path.stat().st_size / 1e6, 1)}
        ways: tuple[tuple[str, Literal["auto", "never"]], ...] = (("in_memory", "auto"), ("read_ahead", "never"))
        for name, resident in ways:
            before = own_memory(os.getpid())
            stored = np.load(path, mmap_mode="r")
            none = ("",) * count
            image_set = ImageSet(
                name="made",
                size=size,
                regions=2,
                pixels=stored,
                masks=None,
                names=none,
                splits=none,
                labelled=np.zeros(count, bool),
            )
            one = replace(config, data=replace(config.data, size=size, resident=resident))
            started = time.perf_counter()
            store = ImageStore(image_set, one, torch.device("cpu"))
            with BatchLoader(store, one) as feed:
                feed.begin(0, 1)
                feed.take()
                found[f"{name}_first_batch_s"] = round(time.perf_counter() - started, 3)
                started = time.perf_counter()
                for _ in range(batches):
                    feed.take()
                found[f"{name}_ms_a_batch"] = round((time.perf_counter() - started) / batches * 1e3, 3)
            found[f"{name}_own_mb"] = round((own_memory(os.getpid()) - before) / 1e6, 1)
            del store, feed, image_set
        return found


def _processes(config: Config, counts: Sequence[int], rounds: int, steps: int) -> Processes:
    """Pictures a second of trainings in so many processes of this machine, each with its own part of a batch."""

    def speed(count: int, place: Path) -> float:
        """From the run's own log: the start of Python and what is written do not count."""
        watch = replace(config.watch, log_every=steps, evaluate_every=10**9, sample_every=10**9, collapse_every=10**9)
        data = replace(config.data, source="shapes", pictures=IMAGES, evaluate_on="")
        one = replace(config, steps=4 * steps, threads=1, batch=count * config.batch, data=data)
        one = replace(one, refine=replace(config.refine, rounds=0), watch=replace(watch, checkpoint_every=10**9))
        (place / "recipe.toml").write_text(to_toml(one))
        start = ["-m"] if count == 1 else ["-m", "torch.distributed.run", "--nproc-per-node", str(count), "-m"]
        train = ["redoseg", "train", str(place / "recipe.toml"), "--out", str(place / "run"), "--device", "cpu"]
        done = subprocess.run([sys.executable, *start, *train], capture_output=True, text=True)
        if done.returncode:
            raise DataError(
                f"training in {count} processes failed; the end of its output is: {done.stderr.strip()[-300:]}"
            )
        entries = RunFolder(place / "run").log.entries()
        # neither the first part, which warms up, nor the last, which looks
        first, last = entries[0], entries[-2]
        return (last["pictures"] - first["pictures"]) / (last["seconds"] - first["seconds"])

    speeds: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            with temporary_folder("bench") as folder:
                speeds[count].append(speed(count, folder))
    ratios = {c: [a / b for a, b in zip(speeds[c], speeds[counts[0]], strict=True)] for c in counts[1:]}
    return {
        "pictures_per_second": {str(c): [round(v, 1) for v in values] for c, values in speeds.items()},
        "ratio": {str(c): round(statistics.median(values), 2) for c, values in ratios.items()},
    }


def devices(config: Config | None = None) -> Devices:
    """When summing gradients over devices hides behind the backward passes: a model of the paper's nets, unmeasured.

    A ring sends 2 (N - 1) / N of the gradients' bytes over each device's link. It hides while that takes no longer
    than the backward passes, which take BACKWARD of a step; a step takes its operations over a sustained rate. The
    model has no latencies and no slow processes, so it is the least number of pictures a device that can be hoped for.
    """
    config = config or Config()
    with torch.device("meta"):
        nets: list[nn.Module] = [Redrawer(config), Discriminator(config)]
    weights = sum(p.numel() for net in nets for p in net.parameters())
    flop = flop_per_image(config)
    rows: list[Link] = []
    for link, bandwidth in LINKS.items():
        for count in DEVICES:
            seconds = 2 * (count - 1) / count * 4 * weights / bandwidth
            least = {f"{rate / 1e12:.0f} TFLOP/s": seconds * rate / (BACKWARD * flop) for rate in RATES}
            rows.append(
                {
                    "link": link,
                    "devices": count,
                    "communication_ms": round(seconds * 1e3, 2),
                    "least_pictures_a_device": {rate: round(value, 1) for rate, value in least.items()},
                }
            )
    return {
        "weights_million": round(weights / 1e6, 1),
        "gradients_a_step_mb": round(4 * weights / 1e6, 1),
        "gflop_a_picture": round(flop / 1e9, 1),
        "rows": rows,
    }


def flop_per_image(config: Config) -> float:
    """Operations of a training step for each picture of its batch, counted and not timed."""
    way = Way(replace(config, batch=1, data=replace(config.data, source="shapes")), torch.device("cpu"))
    return way.flop()
