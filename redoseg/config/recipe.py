"""TOML recipe -> one checked `Config`; and back to plain values for config.json."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import math
import re
import tomllib
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from redoseg.config.schema import STARTS, Config, ranges
from redoseg.errors import ConfigError, did_you_mean
from redoseg.files import at_home, describe_error, text_of


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the package."""
    folder = resources.files("redoseg") / "recipes"
    found = [f.name for f in folder.iterdir()] + [f"report/{f.name}" for f in (folder / "report").iterdir()]
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def load_recipe(recipe: str) -> Config:
    """A recipe file, or the name of one that ships with the package, as a checked configuration.

    Raises ConfigError for a missing file, broken TOML, an unknown key, a wrong type or a value out of range.
    """
    try:
        file = at_home(recipe)
        text = file.read_bytes() if file.is_file() else None
    except OSError as error:
        raise ConfigError(f"recipe {recipe} cannot be read ({error.strerror}); choose a TOML file") from None
    name = re.sub("^seed/", "report/", recipe)  # these recipes were once called seed/*
    if text is None and name in recipe_names():
        text = (resources.files("redoseg") / "recipes" / f"{name}.toml").read_bytes()
    if text is None:
        hint = did_you_mean(name.removesuffix(".toml"), recipe_names())
        raise ConfigError(
            f"recipe {recipe} does not exist; {hint}choose a TOML file or one of {', '.join(recipe_names())}"
        )
    try:
        values = tomllib.loads(text_of(text))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {recipe} is not a TOML file ({describe_error(error)}); correct it") from None
    return from_values(values, f"recipe {recipe}")


def from_values(values: dict[str, Any], where: str) -> Config:
    """Nested plain values -> checked configuration; what is absent keeps its default."""
    config = at_home_in(_fill(Config, values, "", where))
    check(config, where)
    return config


def at_home_in(settings: Any) -> Any:
    """A dataclass of settings, in which ~ at the start of each path is replaced. A path is what its unit calls one."""
    from redoseg.config.describe import docstrings

    changed: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        before = getattr(settings, field.name)
        after = before
        if dataclasses.is_dataclass(before):
            after = at_home_in(before)
        elif isinstance(before, Path):
            after = at_home(before)
        elif isinstance(before, tuple) and any(_in_home(value) for value in before):
            after = tuple(type(value)(at_home(value)) if _in_home(value) else value for value in before)
        elif isinstance(before, str) and _in_home(before):
            unit = docstrings(type(settings))[field.name].rpartition("[")[2]
            after = str(at_home(before)) if re.search("path|folder|file", unit) else before
        if after is not before and after != before:
            changed[field.name] = after
    return dataclasses.replace(settings, **changed) if changed else settings


def _in_home(value: object) -> bool:
    return isinstance(value, str | Path) and str(value).startswith("~")


def to_values(config: Config) -> dict[str, Any]:
    """The configuration as nested plain values, for JSON."""
    return dataclasses.asdict(config)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    items: dict[str, Any] = {}
    for key, value in values.items():
        items |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return items


def nested(items: dict[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} -> {"a": {"b": 1}}."""
    values: dict[str, Any] = {}
    for key, value in items.items():
        *tables, name = key.split(".")
        table = values
        for part in tables:
            table = table.setdefault(part, {})
        table[name] = value
    return values


def to_toml(config: Config) -> str:
    """The configuration as a recipe that names every setting."""
    values = to_values(config)
    # numbers, texts, true and false are written in TOML as in JSON
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for table, settings in values.items():
        if isinstance(settings, dict):
            lines += ["", f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items())]
    return "\n".join(lines) + "\n"


def differences(old: Config, new: Config) -> list[str]:
    """The settings that differ, as `name: old -> new`."""
    before, after = flat(to_values(old)), flat(to_values(new))
    return [f"{key}: {before[key]} -> {after[key]}" for key in before if before[key] != after[key]]


def anywhere(config: Config) -> Config:
    """The settings without where pictures, masks and a model that stays are, to compare runs whose folders moved."""
    data, refine = config.data, config.refine
    start = refine.start if refine.start in STARTS else "a folder"
    return replace(
        config,
        data=replace(data, source="", evaluate_on="a set" if data.evaluate_on else ""),
        nets=replace(config.nets, extractor_from="a model") if config.masks_stay else config.nets,
        refine=replace(refine, start=start, corrected="corrections" if refine.corrected else ""),
    )


def check(config: Config, where: str = "settings") -> None:
    """Raise ConfigError where a value is out of its range or two settings contradict each other."""
    _check_ranges(config, where)
    _check_sizes(config, where)
    _check_stages(config, where)
    _check_regions(config, where)
    _check_game(config, where)


def _check_ranges(config: Config, where: str) -> None:
    values = flat(to_values(config))
    for key, low, high in ranges(config):
        value = values[key]
        if not (low <= value <= high and math.isfinite(value)):
            bounds = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise ConfigError(f"{where}: {key} is {value}, but must be {bounds}; {_correct(key, where)}")


def _check_sizes(config: Config, where: str) -> None:
    """The sides of pictures in both stages, and what networks need of them."""
    early = config.round_size(1)
    for key, size in (
        ("data.size", config.data.size),
        ("refine.size", config.refined_size),
        ("refine.early_size", early),
    ):
        if size < 16 or size % 4 or (size // 4) & (size // 4 - 1):
            raise ConfigError(
                f"{where}: {key} is {size}, but must be 4 times a power of two, such as 16, 32, 64 or 128; "
                f"{_correct(key, where)}"
            )
    if config.refined_size < config.data.size:
        raise ConfigError(
            f"{where}: refine.size is {config.refine.size}, but must be at least data.size ({config.data.size}); "
            f"{_correct('refine.size', where)}"
        )
    if not config.data.size <= early <= config.refined_size:
        raise ConfigError(
            f"{where}: refine.early_size is {early}, but must be from data.size ({config.data.size}) to refine.size "
            f"({config.refined_size}); {_correct('refine.early_size', where)}"
        )
    for key, net, place, pixels in (
        ("nets.extractor", config.nets.extractor, "data.size", config.data.size),
        (
            "refine.student",
            config.refine.student if config.has_second_stage else "",
            "refine.early_size" if config.refine.early_size else "refine.size",
            early,
        ),
    ):
        if net == "unet" and pixels < 32:
            raise ConfigError(
                f"{where}: {key} unet needs pictures of 32 px or more, but they have {pixels} px; raise {place}"
            )


def _check_stages(config: Config, where: str) -> None:
    """What needs another stage, and what the second one starts from."""
    start = config.refine.start
    if start != "run" and not config.has_second_stage:
        raise ConfigError(
            f"{where}: refine.start {start} needs the second stage, but refine.rounds is 0; set --refine.rounds 2, or "
            "--refine.start run"
        )
    if config.redraw.steps and not config.has_second_stage:
        raise ConfigError(
            f"{where}: redraw.steps needs the masks of a second stage, but refine.rounds is 0; set --refine.rounds 2, "
            "or redraw.steps 0"
        )
    if config.refine.corrected and not config.has_second_stage:
        raise ConfigError(
            f"{where}: refine.corrected needs the second stage, but refine.rounds is 0; set --refine.rounds 2, or "
            "refine.corrected ''"
        )
    if start == "square" and config.refine.start_size >= 0.5:
        raise ConfigError(
            f"{where}: refine.start_size is {config.refine.start_size:g}, but must be below 0.5 for a square; "
            f"{_correct('refine.start_size', where)}"
        )
    if config.refine.furthest < config.refine.closest:
        raise ConfigError(
            f"{where}: refine.furthest is {config.refine.furthest:g}, but must be refine.closest "
            f"({config.refine.closest:g}) or more; {_correct('refine.furthest', where)}"
        )
    if config.refine.judge == "redraw" and start != "run":
        raise ConfigError(
            f"{where}: --refine.judge redraw cannot be combined with --refine.start {start}, which skips the first "
            "stage: no generators are trained that could redraw; remove one of the two"
        )


def _check_regions(config: Config, where: str) -> None:
    """What is there for an object and its ground alone."""
    for key, wanted in (
        ("refine.start", config.refine.start != "run"),
        ("refine.corrected", config.refine.corrected != ""),
        ("refine.composites", config.refine.composites > 0),
        ("redraw.steps", config.redraw.steps > 0),
        ("objective.move", config.objective.move > 0),
        ("nets.extractor_from", config.nets.extractor_from != ""),
        ("watch.picture_scores", config.watch.picture_scores),
    ):
        if wanted and config.nets.regions != 2:
            raise ConfigError(
                f"{where}: {key} needs two regions, but nets.regions is {config.nets.regions}; set nets.regions "
                f"to 2, or remove {key}"
            )
    for number, key in ((1, "refine.sharpen"), (2, "refine.sharpen_later")):
        if config.refine.cut_in(number) != "off" and config.nets.regions != 2:
            raise ConfigError(
                f"{where}: {key} {config.refine.cut_in(number)} needs two regions, but nets.regions is "
                f"{config.nets.regions}; set nets.regions to 2, or {key} to off"
            )


def _check_game(config: Config, where: str) -> None:
    """What of the objective contradicts other settings."""
    # the recipe `redraw` has no masks yet: those are what its user adds
    if where == "settings" and config.optim.extractor_rate == 0 and not config.nets.extractor_from:
        raise ConfigError(
            f"{where}: optim.extractor_rate 0 keeps the masks of nets.extractor_from, which is empty; set "
            "--nets.extractor-from to a run or a model, or raise optim.extractor_rate"
        )
    if config.objective.latent_from == "composites" and config.objective.redraw in ("one", "together"):
        raise ConfigError(
            f"{where}: objective.latent_from composites needs objective.redraw each or object, but it is "
            f"{config.objective.redraw}; set objective.redraw to one of these"
        )
    if config.objective.real_penalty and config.speed.compile != "off":
        raise ConfigError(
            f"{where}: objective.real_penalty cannot be combined with speed.compile {config.speed.compile}, which "
            "takes no gradient of a gradient; set speed.compile to off, or objective.real_penalty to 0"
        )
    if config.objective.floor * config.nets.regions > 1:
        raise ConfigError(
            f"{where}: objective.floor is {config.objective.floor:g}, but can be at most "
            f"{1 / config.nets.regions:.3g} with {config.nets.regions} regions; "
            f"{_correct('objective.floor', where)}"
        )


def _correct(key: str, where: str) -> str:
    """What to do about a wrong value: a recipe is checked when it is read, so a later one is an option's."""
    return f"change --{key.replace('_', '-')}" if where == "settings" else "correct it there"


def _fill(kind: type, values: dict[str, Any], prefix: str, where: str) -> Any:
    hints = get_type_hints(kind)
    for key in values:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, 1)
            hint = f"did you mean {prefix}{near[0]}?" if near else "remove it"
            raise ConfigError(
                f"{where}: unknown setting {prefix}{key}; expected one of {', '.join(sorted(hints))}; {hint}"
            )
    filled = {key: _value(hints[key], value, prefix + key, where) for key, value in values.items()}
    return kind(**filled)


def _value(hint: Any, value: Any, key: str, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise ConfigError(
                f"{where}: {key} is {value!r}, but must be a table; write its settings below a line [{key}]"
            )
        return _fill(hint, value, f"{key}.", where)
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        expected = f"one of {', '.join(get_args(hint))}"
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # a whole number of hundreds of digits
            if math.isfinite(float(value)):
                return float(value)
        expected = "a finite number"
    elif type(value) is hint:
        return value
    else:
        expected = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[hint]
    raise ConfigError(f"{where}: {key} is {value!r}, but must be {expected}; {_correct(key, where)}")
