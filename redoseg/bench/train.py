"""Training steps, against the plain version of the same step."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from redoseg.bench.reference_step import plain_settings, plain_state
from redoseg.bench.results import TrainResult
from redoseg.bench.roofline import roofline
from redoseg.bench.timing import digits, hardware, side_by_side
from redoseg.config.recipe import check
from redoseg.config.schema import Config
from redoseg.data import open_shapes
from redoseg.errors import DataError
from redoseg.run_folder import Entry, LossName
from redoseg.train.compute import describe_device
from redoseg.train.loader import ImageStore
from redoseg.train.loop import Hooks, train
from redoseg.train.state import TrainState

IMAGES = 256  # that training steps are timed on
WARM = 3  # steps before the first that is timed: libraries choose their algorithms, compilers compile
BOTH = ("plain", "redoseg")
LOSSES: tuple[LossName, ...] = ("redrawer", "latent", "self_redraw", "critic_real", "critic_fake")


def bench_train(
    config: Config, device: torch.device, *, rounds: int = 5, steps: int = 10, same: int = 0, each: bool = False,
    layers: bool = False,
) -> TrainResult:  # fmt: skip
    """Steps a second of these settings and of the plain version, on built-in pictures of the settings' size.

    Args:
        config: what to train; where it differs from the plain version in `precision` and `speed`, that is measured.
        rounds: times that both take turns.
        steps: steps in a turn.
        same: also train both from one seed for so many steps and tell how far their losses are apart; 0 leaves it out.
        each: also time the plain version with each of our ways alone.
        layers: also tell what bounds each layer (`redoseg.bench.roofline`).
    """
    if rounds < 1 or steps < 1:
        raise DataError(f"{rounds} rounds of {steps} steps cannot be timed; choose 1 or more of each")
    config = replace(config, data=replace(config.data, source="shapes", pictures=IMAGES, evaluate_on=""))
    check(config)
    torch.backends.cudnn.benchmark = device.type == "cuda"
    ways: dict[str, Way] = {"plain": Way(plain_settings(config), device, plain=True)}
    if each:
        ways |= {name: Way(alone, device, plain=True) for name, alone in _alone(config).items()}
        ways["fewer passes"] = Way(plain_settings(config), device)
    ways["redoseg"] = Way(config, device)
    for way in ways.values():
        way.run(WARM)

    timed = side_by_side({name: partial(way.run, steps) for name, way in ways.items()}, steps, rounds)
    counted = {name: Way(uncompiled(way.state.config), device, way.plain) for name, way in ways.items() if name in BOTH}
    gflop = {name: round(way.flop() / 1e9, 2) for name, way in counted.items()}
    fastest = statistics.median(timed["per_second"]["redoseg"])
    result: TrainResult = {
        "config": {
            "size": config.data.size,
            "batch": config.batch,
            "precision": config.precision,
            "speed": vars(config.speed),
        },
        "hardware": {
            **hardware(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "device": describe_device(device),
        },
        "steps_in_a_turn": steps,
        "per_second": timed["per_second"],
        "ratio": timed["ratio"],
        "gflop_a_step": gflop,
        "gflop_a_second": round(gflop["redoseg"] * fastest, 1),
    }
    if device.type == "cuda":
        result["gpu_memory_of_a_step_mb"] = {name: round(way.memory() / 1e6) for name, way in ways.items()}
    if same:
        result["same"] = _compared(config, device, same)
    if layers:
        result["roofline"] = roofline(uncompiled(config), counted["redoseg"].store, 1 / fastest)
    said = {name: way.said for name, way in ways.items() if way.said}
    if said:
        result["announced"] = said
    return result


def uncompiled(config: Config) -> Config:
    """The same settings without torch.compile, whose work cannot be counted."""
    return replace(config, speed=replace(config.speed, compile="off"))


def _compared(config: Config, device: torch.device, steps: int) -> dict[str, dict[str, dict[str, float]]]:
    """How far losses are from the plain version's, over the first steps and over all, from the same seed and weights.

    Training amplifies rounding. So the same is measured for the plain version with its sums in another order, and for
    another seed: a distance like the first does not count as a difference, one like the second means that only the
    settings are common.
    """
    plain = plain_settings(config)
    others = {
        "plain, rounded otherwise": Way(plain_settings(config, channels_last=True), device, plain=True),
        "redoseg in float32": Way(replace(config, precision="float32"), device),
        "redoseg": Way(config, device),
        "plain from another seed": Way(replace(plain, seed=config.seed + 1), device, plain=True),
    }
    reference = Way(plain, device, plain=True).losses(steps)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, way in others.items():
        losses = way.losses(steps)
        found[name] = {
            f"{upto} steps": _apart(reference[:upto], losses[:upto]) for upto in sorted({min(20, steps), steps})
        }
    return found


def _apart(reference: list[Entry], losses: list[Entry]) -> dict[str, float]:
    """For each loss the mean difference over the steps, divided by its mean size where that is not 0."""
    found: dict[str, float] = {}
    for name in (name for name in LOSSES if name in reference[0]):
        apart = statistics.mean(abs(a[name] - b[name]) for a, b in zip(reference, losses, strict=True))
        size = statistics.mean(abs(a[name]) for a in reference)
        found[name] = digits(apart / size if size else apart)
    return found


def _alone(config: Config) -> dict[str, Config]:
    """The plain version with one of the ways of `config` at a time."""
    plain = plain_settings(config)
    found = {
        name: plain_settings(config, **{name: value})
        for name, value in vars(config.speed).items()
        if value != getattr(plain.speed, name)
    }
    if config.precision != plain.precision:
        found[f"precision {config.precision}"] = replace(plain, precision=config.precision)
    return found


class Way:
    """A training that takes some more steps when asked."""

    def __init__(self, config: Config, device: torch.device, plain: bool = False) -> None:
        self.plain = plain
        self.said: list[str] = []
        self.state = plain_state(config, device) if plain else TrainState.fresh(config, device)
        # never the last step, and nothing is looked at or written
        watch = replace(config.watch, log_every=10**9, evaluate_every=10**9, sample_every=10**9, checkpoint_every=10**9)
        self.state.config = replace(self.state.config, steps=10**9, watch=replace(watch, collapse_every=10**9))
        images = open_shapes("shapes", config.data.size, regions=2, split="train", count=IMAGES)
        self.store = ImageStore(images, self.state.config, device)

    def run(self, steps: int, log: Callable[[Entry], None] = lambda _: None) -> None:
        end = self.state.step + steps
        stop = Hooks(log, lambda *_: None, lambda _: None, stop=lambda: self.state.step >= end, say=self.said.append)
        train(self.state, self.store, None, stop)
        if self.store.device.type == "cuda":  # what is still queued is this turn's work
            torch.cuda.synchronize(self.store.device)

    def losses(self, steps: int) -> list[Entry]:
        """What the log says of each of these steps."""
        entries: list[Entry] = []
        self.state.config = replace(self.state.config, watch=replace(self.state.config.watch, log_every=1))
        self.run(steps, entries.append)
        return entries

    def flop(self) -> int:
        """Floating-point operations of a step: those of its products, a multiply-add counted as two."""
        with FlopCounterMode(display=False) as counter:
            self.run(1)
        return int(counter.get_total_flops())

    def memory(self) -> int:
        """Most memory of the GPU that a step takes, beyond the weights and whatever else stays [bytes]."""
        torch.cuda.reset_peak_memory_stats()
        kept = torch.cuda.memory_allocated()
        self.run(1)
        return torch.cuda.max_memory_allocated() - kept
