"""Runs as a whole: stop, resume, collapse, failure, and what a run folder holds."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from redoseg import run_folder, signals
from redoseg.config.recipe import to_values
from redoseg.config.schema import Config, WatchConfig
from redoseg.data import open_data
from redoseg.errors import DataError, RunError
from redoseg.evaluation.evaluate import evaluate
from redoseg.inference.segmenter import Segmenter
from redoseg.train import health, loader, loop, run
from redoseg.train.loader import ImageStore
from redoseg.train.measure import soft_masks
from redoseg.train.state import TrainState

Tiny = Callable[..., Config]
Outcome = dict[str, Any]
Quick = Callable[..., Outcome]
Start = Callable[..., subprocess.Popen[str]]
TIMES = ("seconds", "steps_per_s")


def export_nothing(patch: pytest.MonkeyPatch) -> None:
    for name in ("export_extractor", "export_redrawer"):
        patch.setattr(run, name, lambda *_, **__: None)


@pytest.fixture(scope="module")
def six_steps(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps in one go, which nobody changes."""
    folder = tmp_path_factory.mktemp("six") / "run"
    with pytest.MonkeyPatch.context() as patch:
        export_nothing(patch)
        run.run(tiny({"steps": 6}), folder, False, "cpu", Console(file=io.StringIO()))
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Quick:
    """`run.run` without exports; returns the outcome and what was said."""
    export_nothing(monkeypatch)

    def go(config: Config, folder: Path, resume: bool = False) -> Outcome:
        said = io.StringIO()
        outcome = run.run(config, folder, resume, "cpu", Console(file=said, width=500))
        return outcome | {"said": said.getvalue()}

    return go


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines(keepends=True) if line[-1] == "\n"
    ]


def assert_same_run(a: Path, b: Path) -> None:
    """Weights, optimisers and losses, bit for bit."""
    first, second = load_file(a / "state.safetensors"), load_file(b / "state.safetensors")
    assert first.keys() == second.keys()
    assert [k for k in first if not torch.equal(first[k], second[k])] == []
    logs = [{e["step"]: {k: v for k, v in e.items() if k not in TIMES} for e in log_of(folder)} for folder in (a, b)]
    assert len(logs[0]) == len(log_of(a))
    assert logs[0].keys() == logs[1].keys()
    losses = ("redrawer", "latent", "critic_real", "critic_fake", "sizes", "grey")
    for step, entry in logs[0].items():
        assert {k: entry[k] for k in losses} == {k: logs[1][step][k] for k in losses}


def process(start: Start, config: Config, folder: Path) -> subprocess.Popen[str]:
    """The command line, training `config` in `folder`, in a process of its own."""
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in to_values(config).items() if not isinstance(v, dict)]
    for table, values in to_values(config).items():
        if isinstance(values, dict):
            for key, value in values.items():
                name = f"{table}.{key}".replace("_", "-")
                if isinstance(value, bool):
                    table_, _, key_ = name.partition(".")
                    flags.append(f"--{name}" if value else f"--{table_}.no-{key_}")
                else:
                    flags.append(f"--{name}={value}")
    return start("-m", "redoseg", "train", "shapes", *flags, "--out", folder, "--device", "cpu")


def wait_for(done: Callable[[], bool], training: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if done() or training.poll() is not None:
            break
        time.sleep(0.05)
    assert done(), training.communicate(timeout=60)


# ------------------------------------------------------------------------------------------- the run folder


def test_the_run_folder_explains_itself(trained: Any) -> None:
    folder = trained.folder
    there = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert there == [
        "config.json",
        "curves.png",
        "log.jsonl",
        "mask.onnx",
        "outcome.json",
        "redraw.onnx",
        "report.md",
        "samples/0-000006.png",
        "samples/0-000012.png",
        "samples/last.png",
        "state.safetensors",
    ]
    assert run_folder.RunFolder(folder).read_config() == trained.config
    about = json.loads((folder / "config.json").read_text())
    assert about["trained_on"] == {"name": "shapes", "pictures": 24, "size": 32}
    assert about["made_with"]["torch"] == torch.__version__
    # picture, object mask, two regions redrawn, truth; 8 pictures
    for name in ("0-000012", "last"):
        with Image.open(folder / f"samples/{name}.png") as sheet:
            width, height = sheet.size
        assert width / height == pytest.approx(8 / 5, abs=0.01)
    with Image.open(folder / "curves.png") as curves:
        curves.verify()


def test_the_log_has_every_figure(trained: Any) -> None:
    entries = log_of(trained.folder)
    assert [e["step"] for e in entries] == list(range(1, 13))
    losses = {"redrawer", "latent", "grey", "critic_real", "critic_fake"}
    always = {"step", "pictures", "restarts", "seconds", "steps_per_s", "sizes"} | losses
    for entry in entries:
        assert always <= entry.keys()
        assert entry["pictures"] == 4 * entry["step"]
        assert sum(entry["sizes"]) == pytest.approx(1, abs=1e-3)
        assert all(math.isfinite(entry[k]) for k in losses)
        scored = entry["step"] in (6, 12)
        assert ({"iou", "accuracy", "average_sizes", "watched_sizes"} <= entry.keys()) == scored
        assert ("object_region" in entry) == scored
    assert entries[-1]["iou"] == pytest.approx(trained.outcome["scores"]["iou"], abs=1e-4)


def test_the_report_says_how_it_ended(trained: Any) -> None:
    report = (trained.folder / "report.md").read_text()
    assert "- Ended: finished, 12 steps of 4 pictures" in report
    assert f"| pixel accuracy | {trained.outcome['scores']['accuracy']:.4f} |" in report
    assert "![samples](samples/last.png)" in report
    assert "| nets.extractor_width | 4 |" in report


def test_onnx_gives_the_masks_of_the_moving_average(trained: Any, photos: Path) -> None:
    pictures = open_data(photos, 32)
    state = TrainState.load(trained.folder / "state.safetensors", torch.device("cpu"))
    store = ImageStore(pictures, trained.config, torch.device("cpu"))
    everything = np.arange(len(pictures))
    expected = soft_masks(state.average.nets["extractor"], store, everything)
    segmenter = Segmenter(trained.folder, edges="plain")
    got = segmenter.batch(np.asarray(pictures.pixels))
    assert np.abs(got - expected).max() < 1e-4
    assert np.abs(got[:5] - segmenter.batch(np.asarray(pictures.pixels)[:5])).max() < 1e-5  # any batch
    # and not those of the networks that the average follows
    present = soft_masks(state.redrawer.extractor, store, everything)
    assert np.abs(present - expected).max() > 1e-3
    assert segmenter.object_region == trained.outcome["object_region"]
    assert segmenter.name == "tiny"


def test_evaluate_agrees_with_the_trainings_last_score(trained: Any, photos: Path) -> None:
    result = evaluate(str(trained.folder), str(photos), methods=(), size=32)
    for key, value in trained.outcome["scores"].items():
        assert result[key] == pytest.approx(value, abs=2e-3)
    assert result["pictures"] == 12
    assert set(result["beside"]) == {"mean mask", "centred disc"}


# ------------------------------------------------------------------------------------------ stop and resume


def test_resumed_equals_straight(quick: Quick, tiny: Tiny, photos: Path, tmp_path: Path) -> None:
    settings = {"data.flip": True, "data.evaluate_on": str(photos), "watch.evaluate_every": 3}
    straight = quick(tiny({"steps": 6, **settings}), tmp_path / "straight")
    quick(tiny({"steps": 3, **settings}), tmp_path / "parts")
    resumed = quick(tiny({"steps": 6, **settings}), tmp_path / "parts", resume=True)  # more steps are allowed
    assert_same_run(tmp_path / "straight", tmp_path / "parts")
    assert resumed["scores"] == straight["scores"]
    assert run_folder.RunFolder(tmp_path / "parts").read_config().steps == 6


def test_ctrl_c_ends_the_step_and_writes_everything(
    six_steps: Path, quick: Quick, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny({"steps": 6, "watch.checkpoint_every": 100})
    append = run_folder.RunLog.append

    def append_and_interrupt(log: run_folder.RunLog, entry: run_folder.Entry) -> None:
        append(log, entry)
        if entry["step"] == 4:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(run_folder.RunLog, "append", append_and_interrupt)
        outcome = quick(config, tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before
    assert outcome["stopped"]
    assert outcome["step"] == 4
    assert "stopped by hand at step 4 of 6" in (tmp_path / "run" / "report.md").read_text()
    finished = quick(config, tmp_path / "run", resume=True)
    assert (finished["stopped"], finished["step"]) == (False, 6)
    assert_same_run(six_steps, tmp_path / "run")


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_a_signal_that_was_ignored_from_the_start_still_is(
    name: str, quick: Quick, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a background job, and under nohup."""
    number = getattr(signal, name)
    monkeypatch.setattr(run_folder.RunLog, "append", lambda *_: signal.raise_signal(number))
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with signals.as_ctrl_c():  # as the command line has it
            outcome = quick(tiny({"steps": 2}), tmp_path / "run")
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert (outcome["stopped"], outcome["step"]) == (False, 2)


@pytest.mark.slow
@pytest.mark.usefixtures("own_vectors")
def test_resumed_after_a_kill_equals_straight(start: Start, quick: Quick, tiny: Tiny, tmp_path: Path) -> None:
    long = tiny({"steps": 100_000, "watch.checkpoint_every": 2})
    folder = tmp_path / "killed"
    training = process(start, long, folder)
    wait_for(lambda: (folder / "log.jsonl").exists() and len(log_of(folder)) > 3, training)
    training.kill()
    training.communicate(timeout=60)
    assert not (folder / "report.md").exists()
    step = TrainState.load(folder / "state.safetensors", torch.device("cpu")).step
    assert step >= 2
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"step": 1')  # a line that the kill cut short
    # the run was meant to be longer; a straight one ends two steps after the checkpoint
    written = json.loads((folder / "config.json").read_text())
    written["config"]["steps"] = step + 2
    (folder / "config.json").write_text(json.dumps(written))
    config = tiny({"steps": step + 2, "watch.checkpoint_every": 2})
    assert not quick(config, folder, resume=True)["stopped"]
    quick(config, tmp_path / "straight")
    assert_same_run(tmp_path / "straight", folder)


@pytest.fixture(scope="module")
def two_and_three_steps(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of two steps, which tests copy, and one of three."""
    folder = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as patch:
        export_nothing(patch)
        for steps in (2, 3):
            run.run(tiny({"steps": steps}), folder / str(steps), False, "cpu", Console(file=io.StringIO()))
    return folder / "2", folder / "3"


SPOILT = [pytest.param(tail, marks=pytest.mark.slow) for tail in (b"", b'{"step": 3', b"\0\0\0\0\n")]


@pytest.mark.every(3)
@pytest.mark.parametrize("tail", [None, b'{"step": \xff\xfe\n', *SPOILT])
def test_resumed_with_a_damaged_log(
    tail: bytes | None, two_and_three_steps: tuple[Path, Path], quick: Quick, tiny: Tiny, tmp_path: Path
) -> None:
    """Emptied, or with a last line that a power cut spoilt: the log starts or continues from there."""
    (two, straight), folder = two_and_three_steps, tmp_path / "run"
    shutil.copytree(two, folder)
    whole = (folder / "log.jsonl").read_bytes()
    (folder / "log.jsonl").write_bytes(b"" if tail is None else whole + tail)
    outcome = quick(tiny({"steps": 3}), folder, resume=True)
    assert (outcome["step"], outcome["stopped"]) == (3, False)
    assert [e["step"] for e in log_of(folder)] == ([3] if tail is None else [1, 2, 3])
    a, b = (load_file(f / "state.safetensors") for f in (straight, folder))
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


def test_a_finished_run_with_an_emptied_log(six_steps: Path, quick: Quick, tiny: Tiny, tmp_path: Path) -> None:
    shutil.copytree(six_steps, tmp_path / "run")
    (tmp_path / "run" / "log.jsonl").write_bytes(b"")
    assert quick(tiny({"steps": 6}), tmp_path / "run", resume=True)["step"] == 6


@pytest.mark.slow
def test_ctrl_c_from_the_terminal(start: Start, tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    training = process(start, tiny({"steps": 100_000}), folder)
    wait_for(lambda: (folder / "log.jsonl").exists(), training)
    training.send_signal(signal.SIGINT)
    said, complained = training.communicate(timeout=120)
    assert training.returncode == 130, (said, complained)
    for name in (
        "state.safetensors",
        "mask.onnx",
        "redraw.onnx",
        "report.md",
        "curves.png",
        "log.jsonl",
        "config.json",
    ):
        assert (folder / name).stat().st_size > 100
    assert said.splitlines()[-1] == f"continue with: redoseg train --resume --out {folder}"
    assert "stopped by hand at step" in said
    assert complained == ""
    assert Segmenter(folder).size == 16


def test_changed_settings_are_refused_with_the_differences(
    six_steps: Path, quick: Quick, tiny: Tiny, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(six_steps, folder)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    changed = tiny({"steps": 7, "optim.beta1": 0.5, "objective.redraw": "one"})
    with pytest.raises(RunError) as caught:
        quick(changed, folder, resume=True)
    assert str(caught.value) == (
        f"{folder} was trained with other settings (objective.redraw: each -> one; optim.beta1: 0.0 -> 0.5); "
        "keep the settings that it has, or start a new run without --resume"
    )
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_fewer_steps_are_refused(six_steps: Path, quick: Quick, tiny: Tiny, tmp_path: Path) -> None:
    shutil.copytree(six_steps, tmp_path / "run")
    with pytest.raises(RunError, match="was started for 6 steps, but --steps is 5"):
        quick(tiny({"steps": 5}), tmp_path / "run", resume=True)


def test_an_existing_folder_is_refused(quick: Quick, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError) as caught:
        quick(tiny(), tmp_path / "run")
    assert str(caught.value) == (
        f"{tmp_path / 'run'} already exists; add --resume to continue it, or choose another --out"
    )
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("content", [None, "{", "[]", '{"config": 3}'])
def test_resuming_what_is_no_run(content: str | None, quick: Quick, tiny: Tiny, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(RunError, match=r"is not a run folder\. Expected a folder made by `redoseg train`"):
        quick(tiny(), tmp_path, resume=True)


def test_bad_pictures_leave_no_run_folder(quick: Quick, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for settings in ({"data.source": str(tmp_path / "empty")}, {"data.evaluate_on": str(tmp_path / "no")}):
        with pytest.raises(DataError):
            quick(tiny(settings), tmp_path / "run")
        assert not (tmp_path / "run").exists()


# --------------------------------------------------------------------------------------- labels do not steer


@pytest.mark.slow
def test_a_sample_grid_shows_the_region_that_is_the_object_then(
    quick: Quick, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []
    monkeypatch.setattr(run.Run, "_sample", lambda _, state, region: shown.append(region))
    monkeypatch.setattr("redoseg.metrics.object_region", lambda masks: 1)
    quick(tiny({"watch.sample_every": 4, "watch.evaluate_every": 6}), tmp_path / "run")
    assert shown == [1, 1, 1]


@pytest.mark.slow
def test_without_masks_the_weights_are_the_same(quick: Quick, tiny: Tiny, photos: Path, tmp_path: Path) -> None:
    for name in ("with", "without"):
        shutil.copytree(photos / "images", tmp_path / name / "images")
    shutil.copytree(photos / "masks", tmp_path / "with" / "masks")
    watched = {"data.evaluate_on": str(tmp_path / "with"), "watch.evaluate_every": 1}
    runs = {}
    for name, settings in (("with", watched), ("without", {})):
        config = tiny({"steps": 3, "data.source": str(tmp_path / name), "data.split": "", **settings})
        runs[name] = quick(config, tmp_path / f"run-{name}")
    assert_same_run(tmp_path / "run-with", tmp_path / "run-without")
    assert runs["with"]["object_region"] == runs["without"]["object_region"]
    assert "scores" in runs["with"]
    assert "scores" not in runs["without"]


@pytest.mark.slow
def test_watched_pictures_without_masks(quick: Quick, tiny: Tiny, photos: Path, tmp_path: Path) -> None:
    """Their sizes are watched, also for collapse; with or without the masks the run is the same."""
    watched = tmp_path / "watched"
    shutil.copytree(photos, watched)
    settings = {"steps": 4, "data.evaluate_on": str(watched), "watch.evaluate_every": 2}
    settings |= {"watch.collapse_share": 0.5, "watch.collapse_every": 2, "watch.restarts": 1}
    labelled = quick(tiny(settings), tmp_path / "with")
    shutil.rmtree(watched / "masks")
    plain = quick(tiny(settings), tmp_path / "without")
    a, b = (load_file(tmp_path / name / "state.safetensors") for name in ("with", "without"))
    assert [k for k in a if not torch.equal(a[k], b[k])] == []
    assert labelled.keys() - plain.keys() == {"scores"}
    same = plain.keys() - {"said"}
    assert {k: plain[k] for k in same} == {k: labelled[k] for k in same}
    assert plain["restarts"] == 1  # known from sizes alone
    looked = [e for e in log_of(tmp_path / "without") if "object_region" in e]
    assert [e["step"] for e in looked] == [2, 2, 4]
    for entry in looked:
        assert sum(entry["watched_sizes"]) == pytest.approx(1, abs=1e-3)
        assert not {"iou", "accuracy", "iou_oracle_flip"} & entry.keys()
    assert "## Scores" in (tmp_path / "with" / "report.md").read_text()
    assert "## Scores" not in (tmp_path / "without" / "report.md").read_text()


# ------------------------------------------------------------------------------------- collapse and failure


def test_collapsed_region() -> None:
    watch = WatchConfig(collapse_share=0.1)
    assert health.collapsed_region(watch, [0.5, 0.5]) is None
    assert health.collapsed_region(watch, [0.95, 0.05]) == 1
    assert health.collapsed_region(watch, [0.05, 0.95], [0.02, 0.98]) == 0
    assert health.collapsed_region(watch, [0.05, 0.95], [0.2, 0.8]) is None  # not on both
    assert health.collapsed_region(watch, [0.1, 0.9]) is None
    assert health.collapsed_region(watch, [0.5, 0.45, 0.05]) == 2


@pytest.mark.parametrize("regions", [2, 3, 4, 5])
def test_the_least_share_is_that_of_two_regions_shared_by_all(regions: int) -> None:
    watch = WatchConfig(collapse_share=0.2)
    least = health.least_share(watch, regions)
    assert least * regions == pytest.approx(0.4)
    for share, region in ((least - 0.01, regions - 1), (least + 0.01, None)):
        rest = [(1 - share) / (regions - 1)] * (regions - 1)
        assert health.collapsed_region(watch, [*rest, share]) == region


def test_when_collapse_is_looked_for() -> None:
    watch = WatchConfig(collapse_every=5, collapse_until=12)
    assert [step for step in range(1, 30) if health.looks_due(step, watch)] == [5, 10]


def test_a_collapsed_run_starts_again_once(quick: Quick, tiny: Tiny, tmp_path: Path) -> None:
    settings = {
        "steps": 4,
        "watch.collapse_share": 0.5,  # any uneven division counts
        "watch.collapse_every": 2,
        "watch.restarts": 1,
    }
    outcome = quick(tiny(settings), tmp_path / "run")
    assert outcome["restarts"] == 1
    assert outcome["collapsed"]
    entries = log_of(tmp_path / "run")
    assert [(e["restarts"], e["step"], "collapsed" in e) for e in entries] == [
        (0, 1, False),
        (0, 2, True),
        (1, 1, False),
        (1, 2, True),
        (1, 3, False),
        (1, 4, True),
    ]
    assert entries[0]["redrawer"] != entries[2]["redrawer"]  # another seed
    said = [line for line in outcome["said"].splitlines() if line.startswith("collapsed")]
    assert len(said) == 3
    assert "% of the pictures, less than 50 %" in said[0]
    assert said[1].endswith("continuing")
    assert "collapsed: a region has all but vanished" in (tmp_path / "run" / "report.md").read_text()
    # the seed that it prints is the one that it starts again with
    state = TrainState.load(tmp_path / "run" / "state.safetensors", torch.device("cpu"))
    assert said[0].endswith(f"restarting with seed {state.seed}, restart 1")


@pytest.mark.slow
def test_a_restarted_run_resumes_bit_for_bit(quick: Quick, tiny: Tiny, tmp_path: Path) -> None:
    settings = {"watch.collapse_share": 0.5, "watch.collapse_every": 2, "watch.restarts": 1}
    quick(tiny({"steps": 5, **settings}), tmp_path / "straight")
    quick(tiny({"steps": 3, **settings}), tmp_path / "parts")
    quick(tiny({"steps": 5, **settings}), tmp_path / "parts", resume=True)
    a, b = (load_file(tmp_path / name / "state.safetensors") for name in ("straight", "parts"))
    assert [k for k in a if not torch.equal(a[k], b[k])] == []
    assert [(e["restarts"], e["step"], e["redrawer"]) for e in log_of(tmp_path / "parts")] == [
        (e["restarts"], e["step"], e["redrawer"]) for e in log_of(tmp_path / "straight")
    ]


def test_without_restarts_nothing_starts_again(quick: Quick, tiny: Tiny, tmp_path: Path) -> None:
    outcome = quick(tiny({"steps": 2, "watch.collapse_share": 0.5, "watch.collapse_every": 1}), tmp_path / "run")
    assert outcome["restarts"] == 0
    assert outcome["step"] == 2


@pytest.mark.parametrize("player", ["redrawer", pytest.param("discriminator", marks=pytest.mark.slow)])
def test_a_loss_that_is_not_finite_stops_the_run(
    player: str, six_steps: Path, quick: Quick, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = loop.refuse_non_finite

    def spoil(total: torch.Tensor, who: str, step: int) -> None:
        refuse(total * math.nan if (who, step) == (player, 5) else total, who, step)

    config = tiny({"steps": 6, "watch.checkpoint_every": 2})
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "refuse_non_finite", spoil)
        with pytest.raises(RunError) as caught:
            quick(config, folder)
    assert str(caught.value) == (
        f"training has diverged: the {player}'s loss is nan at step 5; "
        "the run folder keeps the last good state; "
        "start a new run with lower learning rates (--optim.*-rate) or another --seed"
    )
    state = TrainState.load(folder / "state.safetensors", torch.device("cpu"))
    assert state.step == 4
    assert all(p.isfinite().all() for p in state.redrawer.parameters())
    quick(config, folder, resume=True)
    assert_same_run(six_steps, folder)


@pytest.mark.parametrize("player", ["redrawer", "discriminator"])
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_weights_that_are_not_finite_are_not_saved(player: str, value: float, tiny: Tiny, tmp_path: Path) -> None:
    state, path = TrainState.fresh(tiny(), torch.device("cpu")), tmp_path / "state.safetensors"
    state.save(path)
    good = path.read_bytes()
    state.step = 7
    with torch.no_grad():
        list(getattr(state, player).parameters())[-1].view(-1)[-1] = value
    with pytest.raises(RunError) as caught:
        state.save(path)
    assert str(caught.value) == (
        "training has diverged: after step 7 a weight is infinite or not a number; "
        "the run folder keeps the last good state; "
        "start a new run with lower learning rates (--optim.*-rate) or another --seed"
    )
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"state.safetensors": good}


def test_absurd_rates_stop_the_run_with_weights_kept(quick: Quick, tiny: Tiny, tmp_path: Path) -> None:
    rates = {f"optim.{k}_rate": 1e30 for k in ("extractor", "generator", "encoder", "discriminator")}
    with pytest.raises(RunError, match="training has diverged"):
        quick(tiny(rates), tmp_path / "run")
    # it breaks before the first checkpoint is due: the last good state is still kept
    state = TrainState.load(tmp_path / "run" / "state.safetensors", torch.device("cpu"))
    assert all(p.isfinite().all() for p in state.redrawer.parameters())


# ------------------------------------------------------------------------------------------ other varieties


@pytest.mark.slow
def test_three_regions_are_scored_by_matching(quick: Quick, tiny: Tiny, tmp_path: Path) -> None:
    config = tiny({"steps": 2, "nets.regions": 3, "data.evaluate_on": "shapes", "data.evaluate_pictures": 16})
    outcome = quick(config, tmp_path / "run")
    assert set(outcome["scores"]) == {"iou_matched", "accuracy_matched", "pictures"}
    assert len(outcome["sizes"]) == 3
    assert "iou_matched" in log_of(tmp_path / "run")[-1]
    assert "iou" not in log_of(tmp_path / "run")[-1]
    assert "IoU, regions matched to objects with the truth" in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.slow
def test_three_regions_in_the_unit_range_work_through_the_export(tiny: Tiny, photos: Path, tmp_path: Path) -> None:
    config = tiny({"steps": 3, "nets.regions": 3, "data.value_range": "unit", "data.size": 32})
    outcome = run.run(config, tmp_path / "run", False, "cpu", Console(file=io.StringIO()))
    assert len(outcome["sizes"]) == 3
    segmenter = Segmenter(tmp_path / "run", edges="plain")
    assert segmenter.regions == 3
    pictures = open_data(photos, 32)
    state = TrainState.load(tmp_path / "run" / "state.safetensors", torch.device("cpu"))
    store = ImageStore(pictures, config, torch.device("cpu"))
    assert store(np.arange(12)).min() >= 0
    expected = soft_masks(state.average.nets["extractor"], store, np.arange(12))
    assert np.abs(segmenter.batch(np.asarray(pictures.pixels)) - expected).max() < 1e-4
    result = evaluate(str(tmp_path / "run"), "shapes", methods=())
    assert set(result["beside"]) == {"mean mask", "centred disc"}
    assert 0.2 < result["beside"]["mean mask"]["iou"] < 0.9
    assert {"iou_matched", "accuracy_matched", "pictures"} <= result.keys()
    assert "iou" not in result


def test_flips_and_value_ranges_of_the_store(tiny: Tiny, photos: Path) -> None:
    pictures = open_data(photos, 32)
    order, flips = np.array([3, 0, 3]), np.array([False, True, True])
    expected = pictures.pixels[order].astype(np.float64)
    expected[flips] = expected[flips][:, :, ::-1]
    expected = expected.transpose(0, 3, 1, 2)
    for value_range, scaled in (("signed", expected / 127.5 - 1), ("unit", expected / 255)):
        config = tiny({"data.value_range": value_range})
        store = ImageStore(pictures, config, torch.device("cpu"))
        assert np.abs(store(order, flips).numpy() - scaled).max() < 1e-6
        store.resident = None  # a set too large for memory, read from its file
        assert np.abs(store(order, flips).numpy() - scaled).max() < 1e-6


def test_what_falls_back_is_said(quick: Quick, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler")

    said = quick(tiny({"steps": 1}), tmp_path / "as usual")["said"]
    assert "disk" not in said
    assert "compile" not in said
    monkeypatch.setattr(loader, "RESIDENT_MOST", 0)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    said = quick(tiny({"steps": 1, "precision": "auto", "speed.compile": "default"}), tmp_path / "fallen back")["said"]
    assert "reading pictures from disk, since they need more than a quarter of the free memory\n" in said
    assert re.search("^computing in (bfloat16|float32)$", said, re.M)
    assert said.count("computing without torch.compile, which failed here: no compiler") == 1


def test_a_run_continues_under_other_ways_to_compute(six_steps: Path, quick: Quick, tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(six_steps, folder)
    resumed = quick(tiny({"steps": 7, "speed.fused_optimiser": False}), folder, resume=True)
    assert resumed["step"] == 7
    assert "computing differently than before: speed.fused_optimiser" in resumed["said"]
    assert json.loads((folder / "config.json").read_text())["config"]["speed"]["fused_optimiser"] is False
    with pytest.raises(RunError, match="was trained with other settings"):
        quick(tiny({"steps": 7, "batch": 6}), folder, resume=True)
