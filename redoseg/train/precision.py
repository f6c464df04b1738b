"""In which precision the layers compute; weights, losses and masks are float32 throughout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware: any recent GPU, a processor with AMX tiles."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return bool(_cpu_capabilities().get("amx_bf16", False))
    return False


def _cpu_capabilities() -> Mapping[str, Any]:
    """Empty where PyTorch is too old to tell."""
    return torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which both players compute; `auto` is bfloat16 where that is fast, else float32."""
    low = precision == "bfloat16" or (precision == "auto" and has_fast_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=low)
