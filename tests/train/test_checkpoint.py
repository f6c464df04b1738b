"""Checkpoints: bit for bit, whole or not at all, and never taken for something else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from redoseg.config.schema import Config
from redoseg.data import open_shapes
from redoseg.errors import DataError, ModelError
from redoseg.train import checkpoint
from redoseg.train.loader import ImageStore
from redoseg.train.loop import Hooks, train
from redoseg.train.state import TrainState

CPU = torch.device("cpu")
Tiny = Callable[..., Config]


def everything(state: TrainState) -> dict[str, Tensor]:
    return {
        **checkpoint.prefixed("redrawer", state.redrawer.state_dict()),
        **checkpoint.prefixed("critic", state.discriminator.state_dict()),
        **checkpoint.prefixed("average", state.average.nets.state_dict()),
        **checkpoint.prefixed("first", checkpoint.optimiser_tensors(state.redrawer_optimiser)),
        **checkpoint.prefixed("second", checkpoint.optimiser_tensors(state.discriminator_optimiser)),
    }


def advance(state: TrainState, config: Config) -> TrainState:
    pictures = open_shapes("shapes", config.data.size, regions=2, split="train", count=24)
    hooks = Hooks(log=lambda _: None, sample=lambda *_: None, save=lambda _: None, stop=lambda: False)
    state.config = config
    return train(state, ImageStore(pictures, config, CPU), None, hooks)


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


def test_round_trip_bit_for_bit_and_on(tiny: Tiny, tmp_path: Path) -> None:
    straight = advance(TrainState.fresh(tiny(), CPU), tiny({"steps": 2}))
    straight.save(tmp_path / "state.safetensors")
    loaded = TrainState.load(tmp_path / "state.safetensors", CPU)
    assert (loaded.step, loaded.restarts, loaded.config) == (2, 0, tiny({"steps": 2}))
    tensors = everything(straight)
    assert any(name.startswith("first.") and name.endswith("exp_avg_sq") for name in tensors)
    assert_same(tensors, everything(loaded))
    # the same bits are not enough: the next updates must be the same too
    assert_same(everything(advance(straight, tiny({"steps": 5}))), everything(advance(loaded, tiny({"steps": 5}))))


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\xff" * 100, b"\x00" * 64])
def test_garbage(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read") as caught:
        TrainState.load(path, CPU)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path} cannot be read as a checkpoint (")
    assert str(caught.value).endswith("; choose a run folder made by `redoseg train`")


def test_cut_short(tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    TrainState.fresh(tiny(), CPU).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot be read"):
        TrainState.load(path, CPU)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        TrainState.load(tmp_path / "none", CPU)


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        (None, "is not a checkpoint of redoseg"),
        ({"redoseg": '{"format": 99}'}, "format 99"),
        ({"redoseg": "[1]"}, "is not a checkpoint of redoseg"),
        ({"redoseg": "{"}, "cannot be read"),
    ],
)
def test_safetensors_of_someone_else(metadata: dict[str, str] | None, found: str, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"w": torch.zeros(3)}, path, metadata)
    with pytest.raises(ModelError, match=found) as caught:
        TrainState.load(path, CPU)
    assert "\n" not in str(caught.value)


def test_weights_of_other_networks(tiny: Tiny, tmp_path: Path) -> None:
    state = TrainState.fresh(tiny({"nets.extractor_width": 6}), CPU)
    state.config = tiny()
    path = tmp_path / "state.safetensors"
    state.save(path)
    with pytest.raises(ModelError, match="do not fit the networks") as caught:
        TrainState.load(path, CPU)
    assert "\n" not in str(caught.value)
    assert "choose a run folder whose files were made together" in str(caught.value)


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failed_write_leaves_the_old_file(
    broken: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.safetensors"
    state = TrainState.fresh(tiny(), CPU)
    state.save(path)
    before = path.read_bytes()
    state.step = 77
    with monkeypatch.context() as patch:
        patch.setattr(os, broken, full_disk)
        with pytest.raises(DataError, match="No space left on device") as caught:
            state.save(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # nothing half-written lies about
    state.save(path)
    assert TrainState.load(path, CPU).step == 77


def test_parts_and_prefixes_are_inverse() -> None:
    state = {"a.b": torch.ones(1), "c": torch.zeros(2)}
    assert checkpoint.part("x", {**checkpoint.prefixed("x", state), "xy.a": torch.ones(1)}) == state
