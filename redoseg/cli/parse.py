"""Arguments to a verb's options, with tyro. A mistake becomes one line.

tyro reports a mistake in a drawn box. The shape of that box is known here and nowhere else; pyproject.toml bounds
tyro's version, and tests/cli/test_parse.py fails first when the box changes.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import TypeVar

import tyro

from redoseg.cli.help import help_of, operand_name, value_name
from redoseg.config.describe import Setting, settings_of
from redoseg.config.recipe import at_home_in
from redoseg.errors import ConfigError, did_you_mean

T = TypeVar("T")


HELPS = ("-h", "--help", "--help-all")


def parse(kind: type[T], verb: str, arguments: Sequence[str], default: T | None = None) -> T:
    """A verb's options, of the dataclass `kind`; `default` gives the values that the arguments do not.

    Raises ConfigError with one line for a mistake, and SystemExit after --help.
    """
    if {*HELPS} & set(arguments):
        print(help_of(kind, verb, default, everything="--help-all" in arguments))
        raise SystemExit(0)
    settings = list(settings_of(kind))
    _refuse_empty(settings, arguments)
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), contextlib.suppress(SystemExit):
        read: Callable[..., T] = tyro.cli
        command = read(kind, prog=f"redoseg {verb}", args=operands_first(settings, arguments), default=default)
        return at_home_in(command)
    mistake, similar = read_box(printed.getvalue())
    hint = f"Did you mean {similar}? " if similar else _similar(mistake, settings)
    raise ConfigError(f"{_plain(_named(mistake, settings))}. {hint}See `redoseg {verb} --help`.")


def _refuse_empty(settings: Sequence[Setting], arguments: Sequence[str]) -> None:
    """Raises ConfigError for an empty word in the place of a path or a name, where "" would be the current folder."""
    options = {name: s for s in settings if not s.positional and not s.flag for name in (f"--{s.name}", *s.short)}
    before = ""
    for word in arguments:
        name, equals, value = word.partition("=")
        option = options.get((name if equals else before).replace("_", "-"))
        if word == "" or (equals and value == "" and name.startswith("-")):
            if option is None and word == "":
                named = next((operand_name(s) for s in settings if s.positional and s.default is MISSING), "")
            else:
                needed = option is not None and (option.default is MISSING or isinstance(option.default, Path))
                named = (name if equals else before) if needed else ""
            if named:
                raise ConfigError(
                    f"{named} is empty, but must name something: if it is a variable of the shell, set that"
                )
        before = word


def operands_first(settings: Sequence[Setting], arguments: Sequence[str]) -> list[str]:
    """The arguments with all operands before the options, so that several may also come after an option.

    Only where one operand takes several values and no option does, so that it is clear which word belongs to what.
    """
    if not any(s.positional and s.several for s in settings) or any(s.several for s in settings if not s.positional):
        return list(arguments)
    takes = {name for s in settings if not s.flag and not s.positional for name in (f"--{s.name}", *s.short)}
    operands, options = [], []
    words = iter(arguments)
    for word in words:
        if not word.startswith("-") or word == "-":
            operands.append(word)
            continue
        options.append(word)
        if word.replace("_", "-") in takes:
            options += [value for value in (next(words, None),) if value is not None]
    return [*operands, *options]


def _similar(mistake: str, settings: Sequence[Setting]) -> str:
    """A hint at the word that was meant, where a known one is similar."""
    choice = re.search(r"invalid choice '([^']*)' for argument '[^']*'. Expected one of \((.*)\)", mistake)
    if choice:
        return did_you_mean(choice[1], re.findall(r"'([^']*)'", choice[2]), "Did")
    unknown = re.search(r"Unrecognized options: --([^,=\s]+)", mistake)
    names = ["help", "help-all", *(s.name for s in settings if not s.positional)]
    return did_you_mean(unknown[1], names, "Did").replace("mean ", "mean --") if unknown else ""


def _named(mistake: str, settings: Sequence[Setting]) -> str:
    """A mistake that names what is missing as the help does: MODEL rather than STR."""
    if not mistake.startswith("Missing from"):
        return mistake
    start = mistake[: mistake.index(":") + 1]
    squeezed = re.sub(r"\W", "", mistake)
    needed = [s for s in settings if s.default is MISSING and re.sub(r"\W", "", s.about) in squeezed]
    names = [
        operand_name(s) if s.positional else f"{['', *s.short][-1] or '--' + s.name} {value_name(s)}" for s in needed
    ]
    return f"{start} {', '.join(names)}" if names else mistake


def _plain(mistake: str) -> str:
    """tyro's words as ours: what was given and what is expected."""
    if found := re.fullmatch(r"Missing from (.+?): (.*)", mistake):
        return f"`{found[1]}` needs {' and '.join(found[2].rsplit(', ', 1))}"
    if found := re.fullmatch(r"Missing value for argument '(.+)'\. Expected .*", mistake):
        return f"{found[1].split('/')[-1]} needs a value"
    if found := re.fullmatch(r"invalid choice '(.*)' for argument '(.+)'\. Expected one of \((.*)\)", mistake):
        known = ", ".join(re.findall(r"'([^']*)'", found[3]))
        return f"{found[2]} is '{found[1]}', but must be one of {known}"
    if found := re.fullmatch(r"Unrecognized options: (.*)", mistake):
        unknown = [word for word in found[1].split(", ") if word.startswith("-")]  # others are values of these
        if not unknown:
            return f"There are more values than expected ({found[1]})"
        return f"There is no option {' or '.join(unknown)}"
    if found := re.fullmatch(r"Error parsing (\S+): (.*)", mistake):
        name, why = found.groups()
        kind = "a number" if "float" in why else "a whole number"
        if value := re.search(r"(?:invalid literal for int\(\) with base 10|string to float): (.*)", why):
            return f"{name} is {value[1]}, but must be {kind}"
        if values := re.fullmatch(r"Could not find valid parse for arguments: \[(.*)\]", why):
            return f"{name} is {values[1]}, but must be numbers"
    return mistake


def read_box(box: str) -> tuple[str, str]:
    """What tyro's box says is wrong, and for an unknown option the most similar one, or "".

    The box has a title and parts with rules between them. It is drawn in ASCII where stdout is not UTF-8.
    """
    lines = [re.sub(r"^[│|╭╰+]|[│|╮╯+]$", "", line).strip() for line in box.splitlines()]
    first, *others = re.split(r"\n[─-]{3,}\n", "\n".join(lines[1:-1]).strip("─-\n"))
    mistake = " ".join(first.split()).rstrip(".")
    similar = re.search(r"^--\S.*$", "\n".join(others), re.M) if "Unrecognized" in mistake else None
    return mistake, similar[0].split(" (")[0] if similar else ""
