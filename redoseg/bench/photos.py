"""How long a recipe trains on a folder of photographs, against another one: from their steps, timed in turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import torch

from redoseg.bench.results import PhotosResult
from redoseg.bench.timing import digits, hardware, ratios
from redoseg.config.recipe import load_recipe
from redoseg.config.schema import Config
from redoseg.errors import DataError
from redoseg.train.forecast import forecast
from redoseg.train.stage_data import RunData
from redoseg.train.time_left import Forecast


def bench_photos(
    *,
    recipes: Sequence[str] = ("photos-redrawing", "photos"),
    data: str = "shapes-hard",
    counts: Sequence[int] = (416, 4899),
    rounds: int = 3,
) -> PhotosResult:
    """Seconds of whole trainings, without scores, exports and the preparation of photographs.

    Steps and targets of each recipe are timed, in turns, and multiplied by how many a training has.

    Args:
        recipes: the first is the reference.
        data: what is learnt from: pictures that are there are enough, whatever their number.
        counts: sizes of the sets that times are given for.
        rounds: times that the recipes take turns.

    Raises ConfigError, DataError.
    """
    if rounds < 1 or len(recipes) < 2 or not counts or min(counts) < 1:
        raise DataError("expected two recipes or more, one round or more, and sets of at least one picture")
    configs = {name: _config(name, data) for name in recipes}
    opened = {name: RunData.open(config, torch.device("cpu")) for name, config in configs.items()}
    found: dict[str, list[Forecast]] = {name: [] for name in recipes}
    for number in range(rounds):
        for name in list(recipes) if number % 2 == 0 else list(recipes)[::-1]:
            found[name].append(forecast(configs[name], opened[name]))
    seconds = {
        _named(name, count): [
            digits(f.first_stage(configs[name]) + f.second_stage(configs[name], count)) for f in of_recipe
        ]
        for name, of_recipe in found.items()
        for count in counts
    }
    reference, *others = recipes
    return {
        "seconds": seconds,
        "ratio": {
            _named(name, count): ratios(seconds[_named(reference, count)], seconds[_named(name, count)])
            for name in others
            for count in counts
        },
        "each": {
            name: {
                "step": [digits(median(f.step for f in of_recipe))],
                "target": [digits(median(of_round)) for of_round in zip(*(f.targets for f in of_recipe), strict=True)],
                "refine_step": [
                    digits(median(of_round)) for of_round in zip(*(f.refine_steps for f in of_recipe), strict=True)
                ],
            }
            for name, of_recipe in found.items()
        },
        "hardware": {**hardware(), "threads": torch.get_num_threads()},
    }


def _named(recipe: str, count: int) -> str:
    return f"{recipe}, {count:,} pictures"


def _config(recipe: str, data: str) -> Config:
    config = load_recipe(recipe)
    return replace(config, data=replace(config.data, source=data, split="", evaluate_on=""))
