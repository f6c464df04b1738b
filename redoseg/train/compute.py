"""How the networks compute: device, precision, memory layout, compilation.

Weights, losses and masks are float32 throughout.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from redoseg.config.schema import Config, SpeedConfig
from redoseg.errors import RunError
from redoseg.files import describe_error
from redoseg.nets.blocks import PooledConv, RowsConv, UpsampledConv


def pick_device(name: str) -> torch.device:
    """The device of this name; `auto` is cuda where there is one, else cpu. Raises RunError where it is missing."""
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if name == "auto":
        return torch.device("cuda" if "cuda" in available else "cpu")
    if name not in available:
        raise RunError(f"device {name} is not available here; choose --device {' or '.join(available)}")
    return torch.device(name)


class Adam(torch.optim.Adam):
    """PyTorch's, without its compiler: no optimiser here is compiled, and to import it takes longer than all the rest.

    `step` imports it, and the other methods are marked for it, for which a mark that is there already is enough. Where
    another version does it in another way, only the start is slower.
    """

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


for _name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
    _method = inspect.unwrap(getattr(torch.optim.Optimizer, _name))
    if not hasattr(_method, "__dynamo_disable"):
        setattr(_method, "__dynamo_disable", _method)


def describe_device(device: torch.device) -> str:
    """The name of the GPU's model, or the device's type."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware: any recent GPU, a processor with AMX or AVX512-BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return any(_cpu_capabilities().get(name, False) for name in ("amx_bf16", "avx512_bf16"))
    return False


def _cpu_capabilities() -> Mapping[str, Any]:
    """Empty where PyTorch is too old to tell."""
    return torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}


def computing_dtype(precision: str, device: torch.device) -> torch.dtype:
    """What layers compute in; `auto` is bfloat16 where that is fast, else float32."""
    low = precision == "bfloat16" or (precision == "auto" and has_fast_bfloat16(device))
    return torch.bfloat16 if low else torch.float32


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which both players compute."""
    low = computing_dtype(precision, device) is torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=low)


def memory_layout(speed: SpeedConfig) -> torch.memory_format:
    """How pictures and convolution weights lie in memory."""
    return torch.channels_last if speed.channels_last else torch.contiguous_format


def placed(net: nn.Module, config: Config, device: torch.device) -> Any:
    """The net on the device, set up to compute as the settings say."""
    for module in net.modules():
        if isinstance(module, UpsampledConv | PooledConv | RowsConv):
            module.rewritten = config.speed.rewrite_convs
    return net.to(device=device, memory_format=memory_layout(config.speed))  # type: ignore[call-overload]


def begin_step(mode: str, device: torch.device) -> None:
    """To be called before each step: CUDA graphs may then write over what the last step gave."""
    if device.type == "cuda" and mode in ("reduce-overhead", "max-autotune"):
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]


class Compiler:
    """Compiles players by torch.compile in this `mode`, or leaves them as they are where it is "off" or fails.

    A failure is announced once, and nothing is tried again after it.
    """

    def __init__(self, mode: str, announce: Callable[[str], None]) -> None:
        self.mode, self.announce = mode, announce

    def __call__(self, player: Callable[..., Any]) -> Callable[..., Any]:
        """The player, compiled at its first call."""
        chosen: Callable[..., Any] | None = None

        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal chosen
            if chosen is None:
                chosen = player if self.mode == "off" else self._proven(player, arguments, named)
            return chosen(*arguments, **named)

        return player if self.mode == "off" else call

    def _proven(
        self, player: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> Callable[..., Any]:
        """The compiled player, if it goes forwards and backwards on these arguments; else the player itself.

        Compilers make the backward pass only when it is asked for. The trial moves no weight; buffers, such as those
        of spectral norms, get their values back, and gradients are what each step clears anyway.
        """
        nets = [n for n in (getattr(player, "__self__", player), *arguments) if isinstance(n, nn.Module)]
        kept = [(buffer, buffer.clone()) for net in nets for buffer in net.buffers()]
        failure = ""
        try:
            fast = torch.compile(player, mode=self.mode, dynamic=False)
            result = fast(*arguments, **named)
            if isinstance(result, dict):
                total = result["total"]
                with torch.autocast(total.device.type, enabled=False):
                    total.backward()
        except Exception as error:  # compilers fail in any way
            failure = describe_error(error) or type(error).__name__
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
        if not failure:
            return fast
        self.mode = "off"
        self.announce(f"computing without torch.compile, which failed here: {failure}")
        return player
