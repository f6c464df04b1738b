"""Every command in README, CONTRIBUTING, docs/ and the model cards is run, in a folder that has what they name.

Commands are the lines of code blocks without a language (or sh, bash, console) and inline code that starts with a
program. Only what is in CHANGED is added to a command: shorter trainings and smaller networks. What is not a command
stands in a block that says ```text. A command that cannot be placed is a failure.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from redoseg.bench import scaling
from redoseg.browser.runtime import Runtime
from redoseg.cli import bench, console, main, verbs
from redoseg.config.recipe import flat, from_values, nested, to_values
from redoseg.config.schema import Config
from redoseg.data import ARCHIVES, cache_folder, prepare
from redoseg.data.shapes import generate
from redoseg.errors import RunError
from redoseg.inference.model_file import weights
from redoseg.study import run as study

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "results" / "logs" / "README.md"),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "redoseg" / "weights").glob("*/README.md")),
]
PROGRAMS = ("redoseg", "make", "pip", "torchrun", "python", "eval")

WHOLE = {  # abbreviated in running text
    "redoseg segment flowers ...": "redoseg segment flowers photo.jpg -o out/",
    "redoseg train --data FOLDER": "redoseg train --data photos/",
    "redoseg train --resume --out FOLDER": "redoseg train --resume --out runs/mine",
    "torchrun --nproc-per-node 4 -m redoseg train ...": "torchrun --nproc-per-node 4 -m redoseg train shapes",
}
WORDS = [  # pattern -> what stands in its place
    (r"(?<=compare )DATA\b", "labelled/"),
    (r"\bMODEL\b", "runs/mine"),
    (r"\bRUN\b", "runs/mine"),
    (r"\bRECIPE\b", "shapes"),
    (r"\bPICTURES\b", "photos/"),
    (r"\bHOST\b", "127.0.0.1"),
    (r"(?<=seed) N\b", " 1"),
    (r"(?<=seed)N\b", "1"),
    (r"\(the same\)", "--objective.self-redraw-weight 0 --refine.rounds 0 --watch.restarts 0"),
    (r"--split test --redraw", "--redraw"),  # the test part here has two pictures, too few to compare
    (r"(\[\.\.\.\]|\s\.\.\.)$", ""),
]

TINY = {
    **{"steps": 2, "batch": 4, "threads": 1, "precision": "float32"},
    **{"data.size": 16, "data.pictures": 16, "data.evaluate_pictures": 4},
    **{"nets.extractor_width": 4, "nets.generator_width": 2, "nets.discriminator_width": 4},
    **{"nets.encoder_width": 4, "nets.latent": 4},
    # two steps give no masks that a second stage could learn from: tests/train/test_refine.py
    **{"refine.rounds": 0, "watch.collapse_share": 0.0},
}
# masks that no first stage made serve from the first step
TINY_SECOND = {"refine.rounds": 1, "refine.steps": 20, "refine.batch": 4, "refine.size": 32, "refine.student_width": 4}
PACKAGED = {"data.size": 32, "nets.extractor_width": 12}  # the network of the models in the package
TINY_NETS = {key: value for key, value in TINY.items() if key.startswith("nets.") or key == "precision"}


def as_options(settings: dict[str, Any]) -> list[str]:
    return [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", str(value))]


CHANGED = {  # verb -> added to it; the last of two values counts
    "train": as_options(TINY),
    "refine": as_options({"refine.start": "disc"} | TINY_SECOND),
    "bench train": [*as_options(TINY_NETS | {"batch": 4, "data.size": 16}), "--rounds", "1", "--turn", "1"],
    "bench prepare": ["--pictures", "2", "--rounds", "1", "--size", "64"],
    "bench segment": ["--pictures", "5", "--rounds", "1", "--size", "32", "--starts", "1", "--folder", "3"],
    "bench photos": ["--rounds", "1"],
    "bench scaling": [
        *as_options(TINY_NETS | {"batch": 4, "threads": 1}),
        *("--sizes", "16", "32", "--regions", "2", "3", "--pictures", "50", "100"),
        *("--processes", "1", "2", "--rounds", "1", "--turn", "1"),
    ],
}
SMALLER = {"--small": "12", "--many": "16", "--same": "2", "--redraw.steps": "2"}  # what a command asks for itself
SLOW = ("train", "study", "bench")


class Command(NamedTuple):
    where: str
    text: str
    inline: bool = False


class Block(NamedTuple):
    where: str
    language: str
    text: str


# ------------------------------------------------------------------------------------------------- collecting


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in re.finditer(r"^```([\w-]*)\n(.*?)^```", text, re.M | re.S):
        line = text[: found.start()].count("\n") + 1
        yield Block(f"{page.relative_to(ROOT)}:{line}", found[1], found[2])


def commands_of(block: Block) -> Iterator[Command]:
    """The lines of a block, continued lines put together, without what is said about them."""
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
        text = re.sub(r"\s+# .*$", "", line.removeprefix("$ ")).strip()
        if text and not text.startswith("#"):
            yield Command(block.where, text)


def inline_commands(page: Path) -> Iterator[Command]:
    text = page.read_text()
    text = re.sub(r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), text, flags=re.M | re.S)
    for found in re.finditer(rf"(?<!`)`((?:{'|'.join(PROGRAMS)})(?: [^`]+)?)`(?!`)", text):
        line = text[: found.start()].count("\n") + 1
        yield Command(f"{page.relative_to(ROOT)}:{line}", " ".join(found[1].replace("\\|", "|").split()), True)


def unabbreviated(text: str) -> list[str]:
    """The commands that one line stands for: [optional parts] left out and put in, and each of a|b."""
    text = WHOLE.get(text, text)
    for pattern, instead in WORDS:
        text = re.sub(pattern, instead, text).strip()
    optional = re.search(r"\[([^\]]+)\]", text) if "pip install" not in text else None
    if optional:
        before, after = text[: optional.start()], text[optional.end() :]
        return unabbreviated(before.strip() + after) + unabbreviated(before + optional[1] + after)
    either = re.search(r"\S+\|\S+", text)
    if either:
        ways = [text[: either.start()] + way + text[either.end() :] for way in either[0].split("|")]
        return [one for way in ways for one in unabbreviated(way)]
    return [text]


def collect() -> list[Command]:
    found = []
    for page in PAGES:
        for block in blocks(page):
            if block.language in ("", "sh", "bash", "console"):
                found += commands_of(block)
        found += inline_commands(page)
    whole = [Command(c.where, text, c.inline) for c in found for text in unabbreviated(c.text)]
    return list({(c.text, bare(c)): c for c in whole}.values())


def named(command: Command) -> str:
    return f"{command.where} {command.text}"


def verb_of(words: list[str]) -> str:
    """`train`, or `bench train`."""
    return " ".join(words[1:3] if words[1:2] == ["bench"] else words[1:2])


def bare(command: Command) -> bool:
    """Whether running text only names a program or a verb: the command that is meant is another."""
    words = shlex.split(command.text)
    return command.inline and len(words) == (1 + len(verb_of(words).split()) if words[0] == "redoseg" else 1)


def heavy(command: Command) -> bool:
    """Whether it trains: minutes all together."""
    words = shlex.split(command.text)
    return (
        words[0] == "redoseg" and not bare(command) and words[1] in SLOW and not {"--help", "--help-all"} & set(words)
    )


def alike(command: Command) -> tuple[str, ...]:
    """What commands share that differ only in the models, sets and files that they name."""
    words = shlex.split(command.text)
    return (verb_of(words), *sorted({word.partition("=")[0] for word in words if word.startswith("-")}))


COMMANDS = collect()
FIRST = list({alike(c): c for c in reversed(COMMANDS)}.values())
"""One of each kind; the others of its kind are slow tests."""


def once(commands: Iterable[Command]) -> list[Any]:
    """As parameters, of which all but the first of each kind are slow."""
    return [pytest.param(c, marks=() if c in FIRST else pytest.mark.slow) for c in commands]


def test_the_commands_are_found() -> None:
    texts = {c.text for c in COMMANDS}
    assert {"make demo", "redoseg train --data photos/ --out runs/mine", "redoseg bench train --each"} <= texts
    assert "redoseg evaluate int8.onnx prepared/flowers17 --split dev --json" in texts  # one of four
    assert len(COMMANDS) > 80


@pytest.mark.parametrize("command", COMMANDS, ids=named)
def test_every_command_is_placed(command: Command) -> None:
    """Nothing is left of what stands for something else, and the program is one that the tests below run."""
    words = shlex.split(command.text)
    assert words[0] in PROGRAMS, f"{command.where}: {words[0]!r} is no program; is the block one of ```text?"
    if words[0] == "redoseg" and len(words) > 1:
        assert words[1] in verbs.VERBS or words[1] in ("--help", "--version"), command
    left = [
        word for word in words if re.fullmatch(r"[A-Z]{2,}|.*[<>()].+|.+[<>()]|\.\.\.", word) and word not in ("DIR",)
    ]
    assert not left or words[0] == "eval" or "TORCH=" in command.text, f"{command}: put {left} into WORDS"


# ---------------------------------------------------------------------------------------------- what they name


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, photos: Path, trained: Any) -> Path:
    """A folder with everything that the documentation names."""
    from set_layouts import faces, flowers102, parts

    world = tmp_path_factory.mktemp("world")
    pictures = sorted((photos / "images").iterdir())
    for folder, these in (("photos", pictures), ("new", pictures[:2]), ("flowers102/jpg", pictures)):
        (world / folder).mkdir(parents=True)
        for path in these:
            with Image.open(path) as image:
                image.save(world / folder / f"{path.stem}.jpg")
    (world / "trays").mkdir()
    for number, tray in enumerate(generate("tray", 12, 32)[0]):
        Image.fromarray(tray).save(world / "trays" / f"{number}.png")
    for name in ("photo.jpg", "other.jpg"):
        shutil.copy(world / "new" / "00.jpg", world / name)
    for name in ("rembg", "sam", "hand"):
        shutil.copytree(photos / "masks", world / "masks" / name)
    for name in ("labelled", "corrected", "checked"):
        shutil.copytree(photos, world / name)
    table = "picture,verdict,file,mask\n00.png,accept,images/00.png,masks/00.png\n01.png,refuse,,\n"
    (world / "checked" / "review.csv").write_text(table)
    shutil.copy(ROOT / "redoseg" / "weights" / "flowers-int8" / "mask.onnx", world / "int8.onnx")
    shutil.copy(world / "int8.onnx", world / "mask.onnx")
    for name in ("model", "mine"):  # what `export` makes
        shutil.copytree(trained.folder, world / name)
    runs = [
        "mine",
        "trays",
        "redrawn",
        "drawn",
        "flowers-cpu-seed1",
        "flowers-seed1",
        "shapes-seed1",
        "shapes-hard-seed1",
        "shapes-seed0",
        "shapes-published-seed0",
    ]
    for kind in ("flowers", "butterflies", "horses", "faces"):
        seed = 1 if kind == "horses" else 0
        runs += [f"{kind}{stage}-seed{seed}" for stage in ("", "-first", "-published", "-published-second")]
    runs += [f"photos-{kind}" for kind in ("flowers", "horses", "mixed", "three")]
    for name in runs:
        shutil.copytree(trained.folder, world / "runs" / name)

    mixed = tmp_path_factory.mktemp("mixed") / "set"
    for part in ("train", "dev", "test"):
        for kind in ("images", "masks"):
            (mixed / kind).mkdir(parents=True, exist_ok=True)
            # as many as training needs: flowers-cpu reads dev
            for path in sorted((photos / kind).iterdir())[: 2 if part == "test" else 8]:
                shutil.copy(path, mixed / kind / f"{part}{path.name}")
    names = [path.stem for path in (mixed / "images").iterdir()]
    (mixed / "splits.csv").write_text("".join(f"{name},{name[:-2]}\n" for name in names))
    prepare("folder", mixed, world / "prepared" / "mine", 128)
    for name in (
        "flowers102",
        "flowers102-nearest",
        "flowers17",
        "mixed",
        "lfw",
        "horses",
        "butterflies",
        "celebamask",
        "cub2010",
    ):
        shutil.copytree(world / "prepared" / "mine", world / "prepared" / name)

    # official layouts: where --source names them, and in the cache, where --download finds them already fetched
    for source in (world / "official" / "flowers102", cache_folder("flowers102")):
        flowers102(source)
        (source / "segmim").mkdir()
    faces(world / "official" / "lfw" / "lfw_funneled")
    parts(world / "official" / "lfw", range(3))
    for source in (world / "official" / "flowers17", world / "flowers17"):
        for number in range(1, 10):
            for folder, suffix in (("jpg", "jpg"), ("trimaps", "png")):
                (source / folder).mkdir(parents=True, exist_ok=True)
                pixels = np.full((30, 40, 3), (200, 10, 60) if folder == "jpg" else (0, 0, 128), np.uint8)
                pixels[10:20, 10:30] = (128, 0, 0)
                Image.fromarray(pixels).save(source / folder / f"image_{number:04}.{suffix}")
    for name in ("flowers102", "flowers17"):
        where = cache_folder(name) if name == "flowers102" else world / name
        assert all((where / archive.makes).exists() for archive in ARCHIVES[name])
    return world


@pytest.fixture
def here(world: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, as the current one; of its folders only those that the command names.

    What trains may find the name of its set in a recipe, and `prepare` reads the official layouts.
    """
    (command,) = request.node.callspec.params.values()
    trains = isinstance(command, Command) and heavy(command)

    def unnamed(folder: str, names: list[str]) -> list[str]:
        kept = {"runs", "prepared", *(["official"] if "prepare " in command.text else [])}
        if Path(folder).name not in ("runs", *([] if trains else ["prepared"])) and Path(folder) != world:
            return []
        return [n for n in names if n not in command.text and n not in kept and Path(folder, n).is_dir()]

    shutil.copytree(world, tmp_path / "here", symlinks=True, ignore=unnamed)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("redoseg.data.open.HELD_OUT_COUNT", 8)  # 512 otherwise
    return tmp_path / "here"


def arguments_of(text: str) -> list[str]:
    """The words after `redoseg`, with folders in the place of DIR, and what it makes not there yet."""
    _, *words = shlex.split(text)
    if words[:1] == ["prepare"]:
        sets = iter(words[1].split("+"))
        words = [f"official/{next(sets)}" if word == "DIR" else word for word in words]
    made: list[str] = []
    if words[:1] == ["train"] and "--resume" not in words:
        made = ["runs"]  # its default is in there too
    elif words[:1] in (["prepare"], ["quantize"], ["export"]) or "--review" in words:
        made = [after for word, after in pairwise(words) if word in ("--out", "-o")]
    for path in map(Path, made):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return words


def said_by(arguments: list[str]) -> tuple[int, str]:
    """Exit code and output of a command, in this process."""
    out = io.StringIO()
    with redirect_stdout(out):
        try:
            code = main.run_command(arguments)
        except SystemExit as stop:  # --help
            code = int(stop.code or 0)
    return code, out.getvalue()


def piped(arguments: list[str]) -> int:
    """Exit code of a command that ends in `< FILE > FILE`."""
    at = arguments.index("<")
    with (
        open(arguments[at + 1]) as stdin,
        open(arguments[at + 3], "w") as stdout,
        redirect_stdout(stdout),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("sys.stdin", stdin)
        return main.run_command(arguments[:at])


# --------------------------------------------------------------------------------------------------- running


@pytest.mark.every(4)
@pytest.mark.parametrize("command", once(c for c in COMMANDS if not heavy(c)), ids=named)
def test_a_quick_command(command: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command.text)
    if words[0] == "redoseg":
        arguments = [*words[1:], "--help"] if bare(command) else arguments_of(command.text)
        arguments += CHANGED["refine"] if words[1:2] == ["refine"] and not bare(command) else []
        # a page that would be served for ever, and an upload: tests/web/test_page.py and tests/sharing/test_hub.py
        served = contextlib.nullcontext("http://127.0.0.1:1")
        monkeypatch.setattr("redoseg.web.page.serving", lambda **_: served)
        monkeypatch.setattr(
            "redoseg.evaluation.baselines.TRIED", {"square": {"margin": (0.1, 0.2)}}
        )  # minutes otherwise
        # seconds otherwise, and no cut is looked at: tests/evaluation/test_baselines.py
        monkeypatch.setattr("cv2.grabCut", lambda _, mask, *__: (mask, None, None))
        # fetched from the npm registry otherwise: tests/browser/
        monkeypatch.setattr("redoseg.browser.site.find_runtime", lambda *_: Runtime("const ort={};", b""))
        if words[1:2] == ["serve"]:
            monkeypatch.setattr("threading.Event.wait", lambda *_: None)
        monkeypatch.setattr(
            "redoseg.sharing.push.push_to_hub", lambda folder, *_: (Path(folder) / "config.json").read_text()
        )
        assert (piped(arguments) if "<" in arguments else said_by(arguments)[0]) == 0
    elif bare(command):
        pass
    elif words[0] == "make":  # takes the network and many minutes: the parts of its targets are tested by themselves
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif words[0] == "pip":  # takes the network; tests/test_install.py installs a wheel
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert words[1] == "install"
        found = re.fullmatch(r"\.(?:\[([\w,]+)\])?|redoseg(?:\[([\w,]+)\])?", words[2])
        assert found is not None
        extras = (found[1] or found[2] or "").split(",")
        assert {extra for extra in extras if extra} <= project["optional-dependencies"].keys()
    elif words[0] == "torchrun":  # tests/train/test_distributed.py starts it
        from torch.distributed.run import get_args_parser

        own, theirs = words[1 : words.index("-m")], words[words.index("-m") :]
        get_args_parser().parse_args([*own, "-m", "redoseg"])
        assert theirs[:2] == ["-m", "redoseg"]
        assert said_by([*arguments_of(shlex.join(theirs[1:])), "--dry-run", "--json"])[0] == 0
    elif words[0] == "eval":  # completion: tests/cli/test_completion.py asks the shells what it offers
        found = re.fullmatch(r'eval "\$\(redoseg (completion \w+)\)"', command.text)
        assert found is not None
        assert said_by(found[1].split())[0] == 0
    elif words[0] == "python":  # it writes into docs/: tests/config/test_settings_page.py runs it
        assert (ROOT / words[1]).is_file()
    else:
        pytest.fail(f"{command} is not run by any of the ways above")


@pytest.mark.every(3)
@pytest.mark.parametrize("command", once(c for c in COMMANDS if heavy(c)), ids=named)
def test_the_settings_of_a_long_command(command: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it but the work: unknown settings, values out of range, sets and recipes that are not there."""
    arguments = arguments_of(command.text)
    if arguments[0] == "bench":
        kind, _ = bench.BENCHES[arguments[1]]
        monkeypatch.setitem(bench.BENCHES, arguments[1], (kind, lambda _: {"seen": 1}))
        assert said_by(arguments) == (0, '{"bench": "' + arguments[1] + '", "seen": 1}\n') or "--json" not in arguments
    elif arguments[0] == "study":
        monkeypatch.setattr(study, "run_study", interrupted)
        assert said_by(arguments)[0] == console.STOPPED
    else:
        code, out = said_by([*arguments, "--dry-run", "--json"])
        assert (code, out[0]) == (0, "{")


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if heavy(c)], ids=named)
def test_a_long_command(command: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = arguments_of(command.text)
    resumed = "--resume" in arguments
    for option, value in SMALLER.items():
        arguments = [value if before == option else word for before, word in pairwise(["", *arguments])]
    if arguments[0] == "study":
        monkeypatch.setattr(study, "load_study", lambda name, load=study.load_study: one_tiny_run(load(name)))
    elif resumed:  # the run here learnt from built-in pictures
        arguments = ["shapes" if before == "--data" else word for before, word in pairwise(["", *arguments])]
    elif "--dry-run" not in arguments:
        # the paper's nets, counted at full size for minutes: tests/cli/test_cli.py counts small ones
        monkeypatch.setattr(scaling, "devices", dict)
        arguments += CHANGED[verb_of(["redoseg", *arguments])]
        if verb_of(["redoseg", *arguments]) == "train" and starts_from_masks(arguments):
            arguments += as_options(TINY_SECOND)
        if "--nets.extractor-from" in arguments:
            taken = arguments[arguments.index("--nets.extractor-from") + 1]
            if taken in weights():
                arguments += as_options(PACKAGED)
            else:
                first_run(taken)
    before = {path for path in here.rglob("*") if path.is_file()}
    if "cuda" in arguments and not torch.cuda.is_available():
        with pytest.raises(RunError, match="device cuda is not available"):
            main.run_command(arguments)
        return
    assert said_by(arguments)[0] == 0
    new = {path.name for path in here.rglob("*") if path.is_file()} - {path.name for path in before}
    if arguments[0] == "train" and not resumed and "--dry-run" not in arguments:
        assert list(here.glob("runs/*/mask.onnx"))
        assert list(here.glob("runs/*/report.md"))
    elif arguments[0] == "study":
        assert {"results.jsonl", "table.md"} <= new


def starts_from_masks(arguments: Sequence[str]) -> bool:
    """Whether a training has no first stage: by its recipe, of which `photos` is the default with --data, or itself."""
    return "--refine.start" in arguments or arguments[1] in ("photos", "same-ground", "--data")


def first_run(folder: str) -> None:
    """A run whose extractor another run starts with."""
    second = TINY_SECOND | {"refine.start": "disc", "refine.size": TINY["data.size"]}
    assert (
        said_by(
            ["train", "photos-redrawing", "--data", "prepared/horses", "--out", folder, *as_options(TINY | second)]
        )[0]
        == 0
    )


def one_tiny_run(whole: study.Study) -> study.Study:
    """Of a study the first row and seed, short and small."""
    values = flat(to_values(whole.rows[0].config)) | TINY
    if values["refine.start"] != "run":
        values |= TINY_SECOND
    if values["nets.extractor_from"]:
        first_run(values["nets.extractor_from"])
    if values["data.evaluate_split"] == "test":  # which has fewer pictures here than training needs
        values["data.evaluate_split"] = "dev"
    config: Config = from_values(nested(values), "tests")
    return replace(whole, rows=(replace(whole.rows[0], config=config),), seeds=whole.seeds[:1])


PYTHON = [block for page in PAGES for block in blocks(page) if block.language == "python"]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.where)
def test_python(block: Block, here: Path) -> None:
    names: dict[str, Any] = {}
    exec(compile(block.text, block.where, "exec"), names)
    with Image.open("photo.jpg") as photo:
        if "mask" in names:
            assert (names["mask"].dtype, names["mask"].shape) == (bool, photo.size[::-1])
        else:
            with Image.open("mask.png") as mask:
                assert mask.size == photo.size


# ------------------------------------------------------------------------------------------------------ links


def anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.replace("`", "").strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        file, _, title = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        if title:
            titles = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
            assert title in map(anchor, titles), target


# ------------------------------------------------------------------------------------------- pictures and prose


def section(page: Path, title: str) -> str:
    """The text under a heading, with the parts under it."""
    lines = page.read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if re.match("#+ ", line) and anchor(line.lstrip("# ")) == title)
    level = len(lines[start]) - len(lines[start].lstrip("#"))
    end = (n for n, line in enumerate(lines) if n > start and re.match(rf"#{{1,{level}}} ", line))
    return "\n".join(lines[start : next(end, None)])


def says_what_made_it(page: Path, caption: str) -> bool:
    """Whether a caption has a command, or a link to a section that has one."""
    command = r"(^|`)(redoseg|python)\s\w"
    linked = [
        section((page.parent / file).resolve() if file else page, title)
        for file, title in re.findall(r"\]\(([^)\s#]*)#([^)\s]+)\)", caption)
    ]
    return caption.startswith("*") and any(re.search(command, text, re.M) for text in [caption, *linked])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_under_each_picture_stands_what_made_it(page: Path) -> None:
    """In the paragraph below it, or below the pictures that follow it directly."""
    waiting: list[str] = []
    for paragraph in page.read_text().split("\n\n"):
        if paragraph.startswith("!["):
            waiting.append(paragraph)
        elif waiting:
            assert says_what_made_it(page, paragraph), waiting
            waiting = []
    assert not waiting


def test_a_caption_without_a_command_would_be_seen() -> None:
    page = ROOT / "docs" / "comparison.md"
    assert says_what_made_it(page, "*Its `grid.png`: [below](#the-commands).*")
    assert says_what_made_it(page, "*Made by `redoseg study missing`.*")
    assert not says_what_made_it(page, "*Four pictures of `flowers`, [explained](#how-to-read-the-table).*")
    assert not says_what_made_it(page, "Then `redoseg study missing` is run.")


def test_every_picture_is_shown() -> None:
    pages = "".join(page.read_text() for page in PAGES)
    assert [path.name for path in (ROOT / "docs" / "pictures").iterdir() if f"pictures/{path.name})" not in pages] == []


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != "settings.md"],  # generated
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_prose_is_wrapped(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    assert [line for line in prose.splitlines() if len(line) > 120 and not line.startswith(("|", "!["))] == []


@pytest.mark.parametrize("text", ["redoseg frobnicate x", "redoseg segment MODLE photo.jpg", "rm -rf /", "./run.sh"])
def test_a_command_that_nobody_placed_would_be_seen(text: str) -> None:
    with pytest.raises(AssertionError):
        test_every_command_is_placed(Command("here", text))
