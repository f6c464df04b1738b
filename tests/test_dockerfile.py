"""The Dockerfile, without Docker: what it says, and its steps run by a shell below a folder of their own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from redoseg.cli.options import Serve
from redoseg.cli.parse import parse
from redoseg.cli.verbs import VERBS
from redoseg.data.shapes import generate
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter

ROOT = Path(__file__).parents[1]
MOST = 400 - 150  # MB: the base image, python:3.12-slim, has about 120 of the 400
Start = Callable[..., subprocess.Popen[str]]


class Step(NamedTuple):
    name: str
    rest: str


def stages() -> list[list[Step]]:
    """The steps of each stage, which begins with FROM."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    steps = [Step(*line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]
    first = [number for number, step in enumerate(steps) if step.name == "FROM"]
    return [steps[begin:end] for begin, end in zip(first, [*first[1:], len(steps)], strict=True)]


def only(steps: list[Step], name: str) -> str:
    (found,) = (step.rest for step in steps if step.name == name)
    return found


def test_it_runs_as_another_user_than_root_and_serves_the_interface() -> None:
    build, final = stages()
    assert only(build, "FROM").removesuffix(" AS build") == only(final, "FROM")
    user, group = map(int, only(final, "USER").split(":"))
    assert user >= 1000
    assert group >= 1000
    names = [step.name for step in final]
    assert "RUN" not in names[names.index("USER") :], "it would not run as root"
    assert json.loads(only(final, "ENTRYPOINT")) == ["redoseg"]
    verb, *arguments = json.loads(only(final, "CMD"))
    assert verb in VERBS
    serve = parse(Serve, verb, arguments)
    assert (serve.page, serve.host, str(serve.port)) == (False, "0.0.0.0", only(final, "EXPOSE"))
    assert only(build, "ARG") == "EXTRAS=api"


def test_what_is_copied_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for step in stages()[0] if step.name == "COPY" for name in step.rest.split()[:-1]}
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def has_network() -> bool:
    try:
        with urllib.request.urlopen("https://pypi.org/simple/pip/", timeout=10):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image's /opt/redoseg would be."""
    if not has_network():
        pytest.skip("its steps fetch packages, but there is no network")
    root = tmp_path_factory.mktemp("image")
    here, tools = root / "src", root / "bin"
    tools.mkdir()
    for name, command in (("python", sys.executable), ("pip", f"{sys.executable} -m pip")):
        (tools / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (tools / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PATH": f"{tools}:{os.environ['PATH']}", "EXTRAS": "api"}
    for name, rest in stages()[0]:
        if name == "WORKDIR":
            assert rest == "/src"
            here.mkdir()
        elif name == "COPY":
            for source in rest.split()[:-1]:
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, here / source, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, here)
        elif name == "RUN":
            command = rest.replace("/opt/", f"{root}/opt/")
            subprocess.run(["sh", "-ec", command], cwd=here, env=environment, check=True, capture_output=True)
        else:
            assert name in ("FROM", "ARG")
    return root / "opt" / "redoseg"


@pytest.mark.slow
def test_its_steps_give_a_small_installation_that_works(installed: Path, start: Start, tmp_path: Path) -> None:
    assert (installed / "bin" / "redoseg").is_file()
    files = [path for path in installed.rglob("*") if path.is_file() and not path.is_symlink()]
    size = sum(path.stat().st_size for path in files) / 1e6
    assert size < MOST, f"{size:.0f} MB"
    packages = {path.name for path in installed.glob("lib/python*/site-packages/*")}
    assert {"redoseg", "fastapi", "onnxruntime"} <= packages
    assert not {"torch", "gradio", "cv2", "pytest"} & packages

    photograph = tmp_path / "photo.png"
    Image.fromarray(generate("shapes", 1, 96, seed=3)[0][0]).save(photograph)
    segment_paths(Segmenter("flowers"), photograph, tmp_path / "expected.png")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    path = re.search(r"PATH=(\S+):\$PATH", only(stages()[1], "ENV"))
    assert path is not None
    environment |= {"PATH": path[1].replace("/opt/redoseg", str(installed)), "HOME": str(tmp_path)}
    command = ["redoseg", "segment", "flowers", str(photograph), "-o", str(tmp_path / "mask.png")]
    subprocess.run(["/usr/bin/env", *command], env=environment, cwd=tmp_path, check=True, capture_output=True)
    with Image.open(tmp_path / "mask.png") as mask, Image.open(tmp_path / "expected.png") as expected:
        np.testing.assert_array_equal(np.asarray(mask), np.asarray(expected))

    arguments = json.loads(only(stages()[1], "CMD"))
    launch = f"exec {shlex.join(['redoseg', *arguments, '--port', '0'])}"
    code = f"import os; os.execve('/bin/sh', ['sh', '-c', {launch!r}], dict(os.environ))"
    process = start("-c", code, env=environment, cwd=tmp_path)
    assert process.stdout
    said = re.match(r"the interface is at http://0\.0\.0\.0:(\d+)/ ", process.stdout.readline())
    assert said, process.stderr and process.stderr.read()
    address = f"http://127.0.0.1:{said[1]}/segment"
    request = urllib.request.Request(address, photograph.read_bytes(), {"Content-Type": "image/png"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.read() == (tmp_path / "mask.png").read_bytes()
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    print(f"{size:.0f} MB installed")
