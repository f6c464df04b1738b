"""What all tests share."""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Several workers share the machine: a thread each, and so for all that they start. Before anything counts the cores.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"))

import pytest
import torch
from jaxtyping import install_import_hook
from PIL import Image
from torch.nn.utils.parametrizations import _SpectralNorm

# Shapes in signatures are checked in each call of the slow tests; of the fast ones by test_signatures.py alone, since
# that takes a third of a training's time. Before anything imports them: conftest imports only what needs no torch.
if os.environ.get("REDOSEG_CHECK_SHAPES"):
    install_import_hook(["redoseg.nets", "redoseg.train"], "beartype.beartype")

from redoseg.config.recipe import from_values
from redoseg.config.schema import Config

torch.set_num_threads(1)
# Background jobs of scripts, nohup and some CI runners start programs with Ctrl-C ignored, which all children inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A job that is cancelled ends as with Ctrl-C, so that fixtures still end the processes that they started.
signal.signal(signal.SIGTERM, signal.default_int_handler)
# under nohup it is ignored, and what the tests start would ignore it too
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

TINY: dict[str, Any] = {
    "steps": 12,
    "batch": 4,
    "threads": 1,
    "precision": "float32",  # the same on every machine
    "data": {"size": 16, "pictures": 24, "source": "shapes"},
    "nets": {
        "extractor_width": 4,
        "generator_width": 2,
        "discriminator_width": 4,
        "encoder_width": 4,
        "latent": 4,
    },
    "optim": {
        "extractor_rate": 1e-3,
        "generator_rate": 1e-3,
        "encoder_rate": 1e-3,
        "discriminator_rate": 1e-3,
        "average": 0.9,
    },
    "watch": {"log_every": 1, "evaluate_every": 6, "sample_every": 6, "checkpoint_every": 6},
}


# files that take longest, and rooms with such files: they come first, so that no worker ends long after the others
LONGEST = (
    *("tests/web/test_page.py", "tests/cli/test_cli.py", "tests/test_documented_commands.py", "tests/train/"),
    *("tests/test_signals.py", "tests/study/", "tests/data/", "tests/evaluation/", "tests/inference/"),
)


@pytest.hookimpl(tryfirst=True)  # before those that are slow are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of tests with many cases of a kind, each n-th is quick: `@pytest.mark.every(n)`.

    n has no divisor in common with the number of the inner cases, or the outer ones would always have the same.
    """
    items.sort(key=lambda item: next((at for at, name in enumerate(LONGEST) if item.nodeid.startswith(name)), 99))
    seen: Counter[str] = Counter()
    for item in items:
        if marker := item.get_closest_marker("every"):
            function = item.nodeid.partition("[")[0]
            if seen[function] % marker.args[0]:
                item.add_marker(pytest.mark.slow)
            seen[function] += 1


POWER_METHOD = _SpectralNorm._power_method

Tiny = Callable[..., Config]
Start = Callable[..., subprocess.Popen[str]]


@contextlib.contextmanager
def starting() -> Iterator[Start]:
    """Gives what starts Python with these arguments, in a group of processes that does not outlive the block."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path, **how: Any) -> subprocess.Popen[str]:
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True} | how
        started.append(subprocess.Popen([sys.executable, *map(str, arguments)], **how))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            # asked first, since torchrun's workers are groups of their own, which it ends itself
            for ask in (signal.SIGTERM, signal.SIGKILL):
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                        os.killpg(process.pid, ask)
                        process.communicate(timeout=20)
            with process:  # closes its pipes
                pass


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that do not outlive the test, also where it fails."""
    with starting() as start:
        yield start


@pytest.fixture(scope="module")
def start_once() -> Iterator[Start]:
    """The same for what a whole file shares."""
    with starting() as start:
        yield start


CRASHES = b"CRASHES"
SITECUSTOMIZE = f"""
import signal
from PIL import Image
Image.init()
factory, accept = Image.OPEN["PNG"]
def opened(file, name):
    if file.read(7) == {CRASHES!r}:
        signal.raise_signal(signal.SIGSEGV)  # in this thread, as a broken decoder does
    file.seek(0)
    return factory(file, name)
Image.OPEN["PNG"] = opened, lambda prefix: prefix.startswith({CRASHES!r}) or accept(prefix)
"""


@pytest.fixture
def crashing_file(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The content of a file whose decoder crashes in every process that is started from now on."""
    folder = tmp_path_factory.mktemp("crashing")
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
    return CRASHES


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """Makes a configuration of tiny networks: the paper's settings, but small; `settings` as {"nets.norm": ...}."""

    def make(settings: dict[str, Any] | None = None) -> Config:
        values = copy.deepcopy(TINY)
        for key, value in (settings or {}).items():
            table, _, name = key.rpartition(".")
            (values.setdefault(table, {}) if table else values)[name] = value
        return from_values(values, "tests")

    return make


@pytest.fixture(scope="session")
def tiny_config(tiny: Tiny) -> Config:
    """Tiny networks at 16 pixels, 12 steps of 4 pictures."""
    return tiny()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Folders of pictures are prepared into a cache: not into the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _quickly() -> Iterator[None]:
    """In this process runs draw nothing, which takes longer than so short a training; that of `trained` does.

    Spectral norm looks for its first vectors in one step in place of 15, half the time that networks take to be made.
    And nothing waits for the disk: no power cut is survived here.
    """
    from redoseg.train import run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "draw_curves", lambda *_: None)
        patch.setattr(run, "draw_samples", lambda *_: None)
        patch.setattr(_SpectralNorm, "_power_method", lambda self, weight, _: POWER_METHOD(self, weight, 1))
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def own_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks start with the vectors that they have in other processes too."""
    monkeypatch.setattr(_SpectralNorm, "_power_method", POWER_METHOD)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `images/` and `masks/`: 12 built-in pictures of 32 pixels as PNG files."""
    from redoseg.data.shapes import generate

    folder = tmp_path_factory.mktemp("photos")
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    images, labels = generate("shapes", 12, 32, seed=7)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(folder / "images" / f"{number:02}.png")
        Image.fromarray(label * 255).save(folder / "masks" / f"{number:02}.png")
    return folder


@pytest.fixture
def no_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """GrabCut gives the mask that it is started from: where no score is looked at, it takes most of the time."""
    monkeypatch.setattr("cv2.grabCut", lambda _, mask, *__: (mask, None, None))


@dataclass(frozen=True)
class Trained:
    """A finished run."""

    folder: Path
    config: Config
    outcome: dict[str, Any]


@pytest.fixture(scope="session")
def trained(tiny: Tiny, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One run of 12 steps at 32 pixels on the built-in pictures, scored on `photos`. Nobody changes it."""
    from rich.console import Console

    from redoseg.train import plots, run

    config = tiny({"data.size": 32, "data.evaluate_on": str(photos)})
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    with open("/dev/null", "w") as nowhere, pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "draw_curves", plots.draw_curves)
        patch.setattr(run, "draw_samples", plots.draw_samples)
        outcome = run.run(config, folder, False, "cpu", Console(file=nowhere))
    return Trained(folder, config, outcome)
