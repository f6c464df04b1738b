"""Files and functions stay short, what has many parameters names them, and no parameter hides what has its name."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import redoseg

PACKAGE = Path(redoseg.__file__).parent
ROOT = PACKAGE.parent
FILES = {p.relative_to(ROOT).as_posix(): p for where in (PACKAGE, ROOT / "tools") for p in sorted(where.rglob("*.py"))}

LONGEST_FILE = 450  # lines
LONGEST_FUNCTION = 80  # lines of its body, without its docstring
BY_POSITION = 5  # parameters or arguments
LOOP = "redoseg/train/loop.py: train"  # the training loop is one function, to be read from above
FROM_GRADIO = {"several", "redrawings"}  # gradio passes the fields of the page by position

Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.lru_cache(1)  # five questions to one file
def nodes(tree: ast.Module) -> list[ast.AST]:
    return list(ast.walk(tree))


def of_ours(tree: ast.Module) -> Iterator[Function]:
    return (node for node in nodes(tree) if isinstance(node, Function))


def body_lines(function: Function) -> int:
    described = ast.get_docstring(function) is not None
    body = function.body[1:] if described else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]


def by_position(function: Function) -> int:
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def calls_by_position(tree: ast.Module) -> list[str]:
    """Objects that are made with many values by position; functions refuse those by themselves."""
    made = [node for node in nodes(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return [
        f"{node.lineno}: {ast.unparse(node.func)}"
        for node in made
        if len(node.args) > BY_POSITION and (node.func.id == "cls" or node.func.id.lstrip("_")[:1].isupper())
    ]


def hidden(tree: ast.Module) -> list[str]:
    """Parameters with the name of a module or function of their file."""
    above: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            above |= {(each.asname or each.name).split(".")[0] for each in node.names}
        elif isinstance(node, Function | ast.ClassDef):
            above.add(node.name)
    return [
        f"{function.lineno}: {function.name}({each.arg})"
        for function in of_ours(tree)
        for each in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
        if each.arg in above
    ]


@pytest.mark.parametrize("name", FILES)
def test_it_is_short_and_its_parameters_have_names(name: str) -> None:
    text = FILES[name].read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= LONGEST_FILE
    long = [f.name for f in of_ours(tree) if body_lines(f) > LONGEST_FUNCTION and f"{name}: {f.name}" != LOOP]
    assert long == []
    assert [f.name for f in of_ours(tree) if by_position(f) > BY_POSITION and f.name not in FROM_GRADIO] == []
    assert calls_by_position(tree) == []
    assert hidden(tree) == []


def test_a_breach_would_be_seen() -> None:
    many = ", ".join("abcdeg")
    tree = ast.parse(f"import json\ndef f({many}, *, json):\n    'what'\n    x = 1\n    return Thing({many})\n")
    (function,) = of_ours(tree)
    assert (body_lines(function), by_position(function)) == (2, 6)
    assert calls_by_position(tree) == ["5: Thing"]
    assert hidden(tree) == ["2: f(json)"]
