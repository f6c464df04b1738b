"""SIGTERM and SIGHUP are taken as Ctrl-C by every verb that works for long; what was ignored stays ignored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from bright import bright_square, write_model

Start = Callable[..., subprocess.Popen[str]]

CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
WORKS = """
import pathlib, sys, time, {module} as module
def work(*_, **__):
    pathlib.Path({mark!r}).touch()
    {work}
    time.sleep({seconds})
    return {{}}
setattr(module, {name!r}, work)
sys.argv = ["redoseg", *{arguments!r}]
from redoseg.__main__ import main
main()
"""
# verb -> its arguments, and the function in which it works for long
VERBS = {
    "segment": ("segment MODEL PHOTOS -o OUT", "redoseg.inference.segment_files.segment_paths"),
    "prepare": ("prepare folder --source PHOTOS --out OUT", "redoseg.data.prepare"),
    "train": ("train shapes --out OUT", "redoseg.train.run.run"),
    "evaluate": ("evaluate MODEL shapes", "redoseg.evaluation.evaluate.evaluate"),
    "compare": ("compare shapes MODEL", "redoseg.evaluation.compare.compare"),
    "study": ("study missing --out OUT", "redoseg.study.run.run_study"),
    "bench": ("bench segment", "redoseg.bench.segment.bench_segment"),
    "serve": ("serve MODEL --port 0", "redoseg.web.page.serving"),
    "quantize": ("quantize MODEL PHOTOS -o OUT/x.onnx", "redoseg.inference.quantize.quantize"),
    "redraw": ("redraw flowers PHOTOS/0.png -o OUT", "redoseg.inference.redraw_files.redraw_photo"),
    "export": ("export MODEL --out OUT", "redoseg.sharing.model_folder.export_run"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("places")
    model = write_model(folder / "run" / "mask.onnx").parent
    (folder / "photos").mkdir()
    for number in range(12):
        bright_square(40 + number, 30).save(folder / "photos" / f"{number}.png")
    return {"MODEL": str(model), "PHOTOS": str(folder / "photos")}


def at_work(
    verb: str, start: Start, places: dict[str, str], tmp_path: Path, seconds: float = 60, work: str = "", **how: Any
) -> subprocess.Popen[str]:
    """The verb in a process of its own, in the midst of its work."""
    text, where = VERBS[verb]
    for name, path in {**places, "OUT": str(tmp_path / "out")}.items():
        text = text.replace(name, path)
    module, _, name = where.rpartition(".")
    mark = tmp_path / "mark"
    code = WORKS.format(
        module=module, name=name, mark=str(mark), seconds=seconds, work=work or "pass", arguments=text.split()
    )
    process = start("-c", code, cwd=tmp_path, **how)
    wait_for(mark.exists, process)
    return process


def wait_for(ready: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def every_third(verbs: Iterable[str], names: Iterable[str]) -> list[Any]:
    """All pairs; those beside a diagonal, and verbs that take seconds to start, are slow tests.

    A training is stopped by test_a_training_saves_before_it_stops.
    """
    pairs = [
        (v, n, (i + j) % 3 or v in ("bench", "export", "train"))
        for i, v in enumerate(verbs)
        for j, n in enumerate(names)
    ]
    return [pytest.param(v, n, marks=pytest.mark.slow if slow else ()) for v, n, slow in pairs]


@pytest.mark.every(3)
@pytest.mark.parametrize(("verb", "name"), every_third(VERBS, CODES))
def test_a_signal_stops_with_a_line_and_its_code(
    verb: str, name: str, start: Start, places: dict[str, str], tmp_path: Path
) -> None:
    process = at_work(verb, start, places, tmp_path)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=20)
    assert process.returncode == CODES[name], err
    lines = (out + err).splitlines()
    assert len(lines) == 1, lines
    assert f"stopped by {'hand' if name == 'SIGINT' else name}" in lines[0]


@pytest.mark.every(4)
@pytest.mark.parametrize(
    ("verb", "name"),
    every_third(["segment", "prepare", "evaluate", "serve", "bench"], ["SIGHUP", "SIGTERM", "SIGINT"]),
)
def test_a_signal_that_was_ignored_stays_so(
    verb: str, name: str, start: Start, places: dict[str, str], tmp_path: Path
) -> None:
    number = getattr(signal, name)
    process = at_work(
        verb, start, places, tmp_path, seconds=0.5, preexec_fn=lambda: signal.signal(number, signal.SIG_IGN)
    )
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode not in CODES.values()
    assert process.returncode >= 0


@pytest.mark.every(4)
@pytest.mark.parametrize("first", CODES)
@pytest.mark.parametrize(
    "verb", ["segment", "prepare", pytest.param("train", marks=pytest.mark.slow), "evaluate", "compare"]
)
def test_a_storm_of_signals_is_one_line_and_the_code_of_the_first(
    verb: str, first: str, start: Start, places: dict[str, str], tmp_path: Path
) -> None:
    """Also where all come before Python hears one, as in a long call: it hears them in order of number."""
    process = at_work(verb, start, places, tmp_path, work="sum(range(3 * 10**7))" if first == "SIGTERM" else "")
    others = ["SIGHUP", "SIGTERM", "SIGINT"] * 3
    for name in (first, *others):
        process.send_signal(getattr(signal, name))
        time.sleep(0.02)
    out, err = process.communicate(timeout=20)
    assert process.returncode == CODES[first], err
    lines = (out + err).splitlines()
    assert len(lines) == 1, lines
    assert f"stopped by {'hand' if first == 'SIGINT' else first}" in lines[0]


# what was ignored: tests/train/test_training.py in one process, and verbs above with other signals
@pytest.mark.parametrize("ignored", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_training_saves_before_it_stops(ignored: bool, start: Start, tmp_path: Path) -> None:
    """And, as under nohup, does not hear SIGHUP where that was ignored."""
    out, steps = tmp_path / "run", 20 if ignored else 100_000
    small = "--batch=4 --data.size=16 --data.pictures=16 --data.evaluate-on= --nets.latent=4 --watch.log-every=1"
    small += "".join(f" --nets.{net}-width=4" for net in ("extractor", "discriminator", "encoder"))
    how: dict[str, Any] = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)} if ignored else {}
    command = ["-m", "redoseg", "train", "shapes", *small.split(), "--nets.generator-width=2", f"--steps={steps}"]
    process = start(*command, "--device=cpu", "--out", out, **how)
    wait_for(lambda: (out / "log.jsonl").exists(), process)
    process.send_signal(signal.SIGHUP)
    if not ignored:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):  # closing a terminal may send several
            time.sleep(0.03)
            os.kill(process.pid, number)
    said, err = process.communicate(timeout=120)
    assert process.returncode == (0 if ignored else 129), (said, err)
    assert ignored or "stopped by SIGHUP at step" in said
    ended = json.loads((out / "outcome.json").read_text())
    assert ended["stopped"] != ignored
    assert (out / "state.safetensors").exists()
