"""How the networks compute: which precision is fast, and compilation with its fall-back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from redoseg.config.recipe import to_values
from redoseg.config.schema import Config
from redoseg.data import open_shapes
from redoseg.train import compute
from redoseg.train.compute import Compiler, autocast, has_fast_bfloat16
from redoseg.train.loader import ImageStore
from redoseg.train.loop import Hooks, train
from redoseg.train.state import TrainState

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("seen", "fast"),
    [
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_f": True}, False),
        ({}, False),
    ],
)
def test_processors_that_multiply_bfloat16(seen: dict[str, bool], fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "_cpu_capabilities", lambda: seen)
    assert has_fast_bfloat16(CPU) is fast
    x = torch.ones(2, 2)
    for precision, dtype in (("auto", torch.bfloat16 if fast else torch.float32), ("float32", torch.float32)):
        with autocast(precision, CPU):
            assert (x @ x).dtype == dtype


def test_an_optimiser_does_not_import_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # to import it is an error from here on
    plain, other = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimiser, theirs = compute.Adam([plain], lr=0.1), compute.Adam([other], lr=0.1)
    for parameter in (plain, other):
        parameter.grad = torch.tensor([1.0, -2.0, 0.5])
    optimiser.zero_grad(set_to_none=False)
    plain.grad = torch.tensor([1.0, -2.0, 0.5])
    optimiser.step()
    theirs.load_state_dict(optimiser.state_dict())
    assert plain.tolist() == pytest.approx([0.9, 1.1, 0.9])  # Adam's first step is as long as the rate
    assert plain.grad_fn is None


def test_off_is_the_player_itself() -> None:
    said: list[str] = []
    assert Compiler("off", said.append)(abs) is abs
    assert said == []


def broken(*_: Any, **__: Any) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no C++ compiler\nfound")

    return call


def missing(*_: Any, **__: Any) -> Callable[..., Any]:
    raise RuntimeError("torch.compile is not for this Python")


def broken_backwards(player: Callable[..., Any], **__: Any) -> Callable[..., Any]:
    """Compilers make the backward pass when it is asked for, so that is where they may fail."""

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(_: Any, *__: Any) -> Any:
            raise RuntimeError("no backward pass")

    def call(*arguments: Any, **named: Any) -> Any:
        result = player(*arguments, **named)
        return result | {"total": Fails.apply(result["total"])} if isinstance(result, dict) else result

    return call


def test_a_compiler_that_fails_is_announced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Any] = []

    def counted(player: Any, **_: Any) -> Any:
        tried.append(player)
        return broken()

    monkeypatch.setattr(torch, "compile", counted)
    said: list[str] = []
    compiler = Compiler("default", said.append)
    add, double = compiler(lambda a, b: a + b), compiler(lambda a: 2 * a)
    assert [add(1, 2), add(3, 4), double(4)] == [3, 7, 8]
    assert said == ["computing without torch.compile, which failed here: no C++ compiler found"]
    assert len(tried) == 1


def test_a_mistake_in_the_call_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda player, **_: player)
    with pytest.raises(ZeroDivisionError):
        Compiler("default", lambda _: None)(lambda a: 1 / a)(0)


def trained(config: Config, said: list[str]) -> list[torch.Tensor]:
    pictures = open_shapes("shapes", config.data.size, regions=2, split="train", count=config.data.pictures)
    hooks = Hooks(lambda _: None, lambda *_: None, lambda _: None, stop=lambda: False, say=said.append)
    state = train(TrainState.fresh(config, CPU), ImageStore(pictures, config, CPU), None, hooks)
    return [p.detach() for p in state.redrawer.parameters()]


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("failing", "why"),
    [
        (broken, "no C++ compiler found"),
        (missing, "torch.compile is not for this Python"),
        (broken_backwards, "no backward pass"),
    ],
)
def test_training_continues_without_the_compiler(
    failing: Callable[..., Any], why: str, tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny({"steps": 2})
    plain = trained(config, [])
    monkeypatch.setattr(torch, "compile", failing)
    said: list[str] = []
    fallen_back = trained(replace(config, speed=replace(config.speed, compile="default")), said)
    assert said == [f"computing without torch.compile, which failed here: {why}"]
    assert all(torch.equal(a, b) for a, b in zip(plain, fallen_back, strict=True))


def test_trying_a_compiler_changes_nothing_and_is_done_once(
    tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny({"steps": 3, "objective.centre_weight": 5.0, "objective.centre_steps": 2})
    plain = trained(config, [])
    made: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda player, **_: made.append(player) or player)
    ours = trained(replace(config, speed=replace(config.speed, compile="default")), [])
    assert all(torch.equal(a, b) for a, b in zip(plain, ours, strict=True))  # spectral vectors were put back
    assert len(made) == 3  # both players and what redraws


def test_what_the_players_are_given_keeps_its_kind(tiny: Callable[..., Config]) -> None:
    """A pull that is gone must not become None, for which compiled players would be compiled again."""
    state = TrainState.fresh(tiny({"objective.centre_weight": 5.0, "objective.centre_steps": 2}), CPU)
    assert [pull.item() for step in (1, 2, 9) if (pull := state.redrawer.centre_pull(step)) is not None] == [2.5, 0, 0]
    assert TrainState.fresh(tiny(), CPU).redrawer.centre_pull(1) is None


# A break in the graph would be an error. The compiler cannot look through the checks of shapes that the tests put on
# every function, so this is a process of its own.
TRACED = """
import json, sys, torch
from redoseg.data import open_shapes
from redoseg.config.recipe import to_values
from redoseg.config.recipe import from_values
from redoseg.train.loader import ImageStore
from redoseg.train.loop import Hooks, train
from redoseg.train.state import TrainState

torch.set_num_threads(1)
whole = torch.compile
torch.compile = lambda f, mode, dynamic: whole(f, backend=sys.argv[2], fullgraph=True, dynamic=dynamic)
found, said = [], []
for mode in ("off", "default"):
    config = from_values(json.loads(sys.argv[1]) | {"speed": {"compile": mode}}, "test")
    pictures = open_shapes("shapes", config.data.size, split="train", count=config.data.pictures)
    cpu = torch.device("cpu")
    losses = []
    found.append(losses)
    hooks = Hooks(losses.append, lambda *_: None, lambda _: None, stop=lambda: False, say=said.append)
    train(TrainState.fresh(config, cpu), ImageStore(pictures, config, cpu), None, hooks)
names = ("redrawer", "latent", "self_redraw", "grey", "critic_real", "critic_fake")
print(json.dumps([said, [[entry[name] for entry in losses for name in names] for losses in found]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective",
    [
        {"self_redraw_colours": "whitened"},
        {"adversarial": "bce", "augment": True, "latent_from": "composites"},
    ],
)
@pytest.mark.parametrize(
    "backend",
    [
        "aot_eager",  # the trace and its backward pass, without C++
        pytest.param("inductor", marks=pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")),
    ],
)
def test_compiled_players_trace_whole_and_train_alike(
    backend: str, objective: dict[str, Any], tiny: Callable[..., Config]
) -> None:
    settings = {"steps": 2, "objective.self_redraw_weight": 5.0, "objective.centre_weight": 1.0}
    settings |= {f"objective.{name}": value for name, value in objective.items()}
    values = json.dumps(to_values(tiny(settings)))
    said = subprocess.run([sys.executable, "-c", TRACED, values, backend], capture_output=True, text=True, check=True)
    complaints, (plain, ours) = json.loads(said.stdout)
    assert complaints == []
    assert len(set(plain)) > 6
    assert ours == pytest.approx(plain, rel=1e-3, abs=1e-4)
