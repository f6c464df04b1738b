"""The order of the modules, what each verb costs to import, and the help text of every setting."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

import redoseg
from redoseg.cli.bench import BENCHES
from redoseg.cli.verbs import VERBS
from redoseg.config import schema

PACKAGE = Path(redoseg.__file__).parent

# Lower never imports higher; rooms of one rank do not import each other.
ROOMS = {
    "errors": 0,
    "own_results": 0,
    "files": 1,
    "output": 1,
    "signals": 1,
    "system": 1,
    "config": 2,
    "storage": 2,
    "metrics": 3,
    "images": 3,
    "nets": 3,
    "run_folder": 3,
    "data": 4,
    "onnx_export": 4,
    "inference": 5,
    "train": 6,
    "evaluation": 6,
    "sharing": 7,
    "study": 7,
    "web": 7,
    "browser": 7,
    "bench": 7,
    "cli": 8,
}
TORCH = {"torch", "safetensors", "onnx", "jaxtyping", "matplotlib"}
FREE_OF_TORCH = {
    "errors",
    "own_results",
    "files",
    "output",
    "signals",
    "system",
    "storage",
    "config",
    "metrics",
    "images",
    "run_folder",
    "data",
    "inference",
    "evaluation",
    "browser",
}

# file -> rooms and packages that it imports against the rules above; rooms within functions alone
EXCEPTIONS = {
    "inference/quantize.py": {"onnx"},  # reads and writes the graph that it makes smaller
    "inference/histograms.py": {"matplotlib"},  # of the part `measure`
}
FACES = {"data/__init__.py"}  # hands names on; all other faces are empty


def files() -> list[Path]:
    return [p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.name not in ("__init__.py", "__main__.py")]


def within(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def excepted(path: Path) -> set[str]:
    return EXCEPTIONS.get(within(path), set())


@functools.cache  # several tests ask about the same files
def imports(path: Path, within_functions: bool = True) -> set[str]:
    """Full names of the modules that a file imports, those for type checking left out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if not within_functions and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            found.add(node.module or "")
            if node.module == "redoseg":
                found.update(f"redoseg.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def ours(path: Path, within_functions: bool = True) -> set[str]:
    """The rooms that a file imports from."""
    return {
        name.split(".")[1]
        for name in imports(path, within_functions)
        if name.startswith("redoseg.") and name != "redoseg.__version__"
    }


def others(path: Path, within_functions: bool = True) -> set[str]:
    """The packages that a file imports."""
    return {name.split(".")[0] for name in imports(path, within_functions)}


def test_every_room_has_a_rank() -> None:
    assert {room(path) for path in files()} == set(ROOMS)


@pytest.mark.parametrize("path", files(), ids=within)
def test_lower_never_imports_higher(path: Path) -> None:
    own = room(path)
    wrong = {name for name in ours(path) if name != own and ROOMS[name] >= ROOMS[own]}
    assert wrong - excepted(path) == set()


@pytest.mark.parametrize("path", [p for p in files() if room(p) in FREE_OF_TORCH], ids=within)
def test_what_segments_and_scores_is_free_of_torch(path: Path) -> None:
    assert (others(path) & TORCH) - excepted(path) == set()
    assert ours(path) - excepted(path) <= FREE_OF_TORCH


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exceptions_are_needed_and_cost_nothing_to_start(name: str) -> None:
    path = PACKAGE / name
    assert EXCEPTIONS[name] <= ours(path) | others(path)
    assert EXCEPTIONS[name] & ours(path, within_functions=False) == set()


@pytest.mark.parametrize("path", [p for p in files() if p.name == "__init__.py"], ids=within)
def test_only_one_room_hands_names_on(path: Path) -> None:
    assert bool(ours(path)) == (within(path) in FACES)
    assert ours(path) <= {room(path)}


def test_of_the_package_itself_rooms_know_the_version_alone() -> None:
    """Its public names lead up to rooms."""
    for path in files():
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if re.search(r"import redoseg|from redoseg import", text) else ():
            assert not isinstance(node, ast.Import) or "redoseg" not in {each.name for each in node.names}, within(path)
            if isinstance(node, ast.ImportFrom) and node.module == "redoseg":
                assert {each.name for each in node.names} <= {"__version__", *ROOMS}, within(path)


def test_the_test_of_layers_would_see_a_breach(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("def f():\n    from redoseg import train\n    import torch.nn\n")
    assert ours(path) == {"train"}
    assert "torch.nn" in imports(path)
    assert imports(path, within_functions=False) == set()


def test_the_command_line_imports_nothing_heavy_to_start() -> None:
    started = {PACKAGE / "cli" / "main.py"}
    while (
        more := {
            PACKAGE / (name.replace(".", "/").removeprefix("redoseg/") + ".py")
            for path in started
            for name in imports(path, within_functions=False)
            if name.startswith("redoseg.cli.")
        }
        - started
    ):
        started |= more
    assert {path.name for path in started} >= {"main.py", "verbs.py", "options.py", "parse.py"}
    packages = {name for path in started for name in others(path, within_functions=False)}
    assert packages - set(sys.stdlib_module_names) == {"redoseg", "tyro"}
    rooms = {name for path in started for name in ours(path, within_functions=False)}
    assert rooms <= {"cli", "config", "errors", "files", "output", "own_results", "signals", "storage", "system"}
    code = "import sys, redoseg.cli.main; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"numpy", "PIL", "onnxruntime", "rich", "fsspec", "urllib.request", *TORCH} & set(loaded) == set()


@pytest.mark.parametrize("room_", ["web", "browser"])
def test_it_starts_without_torch(room_: str) -> None:
    """The page with `redoseg[serve]` alone: it shows how far runs are, but torch is not there."""
    started = {path for path in files() if room(path) == room_}
    waiting = list(started)
    while waiting:
        for name in imports(waiting.pop(), within_functions=False):
            path = PACKAGE.parent / (name.replace(".", "/") + ".py")
            if path.is_file() and path not in started:
                started.add(path)
                waiting.append(path)
    assert {within(path): wrong for path in started if (wrong := others(path, within_functions=False) & TORCH)} == {}


def test_no_pickle() -> None:
    for path in files():
        assert {name.split(".")[0] for name in imports(path)} & {"pickle", "dill", "joblib", "shelve"} == set()
        assert not re.search(r"torch\.(load|save)\(|allow_pickle=True", path.read_text())


def described(kind: type) -> dict[str, str]:
    """The docstring under each field of a dataclass."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node, after in zip(body.body, [*body.body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            good = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            found[node.target.id] = str(after.value.value) if good else ""  # type: ignore[attr-defined]
    return found


CONFIGS = [kind for kind in vars(schema).values() if isinstance(kind, type) and is_dataclass(kind)]
OPTIONS = [kind for kind, _ in [*VERBS.values(), *BENCHES.values()]]


@pytest.mark.parametrize("kind", CONFIGS + OPTIONS, ids=lambda kind: kind.__name__)
def test_every_setting_is_described_with_its_unit(kind: type) -> None:
    texts = described(kind)
    assert set(texts) == {field.name for field in fields(kind)}
    tables = {name for name, hint in get_type_hints(kind).items() if is_dataclass(hint)}
    for name, text in texts.items():
        if name not in tables:
            assert re.search(r"\S \[[^\[\]]+\]$", text), f"{kind.__name__}.{name}: {text!r}"


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
def test_settings_cannot_be_changed(kind: type) -> None:
    settings = kind()
    with pytest.raises(AttributeError):
        setattr(settings, fields(kind)[0].name, 1)


def test_public_names() -> None:
    assert redoseg.__all__ == sorted(redoseg.__all__)
    for name in redoseg.__all__:
        assert getattr(redoseg, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        redoseg.nothing  # noqa: B018
