"""The command line. Each verb imports what it needs when it runs, so that help and segmenting start at once.

Exit codes: 0 done; 1 done in part, the rest is listed; 2 a mistake of the user's, one line; 130 stopped by hand.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from redoseg import __version__
from redoseg.config.schema import Config
from redoseg.errors import ConfigError, RedosegError
from redoseg.system import forget_world, world

if TYPE_CHECKING:
    from rich.console import Console

DONE, IN_PART, MISTAKE, STOPPED = 0, 1, 2, 130
EXTRAS = {  # optional part of the package -> modules that it brings
    "train": ("torch", "safetensors", "onnx", "matplotlib", "jaxtyping", "requests"),
    "serve": ("gradio",),
    "hub": ("huggingface_hub",),
}
DEFAULT_RECIPE = "photos"  # what `train --data FOLDER` runs: two cores finish it in less than an hour

T = TypeVar("T")


@dataclass(frozen=True)
class Train:
    """Learn to cut out the object from pictures alone. Settings given here override the recipe's."""

    recipe: tyro.conf.Positional[str] = ""
    """Recipe: a TOML file, or the name of one that ships with redoseg [file or name]"""
    data: str = ""
    """Train on this folder of pictures or prepared set; alone, with the recipe photos [folder]"""
    out: Path | None = None
    """Run folder to make; runs/RECIPE-seedN if not given [folder]"""
    resume: bool = False
    """Go on with the run in --out where it stopped; more --steps are allowed [true/false]"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; auto takes a GPU if there is one [name]"""
    dry_run: bool = False
    """Print the settings that would be used, as JSON, and stop [true/false]"""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    """Settings"""


@dataclass(frozen=True)
class Evaluate:
    """Score a model on pictures with masks, beside methods that learn nothing."""

    model: tyro.conf.Positional[str]
    """Run folder, model folder, or the name of weights in the package [path or name]"""
    data: tyro.conf.Positional[str]
    """Prepared set, folder with images/ and masks/, or shapes, shapes-hard (held-out part) [path or name]"""
    split: str = ""
    """Score only this part of the set [name, empty for all]"""
    seed: int = 0
    """Seed of built-in pictures [number]"""
    size: int | None = None
    """Side to score at; if none, a prepared set's own, the model's for built-in pictures, else 128 [pixels]"""
    edges: Literal["plain", "guided", "grabcut"] = "plain"
    """plain scores the network itself, guided what `segment` writes, grabcut what its --edges grabcut does [name]"""
    own_size: bool = False
    """Instead score all at the pictures' own size, the edge's F-score with them [true/false]"""
    methods: tuple[str, ...] = ("kmeans", "grabcut")
    """Methods to print beside the model: kmeans, watershed, grabcut, iem (slow), otsu, square, everything [names]"""
    picture: Path | None = None
    """Also write a before/after picture of some of them here [file ending in .png]"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object and nothing else [true/false]"""


@dataclass(frozen=True)
class Segment:
    """Cut the object out of photographs: a mask of each picture's own size."""

    model: tyro.conf.Positional[str]
    """Run folder, model folder, or the name of weights in the package [path or name]"""
    source: tyro.conf.Positional[Path]
    """A picture, or a folder whose sub-folders are mirrored [path]"""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder to write to; for one picture also a file ending in .png [path]"""
    kind: Annotated[Literal["mask", "soft", "cutout", "overlay", "coco"], tyro.conf.arg(name="as")] = "mask"
    """mask: 0 and 255; soft: 0 to 255; cutout: transparent background; overlay: drawn on the picture; coco: one JSON
    file of run-length codes and boxes [name]"""
    crop: bool = False
    """Cut each result to the box around the object [true/false]"""
    review: bool = False
    """Also write contact sheets of a folder, from the least to the most sure picture, and a table [true/false]"""
    edges: Literal["guided", "plain", "grabcut"] = "guided"
    """guided: a mask takes its edges from the photograph; plain: it is the network's, enlarged; grabcut: the colours
    of both sides decide anew, better where object and ground differ in them, and slower [name]"""
    label: str = ""
    """What the object is called in coco.json; the model's name if not given [name]"""
    overwrite: bool = False
    """Replace files that are already there; inputs never [true/false]"""


@dataclass(frozen=True)
class Serve:
    """A page to drop photographs on and to follow training runs; for this computer alone unless told otherwise."""

    model: tyro.conf.Positional[str] = "flowers"
    """Run folder, model folder, or the name of weights in the package [path or name]"""
    run: tuple[Path, ...] = ()
    """Run folders whose progress the second tab shows [folders]"""
    examples: Path | None = None
    """Folder whose first pictures are offered to try [folder]"""
    host: str = "127.0.0.1"
    """Where to listen; 0.0.0.0 lets every computer of the network in [name or address]"""
    port: int = 7860
    """Where to listen; 0 takes a free one [port]"""
    max_mb: float = 30.0
    """Largest file that may be uploaded [MB]"""
    max_megapixels: float = 50.0
    """Largest picture that is decoded [million pixels]"""


@dataclass(frozen=True)
class Prepare:
    """Decode a set of pictures once, into arrays that training maps into memory. Stopped, the same command goes on."""

    name: tyro.conf.Positional[str]
    """flowers102, flowers17, lfw, cub200-2011, butterflies, horses, celebamask, folder; or a mix, as a+b [name]"""
    out: Path
    """Prepared set to make [folder]"""
    source: tuple[Path, ...] = ()
    """Folder in the set's official layout, or of any pictures, or images/ and masks/; of a mix one a part [folders]"""
    download: bool = False
    """Fetch the official archives into --source first, or into the user's cache if none is given [true/false]"""
    splits: Path | None = None
    """Lists of names in place of the set's own splits: lines of name,split or a folder with train.txt ... [path]"""
    size: int = 128
    """Side of the prepared pictures [pixels]"""
    nearest: bool = False
    """Take nearest pixels, as the published runs did, instead of smoothed ones [true/false]"""
    workers: int = 0
    """Processes that decode; 0 takes one a core [processes]"""


@dataclass(frozen=True)
class Data:
    """What is in a prepared set, and a contact sheet of it."""

    path: tyro.conf.Positional[Path]
    """Prepared set [folder]"""
    sheet: Path | None = None
    """Where to write the contact sheet; contact-sheet.png in the set's own folder if not given [file]"""


@dataclass(frozen=True)
class Quantize:
    """Make an int8 copy of a model, about twice as fast. It looks at pictures like those to segment; no masks."""

    model: tyro.conf.Positional[str]
    """Run folder, model folder, or the name of weights in the package [path or name]"""
    pictures: tyro.conf.Positional[Path]
    """Pictures to take ranges of values from; 256 of them are enough [folder]"""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Model to write, for `redoseg segment` as any other [file ending in .onnx]"""


@dataclass(frozen=True)
class Redraw:
    """Draw a photograph's object or background anew, from random latents or with the texture of another photograph."""

    model: tyro.conf.Positional[str]
    """Run folder, model folder, hf://user/name, or the name of weights in the package [path or name]"""
    photo: tyro.conf.Positional[Path]
    """Photograph to redraw [file]"""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder to write to: NAME-1.png ... and the sheet NAME-redrawn.png [folder]"""
    count: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 8
    """How many drawings; of an animation, how many it goes through [drawings]"""
    seed: int = 0
    """Seed of the latents [number]"""
    what: Literal["object", "background", "both"] = "object"
    """What is drawn anew; the rest stays as it is [name]"""
    like: Path | None = None
    """Take the texture of this photograph instead, in that many steps from the photograph's own [file]"""
    gif: bool = False
    """One looping animation, NAME-redrawn.gif, instead [true/false]"""
    overwrite: bool = False
    """Replace files that are already there; inputs never [true/false]"""


@dataclass(frozen=True)
class Export:
    """Make a model folder of a run, to share: config, weights, mask.onnx, redraw.onnx, and a model card."""

    run: tyro.conf.Positional[Path]
    """Run folder; what its last checkpoint holds [folder]"""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Model folder to make [folder]"""
    licence: str = ""
    """Licence of the weights for the card, such as apache-2.0 [identifier or text]"""
    data_note: str = ""
    """Where the pictures come from and what may be done with them, for the card [text]"""
    limits: str = ""
    """What the model is bad at, for the card [text]"""


@dataclass(frozen=True)
class Push:
    """Upload a model folder to Hugging Face's hub. The token is the one of `hf auth login`, or HF_TOKEN."""

    folder: tyro.conf.Positional[Path]
    """Model folder made by `redoseg export` [folder]"""
    repo: tyro.conf.Positional[str]
    """Its name on the hub [user/name]"""
    private: bool = False
    """Only you can see it [true/false]"""


@dataclass(frozen=True)
class Compare:
    """Models beside methods that need no training, on pictures with masks. Stopped, the same command goes on."""

    data: tyro.conf.Positional[str]
    """Prepared set, folder with images/ and masks/, or shapes, shapes-hard (held-out part) [path or name]"""
    model: tyro.conf.Positional[tuple[str, ...]] = ()
    """Run folders, model folders, or names of weights in the package [paths or names]"""
    methods: tuple[str, ...] = ("kmeans", "watershed", "grabcut", "iem", "otsu", "square", "everything")
    """Methods beside them; settings follow a name, as in grabcut:start=disc,size=0.8 [names]"""
    split: str = ""
    """Only this part of the set [name, empty for all]"""
    tune: str | None = None
    """First choose each method's settings, by iou, on this other part; of built-in pictures, another seed [name]"""
    seed: int = 0
    """Seed of built-in pictures [number]"""
    size: int | None = None
    """Side to score at; if none, a prepared set's own, the first model's for built-in pictures, else 128 [pixels]"""
    edges: Literal["both", "plain", "guided", "grabcut", "all"] = "both"
    """A model's rows: plain is the network itself, guided what `segment` writes, grabcut what its --edges grabcut
    does; both: plain and guided [name]"""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Also write table.md, results.json and grid.png here [folder]"""
    jobs: int = 0
    """Pictures worked on side by side, a thread each; 0 takes one a core [threads]"""
    fresh: bool = False
    """Compute masks anew that are on disk already, so that all are timed [true/false]"""
    overwrite: bool = False
    """Replace results that are already in --out [true/false]"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object and nothing else [true/false]"""


@dataclass(frozen=True)
class Study:
    """A table of many runs: rows of settings, several seeds each. Stopped, the same command goes on."""

    study: tyro.conf.Positional[str]
    """A TOML file, or the name of a study that ships with redoseg [file or name]"""
    out: Path | None = None
    """Folder for its runs, results and table; studies/NAME if not given [folder]"""
    jobs: int = 0
    """Runs side by side, one thread each; 0 takes one a core, or one a GPU [runs]"""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to train [name]"""
    minutes: float = 0.0
    """Start no further run after so long; 0 is no limit [minutes]"""


@dataclass(frozen=True)
class Bench:
    """Speed as a ratio to a plain way that takes turns with ours in one run, and memory: `redoseg bench` lists them."""


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
    """Processes that decode; 0 takes one a core [processes]"""
    small: int = 0
    """Also prepare so many small pictures and watch the memory; 0 leaves that out [pictures]"""
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
    """Also segment so many of them and watch the memory; 0 leaves that out [photographs]"""
    many: int = 0
    """The same with another number, to see whether memory grows with it; 0 leaves that out [photographs]"""
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
    """Also train both so many steps from one seed and tell how far their losses are apart; 0 leaves it out [steps]"""
    each: bool = False
    """Also time the plain version with each of our ways alone [true/false]"""
    roofline: bool = False
    """Also tell what bounds each layer: arithmetic or bytes [true/false]"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object and nothing else [true/false]"""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    """Settings that override the recipe's"""


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


@dataclass(frozen=True)
class Doctor:
    """Versions, devices and a quick self-test: what a bug report needs. It never fails, and tells no secrets."""

    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object and nothing else [true/false]"""


@dataclass(frozen=True)
class Completion:
    """Print a script that completes verbs, settings and names at TAB: eval "$(redoseg completion bash)"."""

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    """The shell that it is for [name]"""


def _arguments(kind: type[T], verb: str, arguments: Sequence[str], default: T | None = None) -> T:
    """Parse a verb's arguments; a mistake becomes a one-line ConfigError."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parse: Callable[..., T] = tyro.cli
            return parse(kind, prog=f"redoseg {verb}", args=list(arguments), default=default)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
    # tyro draws a box, of ASCII where stdout is not UTF-8: a title, then parts with rules between them
    lines = [re.sub(r"^[│|╭╰+]|[│|╮╯+]$", "", line).strip() for line in said.getvalue().splitlines()]
    parts = re.split(r"\n[─-]{3,}\n", "\n".join(lines[1:-1]).strip("─-\n"))
    seen = " ".join(parts[0].split()).rstrip(".")
    near = re.search(r"^--\S.*$", "\n".join(parts[1:]), re.M)
    hint = f"did you mean {near[0].split(' (')[0]}? " if near and "Unrecognized" in seen else ""
    raise ConfigError(f"{seen}, settings as in `redoseg {verb} --help` expected: {hint}correct the command")


def _train(arguments: Sequence[str]) -> int:
    if world().size == 1:
        return _train_here(arguments, contextlib.nullcontext())
    from redoseg.train.distributed import all_or_none, process_group

    with contextlib.ExitStack() as stack:
        if world().rank:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(process_group())
        return _train_here(arguments, all_or_none())


def _train_here(arguments: Sequence[str], in_step: contextlib.AbstractContextManager[None]) -> int:
    from redoseg.config.recipe import to_values

    with in_step:
        command, stem = _train_command(arguments)
    if command.dry_run:
        print(json.dumps(to_values(command.config), indent=2))
        return DONE

    import matplotlib  # noqa: F401  # what only the end of a run needs should be missed before it starts
    import onnx  # noqa: F401

    from redoseg.train.report import ending
    from redoseg.train.run import run

    folder = command.out or Path("runs") / f"{stem}-seed{command.config.seed}"
    console = _console()
    outcome = run(command.config, folder, command.resume, command.device, console)
    if not outcome:  # the first of several processes tells how it ended
        return DONE
    scores = outcome.get("scores", {})
    figure = next((f", {k} {scores[k]:.3f}" for k in ("iou", "iou_matched") if k in scores), "")
    _say(console, f"{ending(outcome)}{figure}; run folder: {folder}")
    if outcome["stopped"]:
        _say(console, f"go on with: redoseg train --resume --out {folder}")
        return STOPPED
    return IN_PART if outcome["collapsed"] or outcome["left_out"] else DONE


def _train_command(arguments: Sequence[str]) -> tuple[Train, str]:
    """The command in full, and the name of what it trains."""
    from redoseg.config.recipe import check, load_recipe

    # the recipe gives the defaults of every other setting, so it is looked for before the rest is read
    first = _arguments(Train, "train", [a for a in arguments if a not in ("-h", "--help")], default=Train())
    recipe, given, out = first.recipe, first.data, first.out
    base = Config()
    if recipe:
        base = load_recipe(recipe)
    elif first.resume:
        if not out:
            raise ConfigError("--resume without --out, the run folder to go on with expected: add --out FOLDER")
        from redoseg.run_folder import RunFolder

        base = RunFolder(Path(out)).read_config()
    elif given:
        base = load_recipe(DEFAULT_RECIPE)
    elif not {"-h", "--help"} & set(arguments):
        from redoseg.config.recipe import recipe_names

        raise ConfigError(
            f"nothing to train on, a recipe or --data FOLDER expected: name one of {', '.join(recipe_names())}, "
            "a TOML file, or a folder of pictures"
        )
    if given:
        base = replace(base, data=replace(base.data, source=given, split="train", evaluate_on="", evaluate_split=""))
    command = _arguments(Train, "train", arguments, default=Train(recipe=recipe, config=base))
    check(command.config)
    return command, Path(recipe).stem if recipe else Path(given).resolve().name


def _evaluate(arguments: Sequence[str]) -> int:
    command = _arguments(Evaluate, "evaluate", arguments)
    from redoseg.evaluation.evaluate import evaluate, evaluate_own_size, print_evaluation, print_own_size

    c, split = command, command.split or None
    if command.own_size:
        if command.size is not None or command.picture:
            raise ConfigError("--own-size with --size or --picture, one way of scoring expected: leave out the other")
        with _progress("scoring") as advance:
            result = evaluate_own_size(command.model, command.data, split, advance)
    else:
        result = evaluate(c.model, c.data, split, c.seed, c.methods, c.picture, c.size, c.edges)
    if command.as_json:
        print(json.dumps(result))
    elif command.own_size:
        print_own_size(result, _console())
    else:
        print_evaluation(result, _console())
        if command.picture:
            _say(_console(), f"before/after picture: {command.picture}")
    return DONE


def _segment(arguments: Sequence[str]) -> int:
    command = _arguments(Segment, "segment", arguments)
    from redoseg.inference.segment_files import segment_paths
    from redoseg.inference.segmenter import Segmenter

    segmenter = Segmenter(command.model, edges=command.edges)
    with _progress("segmenting") as advance:
        report = segment_paths(
            segmenter,
            command.source,
            command.out,
            command.kind,
            command.overwrite,
            lambda _path, done, total, _why: advance(done, total),
            command.crop,
            command.review,
            command.label,
        )
    console = _console()
    _say(console, f"{report.done} of {report.done + len(report.failed)} pictures segmented into {command.out}")
    return _list_failed(console, [(str(path), why) for path, why in report.failed])


def _serve(arguments: Sequence[str]) -> int:
    command = _arguments(Serve, "serve", arguments)
    import signal
    import threading

    from redoseg.web.guard import is_loopback
    from redoseg.web.page import serving

    c = command
    for name in ("SIGTERM", "SIGHUP"):  # the page's folder goes then too
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    with serving(
        model=c.model,
        runs=c.run,
        host=c.host,
        port=c.port,
        max_mb=c.max_mb,
        max_megapixels=c.max_megapixels,
        examples=c.examples,
    ) as address:
        if not is_loopback(c.host):
            print(
                f"redoseg: {c.host} is open to every computer that reaches this one, without a password",
                file=sys.stderr,
            )
        print(f"the page is at {address} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()
    return DONE


def _prepare(arguments: Sequence[str]) -> int:
    command = _arguments(Prepare, "prepare", arguments)
    from redoseg.data import ARCHIVES, READERS, cache_folder, fetch, parts_of, prepare, read_splits

    console = _console()
    sources = list(command.source)
    if command.splits:
        read_splits(command.splits)  # a mistake in it should be known before the work
    if command.download:
        sources = sources or [cache_folder(name) for name in command.name.split("+")]
        with _progress("downloading", in_bytes=True) as advance:
            for name, folder in parts_of(command.name, sources):
                for note in fetch(name, folder, lambda file, done, total: advance(done, total, file)):
                    _say(console, f"note: {note}")
    if not sources:
        if command.name not in READERS and Path(command.name).exists():
            raise ConfigError(
                f"{command.name!r} is a place, the name of a set expected: redoseg prepare folder --source"
            )
        parts_of(command.name, [Path()] * len(command.name.split("+")))  # is it the name of a set at all?
        what = "a folder of pictures" if command.name == "folder" else f"the folder of {command.name}"
        fetched = all(name in ARCHIVES for name in command.name.split("+"))
        raise ConfigError(f"no --source, {what} expected: add --source DIR{', or --download' if fetched else ''}")
    with _progress("preparing") as advance:
        try:
            prepared = prepare(
                command.name,
                sources,
                command.out,
                command.size,
                command.nearest,
                command.splits,
                command.workers,
                advance,
            )
        except KeyboardInterrupt:
            _say(console, "stopped by hand; the same command goes on where it stopped")
            return STOPPED
    went_on = f" ({prepared.found} of them found done)" if prepared.found else ""
    _say(console, f"{prepared.pictures} pictures prepared at {command.size} px in {command.out}{went_on}")
    for note in prepared.notes:
        _say(console, f"note: {note}")
    return _list_failed(console, prepared.bad)


def _data(arguments: Sequence[str]) -> int:
    command = _arguments(Data, "data", arguments)
    from redoseg.data import contact_sheet, open_prepared
    from redoseg.files import write_atomic

    images = open_prepared(command.path)
    console = _console()
    _say(console, f"{images.name}: {len(images)} pictures of {images.size} px, prepared from {images.source}")
    for split in dict.fromkeys(images.splits):
        part = images.subset(split)
        _say(console, f"{split or 'in no split'}: {len(part)} pictures, {int(part.labelled.sum())} with masks")
    share = images.object_share()
    if share is not None:
        _say(console, f"the object covers {100 * share:.1f} % of the labelled pixels")
    _say(console, f"left out when it was made: {len(images.bad)}")
    for note in images.notes:
        _say(console, f"note: {note}")
    sheet = command.sheet or command.path / "contact-sheet.png"
    buffer = io.BytesIO()
    contact_sheet(images).save(buffer, "PNG")
    write_atomic(sheet, buffer.getvalue())
    _say(console, f"contact sheet: {sheet}")
    return DONE


def _quantize(arguments: Sequence[str]) -> int:
    command = _arguments(Quantize, "quantize", arguments)
    from redoseg.inference.quantize import quantize

    seen = quantize(command.model, command.pictures, command.out)
    _say(_console(), f"int8 model, with ranges from {seen} pictures: {command.out}")
    return DONE


def _redraw(arguments: Sequence[str]) -> int:
    command = _arguments(Redraw, "redraw", arguments)
    from redoseg.inference.redraw import RedrawModel, redraw_photo

    console, c = _console(), command
    model = RedrawModel(c.model, say=lambda line: _say(console, line))
    written = redraw_photo(model, c.photo, c.out, c.count, c.seed, c.what, c.like, c.gif, c.overwrite)
    _say(console, f"animation: {written[-1]}" if c.gif else f"{c.count} drawings in {c.out}, all on {written[-1]}")
    return DONE


def _export(arguments: Sequence[str]) -> int:
    command = _arguments(Export, "export", arguments)
    from redoseg.sharing.model_card import Statements
    from redoseg.sharing.model_folder import export_run

    sizes = export_run(command.run, command.out, Statements(command.licence, command.data_note, command.limits))
    listed = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in sizes.items())
    _say(_console(), f"model folder: {command.out} ({listed})")
    missing = [name for name in ("licence", "data_note") if not getattr(command, name)]
    if missing:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in missing)
        _say(_console(), f"note: its card, README.md, leaves to be said what {flags} would say")
    return DONE


def _push(arguments: Sequence[str]) -> int:
    command = _arguments(Push, "push", arguments)
    from redoseg.sharing.push import push_to_hub

    _say(_console(), f"pushed: {push_to_hub(command.folder, command.repo, command.private)}")
    return DONE


def _compare(arguments: Sequence[str]) -> int:
    command = _arguments(Compare, "compare", arguments)
    from redoseg.evaluation.compare import compare, table

    c = command
    try:
        with _progress("comparing") as advance:
            result = compare(
                c.data,
                c.model,
                c.methods,
                c.split or None,
                c.size,
                c.seed,
                c.edges,
                c.out,
                c.jobs,
                c.fresh,
                c.overwrite,
                c.tune,
                lambda done, total, row: advance(done, total, row),
            )
    except KeyboardInterrupt:
        again = "without --fresh it" if c.fresh else "the same command"
        print(f"redoseg: stopped by hand; {again} goes on where it stopped", file=sys.stderr)
        return STOPPED
    if c.as_json:
        print(json.dumps(result))
    else:
        _say(_console(), table(result))
        if c.out:
            _say(_console(), f"table, figures and pictures: {c.out}")
    return IN_PART if result["failed"] else DONE


def _study(arguments: Sequence[str]) -> int:
    command = _arguments(Study, "study", arguments)
    from redoseg.study.run import StudyFolder, load_study, run_study
    from redoseg.study.table import floors_of, write_table

    study = load_study(command.study)
    out = command.out or Path("studies") / study.name
    console = _console()

    def report(result: dict[str, Any], done: int, total: int) -> None:
        iou = result["outcome"].get("scores", {}).get("iou")
        figure = "diverged" if iou is None else f"iou {iou:.3f}"
        _say(console, f"{done}/{total}  {result['row']}, seed {result['seed']}: {figure}, {result['seconds']:.0f} s")

    try:
        results, missing = run_study(study, out, command.jobs, command.device, command.minutes, report)
    except KeyboardInterrupt:
        _say(console, f"stopped by hand; go on with: redoseg study {command.study} --out {out}")
        return STOPPED
    _say(console, write_table(study, results, floors_of(study), StudyFolder(out)))
    if missing:
        _say(console, f"{missing} runs are not done; go on with: redoseg study {command.study} --out {out}")
    return IN_PART if missing else DONE


def _bench(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(
            "\n".join(
                ["usage: redoseg bench WHAT ...", "", *_listed(BENCHES), "", "--help after one lists its settings."]
            )
        )
        return DONE
    what, *rest = arguments
    if what not in BENCHES:
        raise ConfigError(f"bench {what!r} seen, one of {', '.join(BENCHES)} expected: see `redoseg bench --help`")
    kind, measure = BENCHES[what]
    default = None
    if kind in (BenchTrain, BenchScaling):  # as in training, the recipe gives the defaults of every other setting
        from redoseg.config.recipe import load_recipe

        recipe = _arguments(kind, f"bench {what}", [a for a in rest if a not in ("-h", "--help")]).recipe
        default = kind(recipe=recipe, config=load_recipe(recipe))
    command = _arguments(kind, f"bench {what}", rest, default)
    result = {"bench": what} | measure(command)
    if command.as_json:
        print(json.dumps(result))
    else:
        _say_measured(_console(), result)
    return DONE


def _bench_prepare(command: BenchPrepare) -> dict[str, Any]:
    from redoseg.bench.prepare import bench_prepare

    return bench_prepare(command.source, command.pictures, command.size, command.rounds, command.workers, command.small)


def _bench_segment(command: BenchSegment) -> dict[str, Any]:
    from redoseg.bench.segment import bench_segment

    c = command
    return bench_segment(c.pictures, c.rounds, c.size, c.starts, c.folder, c.small, c.many)


def _bench_train(command: BenchTrain) -> dict[str, Any]:
    import torch

    from redoseg.bench.train import bench_train
    from redoseg.train.compute import pick_device

    if command.config.threads:
        torch.set_num_threads(command.config.threads)
    return bench_train(
        command.config,
        pick_device(command.device),
        command.rounds,
        command.turn,
        command.same,
        command.each,
        command.roofline,
    )


def _bench_scaling(command: BenchScaling) -> dict[str, Any]:
    import torch

    from redoseg.bench.scaling import bench_scaling

    if command.config.threads:
        torch.set_num_threads(command.config.threads)
    growing = (command.sizes, command.regions, command.pictures, command.processes)
    return bench_scaling(command.config, *growing, command.rounds, command.turn)


def _say_measured(console: Console, result: dict[str, Any]) -> None:
    """What a benchmark found, or parts of it: speeds and ratios as lines, the rest as JSON."""
    for part in [name for name, value in result.items() if isinstance(value, dict) and "per_second" in value]:
        _say(console, f"{part}:")
        _say_measured(console, result.pop(part))
    for name, speeds in result.get("per_second", {}).items():
        _say(console, f"{name}: {', '.join(f'{s:.4g}' for s in speeds)} a second")
    for name, ratio in result.get("ratio", {}).items():
        _say(console, f"{name}: {ratio['median']:.2f} times as fast ({ratio['least']:.2f} to {ratio['most']:.2f})")
    rest = {k: v for k, v in result.items() if k not in ("per_second", "ratio")}
    _say(console, json.dumps(rest, indent=1))


BENCHES: dict[str, tuple[type[Any], Callable[[Any], dict[str, Any]]]] = {
    "prepare": (BenchPrepare, _bench_prepare),
    "segment": (BenchSegment, _bench_segment),
    "train": (BenchTrain, _bench_train),
    "scaling": (BenchScaling, _bench_scaling),
}


def _doctor(arguments: Sequence[str]) -> int:
    command = _arguments(Doctor, "doctor", arguments)
    from redoseg.cli.doctor import examine, lines

    found = examine()
    print(json.dumps(found) if command.as_json else "\n".join(lines(found)))
    return DONE


def _completion(arguments: Sequence[str]) -> int:
    command = _arguments(Completion, "completion", arguments)
    from redoseg.cli.completion import script

    verbs, benches = ({name: kind for name, (kind, _) in table.items()} for table in (VERBS, BENCHES))
    print(script(command.shell, verbs, benches), end="")
    return DONE


VERBS: dict[str, tuple[type[Any], Callable[[Sequence[str]], int]]] = {
    "train": (Train, _train),
    "evaluate": (Evaluate, _evaluate),
    "segment": (Segment, _segment),
    "serve": (Serve, _serve),
    "prepare": (Prepare, _prepare),
    "data": (Data, _data),
    "quantize": (Quantize, _quantize),
    "redraw": (Redraw, _redraw),
    "export": (Export, _export),
    "push": (Push, _push),
    "compare": (Compare, _compare),
    "study": (Study, _study),
    "bench": (Bench, _bench),
    "doctor": (Doctor, _doctor),
    "completion": (Completion, _completion),
}


def _listed(verbs: Mapping[str, tuple[type[Any], Any]]) -> list[str]:
    return [f"  {verb:<12}{(kind.__doc__ or '').splitlines()[0]}" for verb, (kind, _) in verbs.items()]


def _usage() -> str:
    return (
        f"redoseg {__version__}: cut objects out of pictures, learnt without a single mask\n\n"
        "usage: redoseg VERB ...\n\n"
        + "\n".join(_listed(VERBS))
        + "\n\nredoseg VERB --help lists the settings of a verb."
    )


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line (without the program's name); returns the exit code, raises RedosegError."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return DONE
    if arguments[0] == "--version":
        print(__version__)
        return DONE
    if arguments[0] not in VERBS:
        raise ConfigError(f"verb {arguments[0]!r} seen, one of {', '.join(VERBS)} expected: see `redoseg --help`")
    if arguments[0] != "train":
        if world().size > 1:
            raise ConfigError(
                f"{arguments[0]} in {world().size} processes, train alone expected: start it without torchrun"
            )
        forget_world()
    try:
        return VERBS[arguments[0]][1](arguments[1:])
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        extra = next((extra for extra, modules in EXTRAS.items() if missing in modules), None)
        if extra is None:
            raise
        raise RedosegError(
            f'{error.name} is not installed, the part `{extra}` of redoseg expected: pip install "redoseg[{extra}]"'
        ) from None


def main() -> None:
    """Entry point: errors of the user's become one line on stderr and exit code 2."""
    try:
        code = run_command(sys.argv[1:])
    except RedosegError as error:
        print(f"redoseg: {error}", file=sys.stderr)
        code = MISTAKE
    except PermissionError as error:
        where = error.filename or "a file or folder"
        print(
            f"redoseg: {where} may not be entered or changed, one that may expected: change its permissions",
            file=sys.stderr,
        )
        code = MISTAKE
    except KeyboardInterrupt:
        print("redoseg: stopped by hand", file=sys.stderr)
        code = STOPPED
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        code = DONE
    except SystemExit as stop:
        if world().size == 1:
            raise
        code = stop.code if isinstance(stop.code, int) else DONE
    if world().size > 1:
        # threads that talk to other processes may still run, and would abort this one while Python is taken down
        with contextlib.suppress(ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)


def _console() -> Console:
    from rich.console import Console

    return Console()


def _say(console: Console, message: str) -> None:
    console.print(message, markup=False, highlight=False, soft_wrap=True)


def _list_failed(console: Console, failed: Sequence[tuple[str, str]]) -> int:
    for path, why in failed:
        _say(console, f"left out: {path}: {why}")
    return IN_PART if failed else DONE


@contextlib.contextmanager
def _progress(what: str, in_bytes: bool = False) -> Any:
    """A progress bar on stderr; gives a function of (done, total, what is done if it changes)."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    counted = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), counted, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def advance(done: int, total: int | None, now: str = what) -> None:
            bar.update(task, completed=done, total=total, description=now)

        yield advance
