"""Training in several processes: the same run as in one, and the same end for all of them."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import distributed_job
import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from redoseg import run_folder, system
from redoseg.cli import main
from redoseg.config.recipe import differences, flat, to_values
from redoseg.config.schema import Config
from redoseg.errors import ConfigError, RunError
from redoseg.train import distributed, run
from redoseg.train.random_draws import RandomDraws
from redoseg.train.state import TrainState

Tiny = Callable[..., Config]
Start = Callable[..., subprocess.Popen[str]]
HERE = Path(__file__).parent
GUARD = 400  # seconds until something hangs: to start three processes takes a minute on a busy machine
# the command line without the export and the curves, which take seconds
QUICK = """
from redoseg.cli import main as cli
from redoseg.train import run
run.export_extractor = run.draw_curves = lambda *_, **__: None
cli.main()
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def both(start: Start, *command: str) -> list[tuple[int, str, str]]:
    """Exit codes, output and complaints of two processes that do this together; torchrun itself would take longer."""
    port = str(free_port())
    about = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    pair = [start(*command, env=os.environ | about | {"RANK": str(k), "LOCAL_RANK": str(k)}) for k in (0, 1)]
    said = [process.communicate(timeout=GUARD) for process in pair]
    return [(process.returncode, *texts) for process, texts in zip(pair, said, strict=True)]


def training(config: Config, folder: Path, *more: str) -> list[str]:
    """Arguments of the interpreter that train `config` in `folder`."""
    flags = []
    for name, value in flat(to_values(config)).items():
        table, _, key = name.replace("_", "-").rpartition(".")
        whole = f"{table}." if table else ""
        flags.append(
            f"--{whole}{'' if value else 'no-'}{key}" if isinstance(value, bool) else f"--{whole}{key}={value}"
        )
    return ["-m", "redoseg", "train", "shapes", *flags, "--out", str(folder), "--device", "cpu", *more]


def torchrun(start: Start, arguments: list[str], *more: str) -> subprocess.Popen[str]:
    more = more or ("--nproc-per-node=2", "--master-addr=127.0.0.1", f"--master-port={free_port()}")
    return start("-m", "torch.distributed.run", *more, *arguments)


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def wait_for_steps(folder: Path, steps: int, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + GUARD
    while time.monotonic() < until:
        if (folder / "log.jsonl").exists() and (folder / "log.jsonl").read_text().count("\n") >= steps:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("it does not get there")


def of_rank(process: subprocess.Popen[str], rank: int) -> int:
    """The number of the process that torchrun started as this rank."""
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    raise AssertionError("no such rank")


def ours(complaints: str) -> list[str]:
    """What redoseg, and not torchrun, complains of."""
    return [line for line in complaints.splitlines() if line.startswith("redoseg:")]


# -------------------------------------------------------------------------------------------- the same run

SETTINGS: list[dict[str, Any]] = [
    {},
    {"objective.redraw": "one", "objective.augment": True, "objective.latent_weight": 0.0},  # an encoder that is idle
    {
        "objective.self_redraw_weight": 5.0,
        "objective.self_redraw_colours": "whitened",
        "data.flip": True,
    },
    {
        "objective.redraw": "object",  # the other generators' drawings go nowhere
        "objective.augment": True,
        "objective.latent_from": "composites",
        "objective.adversarial": "bce",
        "nets.regions": 3,
    },
]


@pytest.mark.slow
@pytest.mark.usefixtures("own_vectors")
def test_two_ranks_of_half_a_batch_give_the_gradients_of_one(
    start: Start, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64. So are their losses, sizes, weights, spectral vectors and moving averages after two steps."""
    configs = [tiny(settings) for settings in SETTINGS]
    values = json.dumps([to_values(config) for config in configs])
    said = both(start, str(HERE / "distributed_job.py"), values, str(tmp_path / "two"))
    assert [code for code, _, _ in said] == [0, 0], said
    monkeypatch.setattr(torch.Tensor, "float", distributed_job.wide)
    one, two = distributed_job.several(configs), load_file(tmp_path / "two")
    assert one.keys() == two.keys()
    assert sum(".gradient." in name for name in one) > 500
    assert {t.dtype for t in one.values()} == {torch.float64}
    # Adam divides by a gradient's size: where that is rounding alone, processors differ by up to 1e-9 in the weights
    allowed = {name: 1e-9 if ".gradient." in name or ".loss." in name else 1e-8 for name in one}
    assert [name for name in one if not torch.allclose(one[name], two[name], rtol=1e-9, atol=allowed[name])] == []


def test_the_parts_make_up_the_batch() -> None:
    whole = RandomDraws(3, 50, 12, 3, 5).step(2)
    parts = [whole.part(rank, 4) for rank in range(4)]
    for name in ("redrawn", "real", "latents", "fresh_latents", "chosen"):
        assert np.array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))
    assert np.array_equal(np.concatenate([p.flips for p in parts], 1), whole.flips)
    # one change for each picture of the real batch, of each region's redrawn ones, and of those with moved objects
    batches = [p.changes.view(2, 5, 3, 5) for p in parts]
    assert torch.equal(torch.cat(batches, 2).flatten(1, 2), whole.changes)
    assert torch.equal(torch.cat([p.shifts for p in parts]), whole.shifts)
    assert whole.part(0, 1) is whole


@pytest.mark.slow
@pytest.mark.usefixtures("own_vectors")
def test_a_run_in_two_processes_is_that_run(
    start: Start, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It collapses and restarts like it, one process alone writes and prints, and one alone continues it."""
    settings = {
        "steps": 4,
        "watch.restarts": 1,
        "watch.collapse_share": 0.5,
        "watch.collapse_every": 2,
        "watch.collapse_until": 2,
        "watch.evaluate_every": 2,
        "data.evaluate_on": "shapes",
        "data.evaluate_pictures": 16,
    }
    config = tiny(settings)
    monkeypatch.setattr(run, "export_extractor", lambda *_, **__: None)
    said = both(start, "-c", QUICK, *training(config, tmp_path / "two")[2:])
    run.run(config, tmp_path / "one", False, "cpu", Console(file=io.StringIO()))
    assert [code for code, _, _ in said] == [1, 0], said  # 1: it ends collapsed, as such settings will have it
    assert "in 2 processes, with 2 pictures of each batch in each" in said[0][1]
    assert [complaints for _, _, complaints in said] == ["", ""]
    assert said[1][1] == ""
    assert (tmp_path / "one" / "config.json").read_text() == (tmp_path / "two" / "config.json").read_text()
    one, two = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    assert [(e["restarts"], e["step"]) for e in one] == [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3), (1, 4)]
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for key in a.keys() - {"seconds", "steps_per_s", "waited", "health"}:
            assert a[key] == pytest.approx(b[key], abs=2e-3), key
    resumed = run.run(tiny(settings | {"steps": 5}), tmp_path / "two", True, "cpu", Console(file=io.StringIO()))
    assert (resumed["step"], resumed["stopped"]) == (5, False)


# ------------------------------------------------------------------------------------------------ mistakes


def test_batches_that_cannot_be_shared_are_refused(tiny: Tiny) -> None:
    distributed.refuse_unshareable(tiny({"nets.norm": "batch", "batch": 5}), 1)
    distributed.refuse_unshareable(tiny({"batch": 6}), 3)
    with pytest.raises(RunError) as caught:
        distributed.refuse_unshareable(tiny({"batch": 5}), 4)
    assert str(caught.value) == (
        "4 processes cannot share a batch of 5 pictures equally; set --batch 8, or start another number of processes"
    )
    with pytest.raises(RunError, match=r"nets.norm batch does not work in 2 processes, since .*; train in one"):
        distributed.refuse_unshareable(tiny({"nets.norm": "batch"}), 2)


def test_other_verbs_are_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What a study starts would take torchrun's word for it that it belongs together."""
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert system.world() == system.WorldInfo(1, 2, 1, 2)
    with pytest.raises(ConfigError, match="study runs in one process, but 2 were started"):
        main.run_command(["study", "missing"])
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    assert main.run_command(["doctor"]) == 0
    assert not {*system.TORCHRUN, "MASTER_PORT"} & os.environ.keys()
    assert system.world() == system.WorldInfo(0, 1, 0, 1)


@pytest.mark.slow
def test_a_mistake_is_printed_once(start: Start, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for config, folder, expected in (
        (tiny(), "there", f"{tmp_path / 'there'} already exists; add --resume"),
        (tiny({"batch": 5}), "new", "2 processes cannot share a batch of 5 pictures equally"),
        (tiny({"data.source": str(tmp_path / "no")}), "new", "no"),
        (replace(tiny(), batch=0), "new", "batch is 0, but must be at least 1"),
    ):
        said = both(start, *training(config, tmp_path / folder))
        assert [code for code, _, _ in said] == [2, 0], said
        assert len(said[0][2].splitlines()) == 1
        assert expected in said[0][2]
        assert said[1][1:] == ("", "")
        assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_processes_that_would_not_do_the_same_are_refused(start: Start, tiny: Tiny, tmp_path: Path) -> None:
    """Two machines with other settings, or of which one does not see the run folder."""
    port = str(free_port())
    about = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    about |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    pair = [
        start(*training(tiny({"seed": k}), tmp_path / "run"), env=os.environ | about | {"RANK": str(k)}) for k in (0, 1)
    ]
    said = [process.communicate(timeout=GUARD) for process in pair]
    assert [process.returncode for process in pair] == [2, 0], said
    assert said[0][1] == (
        "redoseg: process 1 of 2: this process has seed: 1, but the first one has seed: 0; start the same command on "
        "every machine, with access to the same pictures and the same run folder\n"
    )


@pytest.mark.slow
def test_all_stop_where_a_loss_is_not_finite(start: Start, tiny: Tiny, tmp_path: Path) -> None:
    rates = {f"optim.{k}_rate": 1e30 for k in ("extractor", "generator", "encoder", "discriminator")}
    said = both(start, *training(tiny(rates), tmp_path / "run"))
    assert [code for code, _, _ in said] == [2, 0], said
    assert len(said[0][2].splitlines()) == 1
    assert "training has diverged" in said[0][2]
    assert said[1][1:] == ("", "")
    assert json.loads((tmp_path / "run" / "outcome.json").read_text())["health"] == "diverged"


# ------------------------------------------------------------------------------------------- stop and loss


@pytest.mark.slow
@pytest.mark.parametrize("who", ["0", "1", "all"])
def test_a_stop_asked_of_any_stops_all(who: str, start: Start, tiny: Tiny, tmp_path: Path) -> None:
    """At the same step, with the state saved. Of all: what Ctrl-C in a terminal does, torchrun repeating it."""
    folder = tmp_path / "run"
    process = torchrun(start, training(tiny({"steps": 100_000}), folder))
    wait_for_steps(folder, 3, process)
    if who == "all":
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(of_rank(process, int(who)), signal.SIGTERM)
    said, complained = process.communicate(timeout=GUARD)
    step = TrainState.load(folder / "state.safetensors", torch.device("cpu")).step
    assert step == log_of(folder)[-1]["step"]
    stopped = f"stopped by {'SIGTERM' if who == '0' else 'hand'}"  # which signal another rank got, the first cannot say
    assert f"{stopped} at step {step} of 100000" in said
    assert said.splitlines()[-1] == f"continue with: redoseg train --resume --out {folder}"
    assert said.count(stopped) == 1
    assert ours(complained) == []
    assert json.loads((folder / "outcome.json").read_text())["stopped"]


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_a_killed_process_ends_the_job_with_one_line(who: int, start: Start, tiny: Tiny, tmp_path: Path) -> None:
    """And nothing half written: the run resumes in two processes, and ends as one that nobody killed."""
    folder = tmp_path / "run"
    config = tiny({"steps": 100_000, "watch.checkpoint_every": 2})
    process = torchrun(start, training(config, folder))
    wait_for_steps(folder, 5, process)
    os.kill(of_rank(process, who), signal.SIGKILL)
    _, complained = process.communicate(timeout=GUARD)
    assert process.returncode != 0
    (line,) = ours(complained)
    assert line.startswith("redoseg: one of the 2 processes of this training has ended too early (")
    assert line.endswith(
        "); the last saved state is kept; read the output above for the reason, then run the same command with --resume"
    )
    step = TrainState.load(folder / "state.safetensors", torch.device("cpu")).step
    assert step >= 4
    assert not list(folder.rglob("*.tmp*"))

    ended = step + 2
    written = json.loads((folder / "config.json").read_text())
    written["config"]["steps"] = ended
    (folder / "config.json").write_text(json.dumps(written))
    shorter = tiny({"steps": ended, "watch.checkpoint_every": 2})
    again = torchrun(start, training(shorter, folder, "--resume"))
    said, complained = again.communicate(timeout=GUARD)
    assert again.returncode == 0, (said, complained)
    straight = both(start, *training(shorter, tmp_path / "straight"))
    assert [code for code, _, _ in straight] == [0, 0]
    a, b = (load_file(f / "state.safetensors") for f in (folder, tmp_path / "straight"))
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


# ------------------------------------------------------------------------------------------ second stage

STAGES = """
import os, signal, sys, time
from pathlib import Path
from redoseg.errors import DivergedError
from redoseg.train import distributed
def stages(finished, end):
    with distributed.process_group():
        distributed.leave()
        if not distributed.is_main():
            sys.exit(0 if finished.exists() else "the other process has not finished")
        assert distributed.world_size() == 1
        time.sleep(1)  # in which the other would end
        finished.touch()
        if end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise DivergedError("the second stage's loss is nan")
try:
    stages(Path(sys.argv[1]), sys.argv[2])
except distributed.RedosegError as error:
    sys.exit(f"redoseg: {error}")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("end", "codes"), [("diverged", [1, 0]), ("killed", [-signal.SIGKILL, 2])])
def test_the_others_wait_for_the_second_stage(end: str, codes: list[int], start: Start, tmp_path: Path) -> None:
    """Where they end before it, torchrun on their machine does too, and the job is lost."""
    said = both(start, "-c", STAGES, str(tmp_path / "finished"), end)
    assert [code for code, _, _ in said] == codes, said
    assert [ours(complaints) for _, _, complaints in said] == [
        ["redoseg: the second stage's loss is nan"] if end == "diverged" else [],
        [],  # the store, which says who speaks, has ended with the first
    ]


# ------------------------------------------------------------------------------------------- two machines


@pytest.mark.slow
def test_two_machines_and_a_second_stage(start: Start, tiny: Tiny, tmp_path: Path) -> None:
    """Two torchruns that meet at an address, and a second stage that the first process does alone."""
    folder = tmp_path / "run"
    config = tiny({"steps": 2, "refine.rounds": 1, "refine.steps": 20, "refine.batch": 4})
    meeting = f"--rdzv-endpoint=127.0.0.1:{free_port()}"
    machines = [
        torchrun(
            start,
            training(config, folder),
            "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=redoseg", "--local-addr=127.0.0.1",
            meeting,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=GUARD) for process in machines]
    assert [process.returncode for process in machines] == [0, 0], said
    assert sorted("finished" in out for out, _ in said) == [False, True]
    assert sorted(out == "" for out, _ in said) == [False, True]
    assert (folder / "refined.safetensors").exists()
    assert not differences(run_folder.RunFolder(folder).read_config(), config)
