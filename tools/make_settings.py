"""Write docs/settings.md from the dataclasses and recipes: python tools/make_settings.py"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from dataclasses import MISSING
from importlib import resources
from pathlib import Path
from typing import Any

from redoseg.cli.bench import BENCHES
from redoseg.cli.verbs import VERBS
from redoseg.config.describe import Setting, settings_of
from redoseg.config.recipe import flat, load_recipe, recipe_names, to_values
from redoseg.config.schema import Config, ranges

TABLES = {  # after the name of a table of settings, what it is for
    "": "The run",
    "data": "Pictures",
    "nets": "Networks",
    "objective": "Losses",
    "optim": "Optimisers",
    "speed": "Ways to compute",
    "refine": "Second stage",
    "redraw": "Third stage",
    "watch": "Logging and collapse",
}
RANGES = {key: (least, most) for key, least, most in ranges(Config())}
WHERE = Path(__file__).parents[1] / "docs" / "settings.md"


def text() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_settings(), RECIPES, *_recipes(), VERBS_HEAD, *_verbs()]).rstrip("\n") + "\n"


HEAD = """\
# Settings

Written by `python tools/make_settings.py` from the code: change the docstrings there, not this page.

Every setting of a run has a default, here that of the published runs; a recipe changes some, and the command line any:
`redoseg train shapes --objective.self-redraw-weight 5` is `self_redraw_weight = 5.0` under `[objective]` in a recipe,
for one run. `redoseg train shapes --dry-run --json` prints what a run would use, and `redoseg train shapes --help-all`
the same with the recipe's defaults. For a setting of true or false, `--data.flip` says true and `--data.no-flip` false.

A recipe is a TOML file: copy one from `redoseg/recipes/` and change it. What it does not name keeps the default below;
an unknown name, a wrong type or a value out of range is refused.
"""

RECIPES = """\
## Recipes

What each recipe changes; an empty cell is the default. `redoseg train --data FOLDER` starts from `photos`, with
your pictures instead of its own.
"""

VERBS_HEAD = """\
## Verbs

What each verb takes beside the settings above, which `train`, `bench train` and `bench scaling` take too.
"""


def _shown(value: Any) -> str:
    if value is MISSING:
        return "must be given"
    if value in ("", (), None):
        return ""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    lines = [list(heads), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines] + [""]


def _meaning(setting: Setting) -> str:
    choices = f" One of: {', '.join(f'`{c}`' for c in setting.choices)}." if setting.choices else ""
    return setting.about + ("" if setting.about.endswith(".") else ".") + choices


def _range(key: str, default: Any) -> str:
    if isinstance(default, bool | str):
        return ""
    if key == "data.size":
        return "16, 32, 64, 128, ..."
    low, high = RANGES[key]
    return f"from {low:g}" if high == math.inf else f"{low:.16g} to {high:.16g}"


def _settings() -> list[str]:
    lines = []
    settings = list(settings_of(Config))
    for table, title in TABLES.items():
        lines += [f"## {title}{f': `[{table}]`' if table else ''}", ""]
        rows = []
        for setting in settings:
            if setting.name.rpartition(".")[0] == table:
                key = f"{table}.{setting.field}" if table else setting.field
                rows.append(
                    (f"`{key}`", _shown(setting.default), _range(key, setting.default), setting.unit, _meaning(setting))
                )
        lines += _table(("setting", "default", "allowed", "unit", "meaning"), rows)
    return lines


def _recipes() -> list[str]:
    defaults = flat(to_values(Config()))
    recipes = {name: flat(to_values(load_recipe(name))) for name in recipe_names()}
    changed = [key for key in defaults if any(values[key] != defaults[key] for values in recipes.values())]
    rows = [
        (
            f"`{key}`",
            _shown(defaults[key]),
            *("" if values[key] == defaults[key] else _shown(values[key]) or "(empty)" for values in recipes.values()),
        )
        for key in changed
    ]
    lines = [f"- `{name}`: {_comment(name)}" for name in recipes]
    return [*lines, "", *_table(("setting", "default", *(f"`{name}`" for name in recipes)), rows)]


def _comment(recipe: str) -> str:
    """What stands above the settings in a recipe, its commands left out."""
    said = []
    for line in (resources.files("redoseg") / "recipes" / f"{recipe}.toml").read_text().splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# redoseg "):
            said.append(line.removeprefix("# "))
    return " ".join(said)


def _verbs() -> list[str]:
    lines = []
    kinds = {name: kind for name, (kind, _) in VERBS.items()}
    kinds |= {f"bench {name}": kind for name, (kind, _) in BENCHES.items()}
    for name, kind in kinds.items():
        own = [s for s in settings_of(kind) if s.owner is kind]
        lines += [f"### `redoseg {name}`", "", (kind.__doc__ or "").splitlines()[0], ""]
        if own:
            rows = []
            for setting in own:
                names = [setting.name.upper()] if setting.positional else [f"--{setting.name}", *setting.short]
                shown = ", ".join(f"`{option}`" for option in names)
                rows.append((shown, _shown(setting.default), setting.unit, _meaning(setting)))
            lines += _table(("setting", "default", "unit", "meaning"), rows)
    return lines


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    WHERE.write_text(text())
