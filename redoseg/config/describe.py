"""The settings of a verb or a run, read off its dataclass: what completion and the documentation list."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

_POSITIONAL = get_args(tyro.conf.Positional[str])[1]  # tyro's mark of what needs no name


@dataclass(frozen=True)
class Setting:
    """One setting."""

    name: str
    """As the command line has it, tables before dots, without dashes in front: data.evaluate-on."""
    field: str
    """As the dataclass has it: evaluate_on."""
    owner: type
    """The dataclass: a verb's own, or that of a table of settings."""
    about: str
    """Its docstring, without the unit."""
    unit: str
    default: Any
    """The default; dataclasses.MISSING where one must be given."""
    choices: tuple[str, ...]
    """The only values, of a Literal; empty if others are allowed."""
    positional: bool
    number: bool
    flag: bool
    """True or false: --NAME and --no-NAME."""
    several: bool
    """It takes any number of values."""
    repeated: bool
    """It is given once for each of its values."""
    short: tuple[str, ...]
    """Other names, with their dashes."""


def _item(hint: Any) -> Any:
    """What a tuple of any length has, or the type itself."""
    return get_args(hint)[0] if get_origin(hint) is tuple else hint


_docstrings: dict[type, dict[str, str]] = {}


def docstrings(kind: type) -> dict[str, str]:
    """The docstring under each field of a dataclass. Python keeps none, so its source is read, once."""
    if kind in _docstrings:
        return _docstrings[kind]
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(after, ast.Expr):
            found[node.target.id] = str(ast.literal_eval(after.value))
    _docstrings[kind] = found
    return found


def settings_of(kind: type[Any], table: str = "") -> Iterator[Setting]:
    """Each setting of a dataclass of verbs or settings, those of the tables within it included."""
    texts = docstrings(kind)
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint, marks = hints[field.name], getattr(hints[field.name], "__metadata__", ())
        hint = get_args(hint)[0] if marks else hint
        name, short = field.name.replace("_", "-"), ()
        for mark in marks:
            name = name if getattr(mark, "name", None) is None else mark.name
            short = getattr(mark, "aliases", None) or short
        if is_dataclass(hint) and isinstance(hint, type):
            yield from settings_of(hint, f"{table}{name}." if name else table)
            continue
        if get_origin(hint) in (Union, types.UnionType):  # what it is where it is given
            hint = next(part for part in get_args(hint) if part is not type(None))
        about, _, unit = texts[field.name].rpartition(" [")
        yield Setting(
            name=table + name,
            field=field.name,
            owner=kind,
            about=about,
            unit=unit.removesuffix("]"),
            default=field.default,
            choices=get_args(_item(hint)) if get_origin(_item(hint)) is Literal else (),
            positional=_POSITIONAL in marks,
            number=(get_args(hint) or (hint,))[0] in (int, float),
            flag=hint is bool,
            several=get_origin(hint) is tuple and tyro.conf.UseAppendAction not in marks,
            repeated=tyro.conf.UseAppendAction in marks,
            short=tuple(short),
        )
