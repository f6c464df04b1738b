"""The wheel, installed without extras in an environment of its own: it segments, and torch is not there."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("redoseg-*.whl"))


def test_wheel_carries_weights_recipes_and_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "redoseg/py.typed" in names
    for recipe in (ROOT / "redoseg" / "recipes").rglob("*.toml"):
        assert str(recipe.relative_to(ROOT)) in names
    weights = [p for p in (ROOT / "redoseg" / "weights").rglob("*") if p.is_file()]
    assert weights
    for file in weights:
        assert str(file.relative_to(ROOT)) in names


def test_plain_install_segments_without_torch(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "env"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    constraints = ["--constraint", ROOT / "constraints.txt"]
    subprocess.run([*install, *constraints, wheel], check=True, capture_output=True)

    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    probe = "import importlib.util as u; print(u.find_spec('torch'))"
    found = subprocess.run([python, "-c", probe], check=True, capture_output=True, text=True, env=environment)
    assert found.stdout.strip() == "None"

    rng = np.random.default_rng(0)
    photo = tmp_path / "photo.jpg"
    Image.fromarray(rng.integers(0, 255, (90, 120, 3), np.uint8)).save(photo)
    command = [home / "bin" / "redoseg", "segment", "flowers", photo, "-o", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    mask = Image.open(tmp_path / "out" / "photo.png")
    assert mask.size == (120, 90)
    assert set(np.unique(np.asarray(mask))) <= {0, 255}

    train = [home / "bin" / "redoseg", "train", "shapes"]
    refused = subprocess.run(train, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert 'pip install "redoseg[train]"' in refused.stderr
