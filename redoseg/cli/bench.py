"""`redoseg bench`: what is measured, and how it is printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redoseg.cli.bench_options import BenchPhotos, BenchPrepare, BenchScaling, BenchSegment, BenchTrain
from redoseg.cli.console import DONE, listed, load_torch, say
from redoseg.cli.parse import HELPS, parse
from redoseg.errors import ConfigError, did_you_mean


def run_bench(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in HELPS:
        print(
            "\n".join(
                ["usage: redoseg bench WHAT ...", "", *listed(BENCHES), "", "--help after one lists its settings."]
            )
        )
        return DONE
    what, *rest = arguments
    if what not in BENCHES:
        raise ConfigError(
            f"bench {what!r} does not exist. {did_you_mean(what, BENCHES, 'Did')}Choose one of "
            f"{', '.join(BENCHES)}; see `redoseg bench --help`."
        )
    kind, measure = BENCHES[what]
    default = None
    if kind in (BenchTrain, BenchScaling):  # as in training, the recipe gives the defaults of every other setting
        from redoseg.config.recipe import load_recipe

        recipe = parse(kind, f"bench {what}", [a for a in rest if a not in HELPS]).recipe
        default = kind(recipe=recipe, config=load_recipe(recipe))
    command = parse(kind, f"bench {what}", rest, default)
    result: dict[str, Any] = {"bench": what, **measure(command)}
    if command.as_json:
        print(json.dumps(result))
    else:
        _say_measured(result)
    return DONE


def _bench_prepare(command: BenchPrepare) -> Mapping[str, Any]:
    from redoseg.bench.prepare import bench_prepare

    return bench_prepare(
        source=command.source,
        images=command.pictures,
        size=command.size,
        rounds=command.rounds,
        workers=command.workers,
        small=command.small,
    )


def _bench_segment(command: BenchSegment) -> Mapping[str, Any]:
    from redoseg.bench.segment import bench_segment

    c = command
    return bench_segment(
        count=c.pictures,
        rounds=c.rounds,
        size=c.size,
        starts=c.starts,
        folder=c.folder,
        small=c.small,
        many=c.many,
    )


def _bench_train(command: BenchTrain) -> Mapping[str, Any]:
    load_torch()
    import torch

    from redoseg.bench.train import bench_train
    from redoseg.train.compute import pick_device

    if command.config.threads:
        torch.set_num_threads(command.config.threads)
    return bench_train(
        command.config,
        pick_device(command.device),
        rounds=command.rounds,
        steps=command.turn,
        same=command.same,
        each=command.each,
        layers=command.roofline,
    )


def _bench_photos(command: BenchPhotos) -> Mapping[str, Any]:
    load_torch()
    import torch

    from redoseg.bench.photos import bench_photos

    if command.threads:
        torch.set_num_threads(command.threads)
    return bench_photos(recipes=command.recipes, data=command.data, counts=command.pictures, rounds=command.rounds)


def _bench_scaling(command: BenchScaling) -> Mapping[str, Any]:
    load_torch()
    import torch

    from redoseg.bench.scaling import bench_scaling

    if command.config.threads:
        torch.set_num_threads(command.config.threads)
    return bench_scaling(
        command.config,
        sizes=command.sizes,
        regions=command.regions,
        images=command.pictures,
        processes=command.processes,
        rounds=command.rounds,
        steps=command.turn,
    )


def _say_measured(result: dict[str, Any]) -> None:
    """What a benchmark found, or parts of it: speeds and ratios as lines, the rest as JSON."""
    for part in [name for name, value in result.items() if isinstance(value, dict) and "per_second" in value]:
        say(f"{part}:")
        _say_measured(result.pop(part))
    for name, speeds in result.get("per_second", {}).items():
        say(f"{name}: {', '.join(f'{s:.4g}' for s in speeds)} a second")
    for name, ratio in result.get("ratio", {}).items():
        say(f"{name}: {ratio['median']:.2f} times as fast ({ratio['least']:.2f} to {ratio['most']:.2f})")
    rest = {k: v for k, v in result.items() if k not in ("per_second", "ratio")}
    say(json.dumps(rest, indent=1))


BENCHES: dict[str, tuple[type[Any], Callable[[Any], Mapping[str, Any]]]] = {
    "prepare": (BenchPrepare, _bench_prepare),
    "segment": (BenchSegment, _bench_segment),
    "train": (BenchTrain, _bench_train),
    "photos": (BenchPhotos, _bench_photos),
    "scaling": (BenchScaling, _bench_scaling),
}
