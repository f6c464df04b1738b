"""The wheel: what it carries, that it segments without torch, and the version that is said everywhere."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redoseg import __version__

ROOT = Path(__file__).parent.parent
Redoseg = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since building leaves files in its folder, which the next wheel would carry.

    By the setuptools that is installed: nothing is fetched for a test.
    """
    source, out = tmp_path_factory.mktemp("source") / "redoseg", tmp_path_factory.mktemp("dist")
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "redoseg", source / "redoseg", ignore=shutil.ignore_patterns("__pycache__"))
    how = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out)]
    command = [sys.executable, "-m", "pip", "wheel", *how, str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("redoseg-*.whl"))


def test_one_version_everywhere(wheel: Path) -> None:
    assert wheel.name.split("-")[1] == __version__
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    found = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert found is not None
    assert found[1] == __version__


def test_wheel_carries_weights_recipes_and_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "redoseg/py.typed" in names
    for recipe in (ROOT / "redoseg" / "recipes").rglob("*.toml"):
        assert str(recipe.relative_to(ROOT)) in names
    weights = [p for p in (ROOT / "redoseg" / "weights").rglob("*") if p.is_file()]
    assert weights
    scripts = [p for p in (ROOT / "redoseg" / "browser" / "page").iterdir() if p.is_file()]
    for file in weights + scripts:
        assert str(file.relative_to(ROOT)) in names


def segments_and_says_what_training_needs(redoseg: Redoseg, folder: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (90, 120, 3), np.uint8)).save(folder / "photo.jpg")
    done = redoseg("segment", "flowers", folder / "photo.jpg", "-o", folder / "out")
    assert done.returncode == 0, done.stderr
    mask = Image.open(folder / "out" / "photo.png")
    assert mask.size == (120, 90)
    assert set(np.unique(np.asarray(mask))) <= {0, 255}

    refused = redoseg("train", "shapes")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert 'pip install "redoseg[train]"' in refused.stderr


# alone on the path with what a plain installation has, without looking into this checkout
UNPACKED = """
import sys
wheel, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, wheel)
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "safetensors", "onnx", "matplotlib", "jaxtyping", "requests", "cv2"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
import redoseg.cli.main
assert redoseg.__file__.startswith(wheel), redoseg.__file__
redoseg.cli.main.main()
"""


def test_the_unpacked_wheel_segments_without_torch(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "wheel")
    code = [sys.executable, "-c", UNPACKED, tmp_path / "wheel"]

    def redoseg(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*code, *arguments], capture_output=True, text=True, cwd=tmp_path)

    segments_and_says_what_training_needs(redoseg, tmp_path)


@pytest.mark.slow
def test_plain_install_segments_without_torch(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, with only what the wheel asks for."""
    home, environment = tmp_path / "env", {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    install = [sys.executable, "-m", "pip", "--python", home, "install", "--quiet", "--disable-pip-version-check"]
    constraints = ["--constraint", ROOT / "constraints.txt"]
    subprocess.run([*install, *constraints, wheel], check=True, capture_output=True, env=environment)

    probe = "import importlib.util as u; print(u.find_spec('torch'))"
    command = [home / "bin" / "python", "-c", probe]
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert found.stdout.strip() == "None"

    def redoseg(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [home / "bin" / "redoseg", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)

    segments_and_says_what_training_needs(redoseg, tmp_path)


def test_a_tag_of_another_version_is_not_published() -> None:
    workflow = (ROOT / ".github" / "workflows" / "publish.yml").read_text()
    found = re.search(r'run: (test "\$GITHUB_REF_NAME" = .*)', workflow)
    assert found is not None
    for tag, right in ((f"v{__version__}", True), (f"v{__version__}.1", False), (__version__, False)):
        done = subprocess.run(["sh", "-c", found[1]], cwd=ROOT, env=os.environ | {"GITHUB_REF_NAME": tag})
        assert (done.returncode == 0) == right, tag


# ------------------------------------------------------------------------------------- what `make` would install


def commands(*variables: str) -> list[str]:
    """The calls of pip that make a fresh environment."""
    command = ["make", "--dry-run", "--always-make", "env", *variables]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [line for line in said.replace("\\\n", "").splitlines() if " pip install " in line]


def test_make_asks_pytorchs_index_for_torch_alone() -> None:
    torch, rest = commands("TORCH=cpu")
    assert "--index-url https://download.pytorch.org/whl/cpu" in torch
    assert re.search(r"--retries 1 --timeout \d+ --no-deps torch\b", torch)
    assert "||" in torch  # what it cannot give comes from the usual index
    assert commands() == [rest]
    assert "pytorch.org" not in rest
    assert not any("--quiet" in command for command in (torch, rest))
