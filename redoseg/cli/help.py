"""The help of a verb, from its dataclass: usage, what it does, and its options, of many the most used ones first."""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

from redoseg.config.describe import Setting, settings_of

MANY = 16  # options; of more, --help shows the first dozen
FIRST = 12
MOST_USED = (  # of the settings of a training, in this order
    "steps", "seed", "data.size", "batch", "refine.rounds", "data.evaluate-on", "refine.start", "refine.student",
    "refine.size", "refine.sharpen", "refine.steps", "refine.select", "refine.composites",
)  # fmt: skip
MOST_USED_OF_SEGMENT = (
    "out", "as", "crop", "ground", "label", "threshold", "edges", "review", "threads", "overwrite", "skip-existing",
)  # fmt: skip
_NAMES = {"source": "PHOTO", "photo": "PHOTO"}  # of operands; others are called like their field
_INDENT, _MARGIN = 26, 2


def help_of(kind: type[Any], verb: str, default: Any = None, everything: bool = False) -> str:
    """What --help prints, or --help-all with `everything`; `default` has other defaults than the dataclass."""
    width = min(max(shutil.get_terminal_size().columns, 40), 120)
    settings = list(settings_of(kind))
    operands = [setting for setting in settings if setting.positional]
    options = [setting for setting in settings if not setting.positional]
    shown = options if everything or len(options) <= MANY else _most_used(options, kind)
    usage = " ".join([f"usage: redoseg {verb}", *map(operand_name, operands), "[OPTIONS]"])
    lines = [usage, "", *textwrap.wrap(" ".join((kind.__doc__ or "").split()), width)]
    if operands:
        lines += ["", *(line for s in operands for line in _entry(operand_name(s), s, default, width))]
    lines += ["", "options:"]
    lines += [line for setting in shown for line in _entry(_option_names(setting), setting, default, width)]
    if len(shown) < len(options):
        lines += ["", f"{len(options) - len(shown)} more options: redoseg {verb} --help-all"]
    return "\n".join(lines)


def _most_used(options: list[Setting], kind: type[Any]) -> list[Setting]:
    """A verb's own options, and settings of a training up to a dozen."""
    own = [setting for setting in options if setting.owner is kind]
    if len(own) > MANY:
        return [setting for setting in own if setting.name in MOST_USED_OF_SEGMENT]
    named = {setting.name: setting for setting in options if setting.owner is not kind}
    names = [name for name in MOST_USED if name in named]
    if "refine" in kind.__name__.lower():  # the first stage stays
        names = [name for name in names if name.startswith("refine.")]
    return [*own, *(named[name] for name in names)][: max(FIRST, len(own))]


def operand_name(setting: Setting) -> str:
    """How usage calls what needs no name, such as MODEL or [PHOTO ...]."""
    name = "{" + ",".join(setting.choices) + "}" if setting.choices else setting.field.upper()
    name = _NAMES.get(setting.field, name) + (" ..." if setting.several else "")
    return name if setting.default is dataclasses.MISSING else f"[{name}]"


def _option_names(setting: Setting) -> str:
    names = ", ".join([*setting.short, f"--{setting.name}"])
    if setting.flag:
        table, dot, last = setting.name.rpartition(".")
        return f"{names}, --{table}{dot}no-{last}"
    return f"{names} {value_name(setting)}"


def value_name(setting: Setting) -> str:
    """What an option's value is called: its choices, N for a number, or the first word of its unit."""
    if setting.choices:
        return "{" + ",".join(setting.choices) + "}"
    word = "N" if setting.number else setting.unit.split()[0].strip(",").upper()
    return f"{word} ..." if setting.several else word


def _entry(names: str, setting: Setting, default: Any, width: int) -> Iterator[str]:
    value = _default_of(setting, default)
    end = "(required)" if value is dataclasses.MISSING else f"(default: {_shown(value)})"
    about = f"{' '.join(setting.about.split())} [{setting.unit}] {end}"
    indent = " " * _INDENT
    lines = textwrap.wrap(about, width - _INDENT, break_long_words=False)
    first = " " * _MARGIN + names
    if len(first) <= _INDENT - 2:
        yield first.ljust(_INDENT) + lines.pop(0)
    else:
        yield first
    yield from (indent + line for line in lines)


def _shown(value: Any) -> str:
    if value == "":
        return "''"
    if value == ():
        return "none"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _default_of(setting: Setting, default: Any) -> Any:
    if default is None or setting.positional:
        return setting.default
    if isinstance(default, setting.owner):
        return getattr(default, setting.field)
    table: Any = default.config
    for name in setting.name.split(".")[:-1]:
        table = getattr(table, name.replace("-", "_"))
    return getattr(table, setting.field)
