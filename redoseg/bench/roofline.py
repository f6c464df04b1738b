"""What bounds a training step, layer by layer: arithmetic or bytes (Williams et al., CACM 2009).

A layer that does F operations on B bytes takes no less than max(F / peak rate, B / peak bandwidth). Both peaks are
measured on the spot, and each layer is timed alone: forwards, and backwards to what its call in the step wants
gradients of.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from redoseg.bench.results import Layer, Roofline
from redoseg.config.schema import Config
from redoseg.nets.blocks import SelfAttention
from redoseg.train.compute import autocast, computing_dtype
from redoseg.train.loader import BatchLoader, ImageStore
from redoseg.train.state import TrainState

LAYERS = (nn.Conv2d, nn.Linear, nn.InstanceNorm2d, nn.BatchNorm2d, SelfAttention)


def roofline(config: Config, store: ImageStore, step_seconds: float) -> Roofline:
    """The layers of a training step, those first that take longest; their sum beside `step_seconds`.

    Of each: how often a step calls it, operations and bytes of all calls [GFLOP, GB], time [ms], what bounds it, and
    how near to that bound it runs. What layers do not say (activations, spectral norms, losses, optimisers) is the
    rest of the step.
    """
    device = store.device
    # a spectral norm is not the layer's own work
    state = TrainState.fresh(replace(config, nets=replace(config.nets, spectral_norm=False)), device)
    calls, layers = _calls(state, store)
    dtype = computing_dtype(config.precision, device)
    rate, bandwidth = peak_rate(device, dtype), peak_bandwidth(device)
    rows: list[Layer] = []
    for key, count in calls.items():
        call = layers[key]
        with autocast(config.precision, device):
            seconds, flop = _timed(call, device)
            with torch.no_grad():
                output = call.layer(call.example)
        size = sum(t.numel() for t in (call.example, output, *call.layer.parameters())) * dtype.itemsize
        moved = (1 + call.of_input + call.of_weights) * size  # read and written forwards, and for each gradient
        bound = max(flop / rate, moved / bandwidth)
        rows.append(
            {
                "layer": key,
                "calls": count,
                "gflop": round(count * flop / 1e9, 3),
                "gb": round(count * moved / 1e9, 4),
                "ms": round(count * seconds * 1e3, 3),
                "bound": "arithmetic" if flop / rate > moved / bandwidth else "bytes",
                "share_of_bound": round(bound / seconds, 3),
                "least_ms": round(count * bound * 1e3, 3),
            }
        )
    rows.sort(key=lambda row: -row["ms"])
    return {
        "peak_tflop_a_second": round(rate / 1e12, 3),
        "peak_gb_a_second": round(bandwidth / 1e9, 1),
        "precision": str(dtype).removeprefix("torch."),
        "step_ms": round(step_seconds * 1e3, 2),
        "layers_ms": round(sum(row["ms"] for row in rows), 2),
        "least_ms": round(sum(row["least_ms"] for row in rows), 2),
        "layers": rows,
    }


def peak_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Rate of a large product of matrices [operations a second]."""
    side = 8192 if device.type == "cuda" else 1024
    a = torch.randn(side, side, device=device).to(dtype)
    return 2 * side**3 / _seconds(lambda: a @ a, device)


def peak_bandwidth(device: torch.device) -> float:
    """Rate at which a large array is read and written [bytes a second]."""
    a = torch.empty(2**28, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    return 2 * a.numel() / _seconds(lambda: b.copy_(a), device)


class _Call(NamedTuple):
    """A layer as a step calls it."""

    layer: nn.Module
    example: Tensor
    of_input: bool
    """Whether the step needs a gradient of the input."""
    of_weights: bool

    def named(self) -> str:
        wanted = [name for name, is_wanted in (("input", self.of_input), ("weights", self.of_weights)) if is_wanted]
        shape = "x".join(map(str, self.example.shape))
        sizes = ", ".join(map(str, _sizes(self.layer)))
        return f"{type(self.layer).__name__}({sizes}) on {shape}, gradients: {' and '.join(wanted) or 'none'}"


def _calls(state: TrainState, store: ImageStore) -> tuple[Counter[str], dict[str, _Call]]:
    """How often one step calls each kind of layer, and one such call."""
    calls: Counter[str] = Counter()
    layers: dict[str, _Call] = {}
    nets = [m for player in (state.redrawer, state.discriminator) for m in player.modules()]
    within = {part for m in nets if isinstance(m, SelfAttention) for part in m.modules() if part is not m}

    def seen(layer: nn.Module, arguments: tuple[Tensor, ...], _: Tensor) -> None:
        (x,) = arguments
        learning = torch.is_grad_enabled()
        of_weights = learning and any(p.requires_grad for p in layer.parameters())
        call = _Call(layer, torch.randn_like(x), learning and x.requires_grad, of_weights)
        calls[call.named()] += 1
        layers.setdefault(call.named(), call)

    hooks = [m.register_forward_hook(seen) for m in nets if isinstance(m, LAYERS) and m not in within]
    try:
        with BatchLoader(store, state.config) as feed, autocast(state.config.precision, store.device):
            feed.begin(state.seed, 1)
            batch = feed.take()
            latents, chosen = batch.drawn.latents.to(store.device), batch.drawn.chosen.to(store.device)
            fakes = state.redrawer(batch.images, latents, chosen, state.discriminator)["fakes"]
            if state.config.objective.fresh_fakes:
                with torch.no_grad():
                    fakes = state.redrawer.redraw(batch.images, latents, chosen)[0]
            state.discriminator(batch.real, fakes)
    finally:
        for hook in hooks:
            hook.remove()
    return calls, layers


def _sizes(layer: nn.Module) -> list[Any]:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "in_features", "out_features", "num_features")
    found = [getattr(layer, name) for name in names if hasattr(layer, name)]
    return [value[0] if isinstance(value, tuple) else value for value in found]


def _timed(call: _Call, device: torch.device) -> tuple[float, int]:
    """Seconds and operations of a call, forwards and to the gradients that it wants."""
    layer = call.layer.requires_grad_(call.of_weights)
    x = call.example.detach().requires_grad_(call.of_input)
    learning = call.of_input or call.of_weights
    with torch.no_grad():
        gradient = torch.ones_like(layer(x))

    def once() -> None:
        x.grad = None
        layer.zero_grad()
        with torch.set_grad_enabled(learning):
            output = layer(x)
        if learning:
            output.backward(gradient)

    with FlopCounterMode(display=False) as counter:
        once()
    return _seconds(once, device), int(counter.get_total_flops())


def _seconds(work: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """The least time that the work took [seconds]."""
    times = []
    for _ in range(repeats + 1):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
