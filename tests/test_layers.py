"""The order of the modules, what each verb costs to import, and the help text of every setting."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

import redoseg
from redoseg import cli, config

PACKAGE = Path(redoseg.__file__).parent

# lower never imports higher; modules of one rank may import each other only where they are one package
RANKS = {
    "errors": 0,
    "config": 1,
    "machine": 1,
    "recipe": 2,
    "pictures": 2,
    "edges": 3,
    "coco": 2,
    "opencv": 1,
    "losses": 2,
    "metrics": 1,
    "nets": 2,
    "data": 3,
    "baselines": 2,
    "boundary": 3,
    "sheets": 3,
    "onnx_graph": 3,
    "sharing": 3,
    "checkpoint": 4,
    "export": 4,
    "export_redraw": 4,
    "report": 4,
    "segmenter": 4,
    "segment_files": 5,
    "bench": 6,
    "model_folder": 6,
    "study": 6,
    "redraw": 7,
    "study_table": 7,
    "evaluate": 5,
    "compare": 6,
    "model_card": 5,
    "quantize": 5,
    "serve": 8,
    "train": 5,
    "settings": 1,
    "doctor": 5,
    "completion": 7,
    "cli": 9,
}
TORCH = {"torch", "safetensors", "onnx", "jaxtyping", "matplotlib"}
FREE_OF_TORCH = {
    "errors", "config", "machine", "recipe", "pictures", "metrics", "data", "baselines", "segmenter", "evaluate",
    "compare",
    "edges", "coco", "opencv", "boundary", "sheets", "segment_files",
    "sharing",
}  # fmt: skip


def files() -> list[Path]:
    found = [p for p in PACKAGE.rglob("*.py") if p.name not in ("__main__.py",) and p.parent.name != "__pycache__"]
    return [p for p in found if p != PACKAGE / "__init__.py"]


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


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
    return {
        name.split(".")[1]
        for name in imports(path, within_functions)
        if name.startswith("redoseg.") and name != "redoseg.__version__"
    }


def test_every_module_has_a_rank() -> None:
    assert {layer(path) for path in files()} == set(RANKS)


@pytest.mark.parametrize("path", files(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_lower_never_imports_higher(path: Path) -> None:
    own = layer(path)
    wrong = {name for name in ours(path) if name != own and RANKS[name] >= RANKS[own]}
    assert wrong == set()


@pytest.mark.parametrize(
    "path", [p for p in files() if layer(p) in FREE_OF_TORCH], ids=lambda p: p.relative_to(PACKAGE).as_posix()
)
def test_what_segments_and_scores_is_free_of_torch(path: Path) -> None:
    assert {name.split(".")[0] for name in imports(path)} & TORCH == set()
    assert ours(path) <= FREE_OF_TORCH


def test_redrawing_needs_torch_for_runs_of_old_alone() -> None:
    path = PACKAGE / "redraw.py"
    assert {name.split(".")[0] for name in imports(path)} & TORCH == set()
    assert ours(path, within_functions=False) <= FREE_OF_TORCH
    assert ours(path) - FREE_OF_TORCH == {"model_folder"}


def test_the_test_of_layers_would_see_a_breach(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("def f():\n    from redoseg import train\n    import torch.nn\n")
    assert ours(path) == {"train"}
    assert "torch.nn" in imports(path)
    assert imports(path, within_functions=False) == set()


def test_the_command_line_imports_nothing_heavy_to_start() -> None:
    path = PACKAGE / "cli.py"
    outside = {name.split(".")[0] for name in imports(path, within_functions=False)}
    assert outside - set(sys.stdlib_module_names) == {"redoseg", "tyro"}
    assert ours(path, within_functions=False) <= {"config", "errors", "machine", "recipe"}


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


CONFIGS = [kind for kind in vars(config).values() if isinstance(kind, type) and is_dataclass(kind)]
VERBS = [kind for kind, _ in [*cli.VERBS.values(), *cli.BENCHES.values()]]


@pytest.mark.parametrize("kind", CONFIGS + VERBS, ids=lambda kind: kind.__name__)
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
