"""Tensors and their description in one safetensors file, written so that a kill leaves the old or the new one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor, nn

from redoseg.errors import ModelError
from redoseg.files import describe_error, printable, write_atomic

FORMAT = 1


class Saved(TypedDict):
    """What a run's checkpoints say beside their tensors."""

    config: dict[str, Any]
    step: NotRequired[int]
    """Not in the second stage's."""
    restarts: int


def save_checkpoint(path: Path, tensors: dict[str, Tensor], about: Mapping[str, object]) -> None:
    """Write `tensors` and the JSON-able `about` to `path`, whole or not at all."""
    described = {"redoseg": json.dumps({"format": FORMAT, **about})}
    write_atomic(path, save({k: v.detach().cpu().contiguous().numpy() for k, v in tensors.items()}, described))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and the description of a checkpoint; ModelError where `path` is not one."""
    remedy = "choose a run folder made by `redoseg train`"
    try:
        if path.exists() and not path.is_file():  # a FIFO is never waited for
            raise OSError("not a file")
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("redoseg", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{printable(path)} cannot be read as a checkpoint ({describe_error(error)}); {remedy}"
        ) from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = "not a checkpoint of redoseg" if not isinstance(about, dict) else f"of format {about.get('format')}"
        raise ModelError(f"{path} is {found}, but must be of format {FORMAT}; {remedy}")
    return tensors, about


def load_saved(path: Path) -> tuple[dict[str, Tensor], Saved]:
    """`load_checkpoint` of a run's file, which also has the run's settings."""
    tensors, about = load_checkpoint(path)
    if not isinstance(about.get("config"), dict):
        raise ModelError(
            f"{path} has weights, but not the settings of a run; choose a run folder made by `redoseg train`"
        )
    return tensors, cast(Saved, about)


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """{"a": t} -> {"prefix.a": t}."""
    return {f"{prefix}.{key}": tensor for key, tensor in state.items()}


def part(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `prefixed`."""
    return {k.removeprefix(f"{prefix}."): t for k, t in tensors.items() if k.startswith(f"{prefix}.")}


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's state as flat tensors, `parameter number.name`."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": value for number, entry in state.items() for name, value in entry.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave; rates stay those of the settings."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, name = key.split(".", 1)
        like = parameters[int(number)]
        if tensor.shape == like.shape:
            # fused Adam walks through memory: its moments must lie as their parameter does (channels last)
            tensor = torch.empty_like(like, memory_format=torch.preserve_format).copy_(tensor)
        state.setdefault(int(number), {})[name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def restore(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load a module's state; ModelError where names or shapes differ from the settings'."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        seen = " ".join(str(error).split())[:200]
        raise ModelError(
            f"the weights in {path} do not fit the networks that its settings describe ({seen}); choose a run folder "
            "whose files were made together"
        ) from None
