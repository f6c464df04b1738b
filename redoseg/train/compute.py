"""How the networks compute: precision, memory layout, compilation. Weights, losses and masks are float32 throughout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from redoseg.config import Config, SpeedConfig
from redoseg.nets.blocks import PooledConv, RowsConv, UpsampledConv
from redoseg.pictures import reason


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


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which both players compute; `auto` is bfloat16 where that is fast, else float32."""
    low = precision == "bfloat16" or (precision == "auto" and has_fast_bfloat16(device))
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


def compiled(function: Callable[..., Any], mode: str, announce: Callable[[str], None]) -> Callable[..., Any]:
    """`function` as torch.compile makes it at its first call; itself where that fails, which is announced once.

    `mode` is torch.compile's, or "off".
    """
    if mode == "off":
        return function
    chosen = torch.compile(function, mode=mode, dynamic=False)
    proven = False

    def call(*arguments: Any) -> Any:
        nonlocal chosen, proven
        if proven:
            return chosen(*arguments)
        try:
            result = chosen(*arguments)
        except Exception as error:  # compilers fail in any way; what is wrong with the call itself fails again below
            result = function(*arguments)
            chosen = function
            announce(f"computing without torch.compile, which failed here: {reason(error)}")
        proven = True
        return result

    return call
