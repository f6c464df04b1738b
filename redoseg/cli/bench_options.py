"""What `redoseg bench` takes, as dataclasses; help texts as in cli/options.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from redoseg.config.schema import Config


@dataclass(frozen=True)
class Bench:
    """Speed beside a plain version, in turns in one run, and memory: `redoseg bench` lists what is measured."""


@dataclass(frozen=True)
class BenchPrepare:
    """Preparing pictures, against a plain loop over the same large JPEGs."""

    source: Path | None = None
    """Your own JPEGs; photograph-like ones of 2,000 to 3,200 pixels are made if none is given [folder]"""
    pictures: int = 256
    """Large pictures to make [pictures]"""
    size: int = 128
    """Side to prepare at [pixels]"""
    rounds: int = 5
    """Times that both take turns [rounds]"""
    workers: int = 0
    """Threads that decode; 0 takes one for each core [threads]"""
    small: int = 0
    """Also prepare this many small pictures and measure the memory; 0 skips that [pictures]"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object and nothing else [true/false]"""


@dataclass(frozen=True)
class BenchSegment:
    """Segmenting, against eager PyTorch and against a plain loop over the same photographs."""

    pictures: int = 256
    """Pictures that the network sees, made at its size [pictures]"""
    rounds: int = 5
    """Times that the ways take turns [rounds]"""
    size: int = 128
    """Side that the network sees [pixels]"""
    starts: int = 7
    """Times that `redoseg segment` is started for one photograph [starts]"""
    folder: int = 1000
    """Photographs of 640 x 480 to make, from decoding to the written mask [photographs]"""
    small: int = 0
    """Also segment this many of them and measure the memory; 0 skips that [photographs]"""
    many: int = 0
    """The same with another number, to see whether memory grows with it; 0 skips that [photographs]"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object and nothing else [true/false]"""


@dataclass(frozen=True)
class BenchTrain:
    """Training steps, against the plain version of the same step: float32, nothing merged, nothing kept."""

    recipe: tyro.conf.Positional[str] = "shapes"
    """Recipe whose steps are timed, on built-in pictures of its size [file or name]"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU if there is one [name]"""
    rounds: int = 5
    """Times that both take turns [rounds]"""
    turn: int = 10
    """Steps in a turn [steps]"""
    same: int = 0
    """Also train both for this many steps from one seed and print how far their losses differ; 0 skips that [steps]"""
    each: bool = False
    """Also time the plain version with each of our ways alone [true/false]"""
    roofline: bool = False
    """Also print what limits each layer: arithmetic or memory [true/false]"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object and nothing else [true/false]"""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    """Settings that override the recipe's"""


@dataclass(frozen=True)
class BenchPhotos:
    """Whole trainings of a recipe on a folder of photographs, against another recipe, from their timed steps."""

    recipes: tuple[str, ...] = ("photos-redrawing", "photos")
    """Recipes to compare; the first is the reference [files or names]"""
    data: str = "shapes-hard"
    """What is learnt from; a few pictures are enough [folder or name]"""
    pictures: tuple[int, ...] = (416, 4899)
    """Sizes of the sets that times are given for [pictures]"""
    rounds: int = 3
    """Times that the recipes take turns [rounds]"""
    threads: int = 0
    """Threads to compute with; 0 takes one for each core [threads]"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object and nothing else [true/false]"""


@dataclass(frozen=True)
class BenchScaling:
    """How training's cost grows with resolution, regions, pictures and processes, on a CPU; many devices as a model."""

    recipe: tyro.conf.Positional[str] = "shapes"
    """Recipe to start from, on built-in pictures [file or name]"""
    sizes: tuple[int, ...] = (32, 64, 128, 256)
    """Sides of the pictures; the first is the reference [pixels]"""
    regions: tuple[int, ...] = (2, 3, 4)
    """Numbers of regions; the first is the reference [regions]"""
    pictures: tuple[int, ...] = (1_000, 10_000, 100_000)
    """Sizes of the set, of 64-pixel pictures [pictures]"""
    processes: tuple[int, ...] = (1, 2)
    """Processes that train together, one thread each [processes]"""
    rounds: int = 3
    """Times that all take turns [rounds]"""
    turn: int = 3
    """Steps in a turn [steps]"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object and nothing else [true/false]"""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    """Settings that override the recipe's"""
