"""The command line: help, exit codes, one line a mistake, and what each verb leaves behind."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import numpy as np
import pytest
from PIL import Image

from redoseg import __version__, metrics, run_folder
from redoseg.cli import main
from redoseg.cli.bench import BENCHES
from redoseg.cli.verbs import VERBS
from redoseg.config.recipe import recipe_names
from redoseg.config.schema import Config, DataConfig, NetConfig
from redoseg.data import open_data, prepare, writing
from redoseg.data.shapes import generate
from redoseg.evaluation.evaluate import _confidence, _ranks, evaluate
from redoseg.inference.segmenter import Segmenter
from redoseg.metrics import boundary_f
from redoseg.train import run

TINY = [
    "--steps=2", "--batch=4", "--data.size=16", "--data.pictures=16", "--data.evaluate-on=",
    "--nets.extractor-width=4", "--nets.generator-width=2", "--nets.discriminator-width=4",
    "--nets.encoder-width=4", "--nets.latent=4", "--device=cpu",
]  # fmt: skip


class Said(NamedTuple):
    code: Any
    out: str
    err: str


Call = Callable[..., Said]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Runs one command line in this process, in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def go(*arguments: str | Path) -> Said:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["redoseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main.main()
        return Said(stopped.value.code, *capsys.readouterr())

    return go


def outside(*arguments: str | Path, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own; `code` runs first."""
    start = ["-c", f"{code}\nfrom redoseg.cli.main import main; main()"] if code else ["-m", "redoseg"]
    return subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def test_nothing_reports_home_or_is_left_in_the_temporary_folder(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    (tmp_path / "temporary").mkdir()
    said = outside("segment", "flowers", tmp_path / "a.png", "-o", tmp_path / "out", TMPDIR=str(tmp_path / "temporary"))
    assert said.returncode == 0
    assert list((tmp_path / "temporary").iterdir()) == []


def one_line(said: Said) -> str:
    assert said.code == 2, said
    assert said.out == ""
    assert said.err.endswith("\n")
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("redoseg: ")
    return said.err.removeprefix("redoseg: ").rstrip("\n")


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --------------------------------------------------------------------------------------------------- help


def settings(kind: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each setting's name on the command line, its class and its default."""
    for field in fields(kind):
        hint = get_type_hints(kind)[field.name]
        if is_dataclass(hint):
            yield from settings(hint, "" if hint is Config else f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", kind, field


def squeezed(text: str) -> str:
    """Without white space and boxes, so that line breaks do not matter."""
    return re.sub(r"[\s╭╮╰╯│─]+", "", text)


@pytest.mark.every(5)
@pytest.mark.parametrize("verb", VERBS)
def test_help_lists_every_setting_with_default_and_unit(verb: str, call: Call) -> None:
    from test_layers import described

    said = call(verb, "--help-all")
    assert (said.code, said.err) == (0, "")
    text = squeezed(said.out)
    listed = list(settings(VERBS[verb][0]))
    for name, kind, field in listed:
        about = squeezed(described(kind)[field.name])
        assert about.endswith("]")
        where = text.find(about)
        assert where >= 0, f"{name}: {about}"
        if field.default is MISSING or name == "methods":
            continue
        shown = {"": "''", (): "none"}.get(field.default, str(field.default))
        assert text[where + len(about) :].startswith(squeezed(f"(default: {shown})")), name
    if verb == "train":
        assert len(listed) > 50
        for name, _, _ in listed:
            if name != "recipe":
                assert f"--{name.removeprefix('as_').replace('_', '-')}" in said.out


def test_trains_help_shows_the_recipes_defaults(call: Call) -> None:
    text = squeezed(call("train", "shapes", "--help-all").out)
    assert squeezed("Side of the square pictures: 4 times a power of two [pixels] (default: 32)") in text


QUICK = ("", "train", "segment", "compare")  # they import the most


@pytest.mark.parametrize("verb", [pytest.param(v, marks=() if v in QUICK else pytest.mark.slow) for v in ("", *VERBS)])
def test_help_answers_at_once(verb: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert outside(*verb.split(), "--help").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # of the processor, which other work on this machine does not lengthen much
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


def test_usage_names_every_verb(call: Call) -> None:
    for arguments in ((), ("--help",), ("--help-all",), ("help",), ("-h",)):
        said = call(*arguments)
        assert said.code == 0
        for verb, (kind, _) in VERBS.items():
            assert f"  {verb:<12}{(kind.__doc__ or '').splitlines()[0]}" in said.out
    assert call("--version").out == f"{__version__}\n"


def test_python_m_is_the_same() -> None:
    for arguments in ((), ("segment", "--help"), ("frobnicate",)):
        module, function = outside(*arguments), outside(*arguments, code="pass")
        assert (module.returncode, module.stdout) == (function.returncode, function.stdout)
        assert module.stderr == function.stderr


# ------------------------------------------------------------------------------------------------ mistakes


def train_hint(what: str) -> str:
    return f"{what}. See `redoseg train --help`."


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (
            "frobnicate",
            f"verb 'frobnicate' does not exist. Choose one of {', '.join(VERBS)}; see `redoseg --help`.",
        ),
        (
            "train",
            "there is nothing to train on. Add --data FOLDER, or a recipe: a TOML file or one of "
            f"{', '.join(recipe_names())}.",
        ),
        (
            "train shapes --nets.latend 3",
            "There is no option --nets.latend. Did you mean --nets.latent INT? See `redoseg train --help`.",
        ),
        (
            "train shapes --steps many",
            train_hint("--steps is 'many', but must be a whole number"),
        ),
        (
            "train shapes --data.size 33",
            "settings: data.size is 33, but must be 4 times a power of two, such as 16, 32, 64 or 128; "
            "change --data.size",
        ),
        (
            "train shapes --steps 0",
            "settings: steps is 0, but must be at least 1; change --steps",
        ),
        (
            "train shapes --optim.beta1 nan",
            "settings: optim.beta1 is nan, but must be from 0 to 0.9999; change --optim.beta1",
        ),
        (
            "train shapes --optim.encoder-rate inf",
            "settings: optim.encoder_rate is inf, but must be at least 0; change --optim.encoder-rate",
        ),
        (
            "train shapes --objective.latent-from composites --objective.redraw together",
            "settings: objective.latent_from composites needs objective.redraw each or object, but it is together; "
            "set objective.redraw to one of these",
        ),
        (f"train {'x' * 300}", f"recipe {'x' * 300} cannot be read ("),
        (
            "train none.toml",
            f"recipe none.toml does not exist; choose a TOML file or one of {', '.join(recipe_names())}",
        ),
        (
            "train --resume",
            "--resume needs the run folder to continue. Add --out FOLDER.",
        ),
        (
            "train --resume --out gone",
            "gone is not a run folder. Expected a folder made by `redoseg train`; choose one",
        ),
        (
            "evaluate gone shapes",
            "model gone does not exist: choose a run folder, a model folder, an .onnx file or weights that come "
            "with redoseg (",
        ),
        ("data gone", "gone does not exist; expected a prepared set; make it with `redoseg prepare`"),
        (
            "prepare folder --source gone --out set",
            "gone does not exist; expected a folder of pictures; choose another",
        ),
        ("segment", "`redoseg segment` needs MODEL and -o PATH. "),
    ],
)
def test_a_mistake_is_one_line(command: str, text: str, call: Call) -> None:
    said = one_line(call(*command.split()))
    assert said.startswith(text) if text[-1] in "( " else said == text
    assert content(Path()) == {}
    assert list(Path().iterdir()) == []


@pytest.mark.every(2)
@pytest.mark.parametrize(("encoding", "columns"), [("utf-8", "40"), ("ascii", "200")])
def test_a_mistake_reads_the_same_on_any_terminal(encoding: str, columns: str) -> None:
    places = {"PYTHONIOENCODING": encoding, "COLUMNS": columns}
    said = outside("train", "shapes", "--nets.discriminator-widht", "3", **places)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == (
        "redoseg: There is no option --nets.discriminator-widht. Did you mean "
        "--nets.discriminator-width INT? See `redoseg train --help`.\n"
    )
    said = outside("train", "shapes", "--optim.discriminator-rate", "many", **places)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == (
        "redoseg: --optim.discriminator-rate is 'many', but must be a number. See `redoseg train --help`.\n"
    )


@pytest.mark.parametrize("count", [None, 0, 3])
def test_training_on_too_few_pictures(count: int | None, call: Call) -> None:
    here = Path()
    if count is not None:
        (here / "pics").mkdir()
        for number in range(count):
            Image.new("RGB", (20, 20), (number, 0, 0)).save(here / "pics" / f"{number}.png")
    before = content(here)
    said = one_line(call("train", "shapes", "--data", "pics", "--out", "run"))
    assert (
        said
        == {
            None: "pics does not exist; expected a prepared set, a folder of pictures, shapes, "
            "shapes-hard, leaves, beetles or tray; name one of these",
            0: "no picture found in pics; expected files ending in .jpg, .png, .webp, ...; "
            "add pictures or choose another folder",
            3: "pictures found in pics: 3, but at least 8 are needed; add pictures or choose another folder",
        }[count]
    )
    assert content(here) == before
    assert not (here / "run").exists()


def test_a_run_folder_that_exists(call: Call) -> None:
    Path("run").mkdir()
    Path("run/mine.txt").write_text("mine")
    said = one_line(call("train", "shapes", *TINY, "--out", "run"))
    assert said == "run already exists; add --resume to continue it, or choose another --out"
    assert content(Path()) == {"run/mine.txt": b"mine"}


@pytest.mark.parametrize("junk", [b"", b"no model", b"\x89PNG\r\n\x1a\n", b"\x08\x07\x12\x00"])
def test_a_model_file_that_is_none(junk: bytes, call: Call, photos: Path) -> None:
    Path("model.onnx").write_bytes(junk)
    for command in (("segment", "model.onnx", photos / "images", "-o", "out"), ("evaluate", "model.onnx", photos)):
        said = one_line(call(*command))
        assert said.startswith("model.onnx is ")
        assert "choose a run folder" in said
    assert content(Path()) == {"model.onnx": junk}
    assert not Path("out").exists()


def test_a_device_that_is_not_there(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    said = one_line(call("train", "shapes", *TINY, "--device=cuda", "--out", "run"))
    assert said.startswith("device cuda is not available here; choose --device ")
    assert not Path("run").exists()


@pytest.mark.parametrize("deep", ["file/run", "file/deep/run"])
def test_a_run_folder_below_a_file(deep: str, call: Call) -> None:
    Path("file").write_text("mine")
    said = one_line(call("train", "shapes", *TINY, "--out", deep))
    assert said == f"{deep} cannot be made (Not a directory); choose another --out"
    assert content(Path()) == {"file": b"mine"}


def test_a_sheet_below_a_file(call: Call, photos: Path, trained: Any) -> None:
    Path("file").write_text("mine")
    for name, why in (("file/sheet.png", "Not a directory"), ("file/deep/sheet.png", "Not a directory")):
        said = one_line(call("evaluate", trained.folder, photos, "--methods", "kmeans", "--picture", name))
        assert said == f"{name} cannot be written ({why}). Choose another file."
    assert content(Path()) == {"file": b"mine"}


def test_a_misspelt_split(call: Call, photos: Path) -> None:
    prepare("flowers17", photos, "set", 16)
    said = one_line(call("train", "shapes", *TINY, "--data", "set", "--data.split", "tset", "--out", "run"))
    assert said == "flowers17 has no split 'tset'; choose one that it has: dev, test"
    assert not Path("run").exists()


def test_scoring_without_masks(call: Call, photos: Path, trained: Any) -> None:
    said = one_line(call("evaluate", trained.folder, photos / "images"))
    assert said == (
        f"{photos / 'images'} has no masks; expected pictures with masks; add a folder masks/ beside images/"
    )


def test_an_unknown_method(call: Call, photos: Path, trained: Any) -> None:
    said = one_line(call("evaluate", trained.folder, photos, "--methods", "magic"))
    assert (
        said
        == "Method 'magic' does not exist. Choose one of kmeans, watershed, grabcut, iem, otsu, square, everything."
    )


# ----------------------------------------------------------------------------------------- what verbs leave


NEXT = [
    "look at run/samples/last.png: a row a picture: the picture, its mask, each region redrawn",
    "use it: redoseg segment run photo.jpg -o out/",
]


def test_train_and_resume(call: Call) -> None:
    said = call("train", "shapes", *TINY, "--out", "run")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[-3:] == ["finished; run folder: run", *NEXT]
    assert run_folder.RunFolder(Path("run")).read_config().nets.latent == 4
    said = call("train", "--resume", "--out", "run", "--steps", "3", "--device", "cpu")
    assert said.code == 0
    assert run_folder.RunFolder(Path("run")).read_config().steps == 3
    assert json.loads(Path("run/log.jsonl").read_text().splitlines()[-1])["step"] == 3
    said = call("train", "--resume", "--out", "run", "--seed", "7", "--device", "cpu")
    assert one_line(said).startswith("run was trained with other settings (seed: 0 -> 7); keep the settings")


def test_train_names_its_own_folder(call: Call) -> None:
    assert call("train", "shapes", *TINY, "--seed=5").code == 0
    assert Path("runs/shapes-seed5/state.safetensors").exists()


def test_dry_run_prints_the_settings_and_stops(call: Call, photos: Path) -> None:
    said = call("train", "shapes", "--dry-run", "--json", "--steps", "9", "--data", photos, "--optim.beta1", "0.25")
    assert (said.code, said.err) == (0, "")
    shown = json.loads(said.out)
    assert (shown["steps"], shown["optim"]["beta1"], shown["data"]["size"]) == (9, 0.25, 32)
    assert shown["data"]["source"] == str(photos)
    assert shown["data"]["evaluate_on"] == ""  # the recipe's own pictures have nothing to do with these
    assert list(Path().iterdir()) == []


def test_a_dry_run_for_people(call: Call, photos: Path, tmp_path: Path) -> None:
    small = ["--batch", "2", "--refine.batch", "2", "--refine.pictures", "6", "--refine.sharpen-size", "1"]
    recipe = "photos-redrawing"
    said = call("train", recipe, "--data", photos, *small, "--dry-run", "--sheet", tmp_path / "sheet.png")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0].startswith("would train on 12 pictures of photos")
    assert re.fullmatch(r"first stage: 800 steps of 2 pictures at 32 px, about \d+ (seconds|minutes)", lines[1])
    assert "2 rounds from the first stage's masks: each has masks of 6 pictures, cut by GrabCut" in lines[2]
    assert re.fullmatch(r"both stages: about \d+ (seconds|minutes)", lines[3])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 500
    assert not Path("runs").exists()
    alone = call("train", recipe, "--data", photos, *small, "--refine.start", "disc", "--dry-run").out
    assert "first stage" not in alone
    assert "2 rounds from one disc for all" in alone


def test_what_only_a_dry_run_takes(call: Call) -> None:
    for extra in (["--json"], ["--sheet", "a.png"]):
        said = call("train", "shapes", *extra)
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert f"{extra[0]} was given without --dry-run" in said.err


@pytest.mark.parametrize(
    "command",
    [
        ["--seed", "3", "shapes", "--dry-run", "--json"],
        ["--seed=3", "shapes", "--dry-run", "--json"],
        ["--dry-run", "--json", "--seed", "3", "shapes"],
        ["--data.flip", "--seed", "3", "shapes", "--dry-run", "--json"],
    ],
)
def test_a_recipe_counts_wherever_it_stands(command: list[str], call: Call) -> None:
    said = call("train", *command)
    assert (said.code, said.err) == (0, "")
    shown = json.loads(said.out)
    assert shown["seed"] == 3
    assert shown["steps"] == json.loads(call("train", "shapes", "--dry-run", "--json").out)["steps"]


def test_a_recipe_after_the_data_counts_too(call: Call, photos: Path) -> None:
    said = call("train", "--data", photos, "shapes", "--dry-run", "--json")
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out) == json.loads(call("train", "shapes", "--data", photos, "--dry-run", "--json").out)


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [
        ({}, 0, "finished, iou 0.500; run folder: run"),
        ({"left_out": 2}, 1, "finished, iou 0.500; run folder: run"),
        ({"collapsed": True}, 1, "collapsed: a region has all but vanished, iou 0.500; run folder: run"),
        (
            {"stopped": True, "step": 3},
            130,
            "stopped by hand at step 3 of 9, iou 0.500; run folder: run\n"
            "continue with: redoseg train --resume --out run",
        ),
        (
            {"stopped": True, "left_out": 2},
            130,
            "stopped by hand in the second stage, iou 0.500; run folder: run\n"
            "continue with: redoseg train --resume --out run",
        ),
    ],
)
def test_how_a_run_ends_is_the_exit_code(
    outcome: dict[str, Any], code: int, said: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = {"collapsed": False, "stopped": False, "step": 9, "steps": 9, "scores": {"iou": 0.5}, "left_out": 0}
    ended |= outcome
    monkeypatch.setattr(run, "run", lambda *_, **__: ended)
    following = [] if ended["stopped"] else NEXT
    assert call("train", "shapes", "--out", "run") == (code, "\n".join([said, *following]) + "\n", "")


def test_ctrl_c_before_training_starts(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run", interrupted)
    assert call("train", "shapes", "--out", "run") == (130, "", "redoseg: stopped by hand\n")


def test_evaluate_json_is_one_object_and_nothing_else(call: Call, photos: Path, trained: Any) -> None:
    said = call("evaluate", trained.folder, photos, "--json", "--methods", "kmeans")
    assert (said.code, said.err) == (0, "")
    assert said.out.count("\n") == 1
    result = json.loads(said.out)
    assert {"iou", "accuracy", "iou_oracle_flip", "accuracy_oracle_flip", "pictures"} <= result.keys()
    assert result["pictures"] == 12
    assert 0 <= result["iou"] <= result["iou_oracle_flip"] <= 1
    assert 0 <= result["accuracy"] <= result["accuracy_oracle_flip"] <= 1
    low, high = result["iou_interval"]
    assert low <= result["iou"] <= high
    assert set(result["beside"]) == {"mean mask", "centred disc", "kmeans"}


@pytest.mark.parametrize(
    ("data", "flags", "size"),
    [("photos", [], 128), ("photos", ["--size", "16"], 16), ("set", [], 16), ("set", ["--size", "8"], 8)],
)
def test_the_size_that_evaluate_scores_at(
    data: str, flags: list[str], size: int, call: Call, photos: Path, trained: Any
) -> None:
    """A folder at the paper's size, a prepared set at its own, and both at the one asked for."""
    prepare("folder", photos, "set", 16)
    data = str(photos) if data == "photos" else data
    said = call("evaluate", trained.folder, data, *flags, "--json", "--methods", "kmeans")
    assert (said.code, said.err) == (0, "")
    result = json.loads(said.out)
    assert (result["size"], result["pictures"]) == (size, 12)
    pictures = open_data(data, size)
    segmenter = Segmenter(trained.folder, edges="plain")  # of 32 px
    objects = segmenter.batch(np.asarray(pictures.pixels))[:, segmenter.object_region] > 0.5
    assert objects.shape == (12, size, size)
    scores = metrics.score(objects, pictures.labels())
    assert result["iou"] == pytest.approx(scores.iou)
    assert result["accuracy"] == pytest.approx(scores.accuracy)


def test_built_in_pictures_are_scored_at_the_models_size(trained: Any) -> None:
    assert evaluate(str(trained.folder), "shapes", methods=())["size"] == 32


def test_a_larger_size_than_the_prepared_one(call: Call, photos: Path, trained: Any) -> None:
    prepare("folder", photos, "set", 16)
    said = one_line(call("evaluate", trained.folder, "set", "--size", "32"))
    assert said == f"{photos.name} is prepared at 16 px, but at least 32 px are needed; prepare it again with --size 32"


def test_evaluate_prints_a_table_and_a_picture(call: Call, photos: Path, trained: Any) -> None:
    said = call("evaluate", trained.folder, photos, "--methods", "kmeans", "--picture", "sheets/sheet.png")
    assert said.code == 0
    for word in ("kmeans", "mean mask", "centred disc", "iou_oracle_flip", "iou 95 % interval"):
        assert word in said.out
    with Image.open("sheets/sheet.png") as sheet:
        assert min(sheet.size) > 100


@pytest.mark.usefixtures("no_cuts")
def test_own_size_scores_both_ways_and_confidence(call: Call, trained: Any, tmp_path: Path) -> None:
    """Pictures of three sizes, one with unlabelled pixels, one without a mask."""
    folder = tmp_path / "mixed"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number, side in enumerate((40, 56, 90, 64, 48)):
        image, label = (values[0] for values in generate("shapes", 1, 128, seed=number))
        mask = Image.fromarray(label * 255).resize((side, side), Image.Resampling.NEAREST)
        Image.fromarray(image).resize((side, side)).save(folder / "images" / f"{number}.png")
        if number == 1:
            mask.paste(127, (0, 0, side, 5))
        if number != 4:
            mask.save(folder / "masks" / f"{number}.png")
    said = call("evaluate", trained.folder, folder, "--own-size", "--json")
    assert (said.code, said.err) == (0, "")
    result = json.loads(said.out)
    assert (result["pictures"], result["shorter_side"]) == (4, {"least": 40, "most": 90})
    for edges in ("plain", "guided", "grabcut"):
        segmenter = Segmenter(trained.folder, edges=edges)  # type: ignore[arg-type]
        ious, boundaries = [], []
        for number in range(4):
            mask = np.asarray(Image.open(folder / "masks" / f"{number}.png"))
            labels = np.where(mask == 127, -1, mask > 0).astype(np.int8)
            found = segmenter(folder / "images" / f"{number}.png")
            ious.append(metrics.score(found[None], labels[None]).iou)
            boundaries.append(boundary_f(found, labels))
        assert result[edges]["iou"] == pytest.approx(np.mean(ious))
        assert result[edges]["boundary_f"] == pytest.approx(np.mean(boundaries))
        low, high = result[edges]["iou_interval"]
        assert low <= result[edges]["iou"] <= high
    for edges in ("guided", "grabcut"):
        low, high = result["gain"][edges]["boundary_f"]
        assert low <= result[edges]["boundary_f"] - result["plain"]["boundary_f"] <= high
    assert -1 <= result["confidence"]["rank_correlation"] <= 1
    table = call("evaluate", trained.folder, folder, "--own-size")
    for word in ("plain", "guided", "grabcut", "boundary_f", "40 to 90 px", "rank correlation"):
        assert word in table.out


@pytest.mark.usefixtures("no_cuts")
def test_own_size_finds_what_a_set_was_prepared_from(call: Call, photos: Path, trained: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(photos, source)
    prepare("horses", source, "set", 16)
    pictures = [
        json.loads(call("evaluate", trained.folder, "set", *split, "--own-size", "--json").out)["pictures"]
        for split in ((), ("--split", "dev"), ("--split", "test"))
    ]
    assert pictures == [12, 4, 8]
    said = one_line(call("evaluate", trained.folder, "set", "--own-size", "--split", "val"))
    assert said.startswith(
        "set has no picture with a mask in split 'val' (splits: dev, test); put masks into masks/ beside images/"
    )
    for other in (("--size", "16"), ("--picture", "x.png")):
        said = one_line(call("evaluate", trained.folder, "set", "--own-size", *other))
        assert said == "--own-size cannot be combined with --size or --picture."
    shutil.rmtree(source)
    said = one_line(call("evaluate", trained.folder, "set", "--own-size"))
    assert said == f"set was prepared from {source}, which no longer exists; choose the folder of the original pictures"


def test_a_place_that_may_not_be_entered_is_one_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "locked/photo.jpg")

    monkeypatch.setattr("redoseg.inference.segment_files.segment_paths", locked)
    said = one_line(call("segment", "flowers", "locked/photo.jpg", "-o", "out"))
    assert said == "locked/photo.jpg cannot be opened or changed (permission denied). Change its permissions."


def test_ranks_share_places() -> None:
    assert _ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    same = np.array([0.5, 0.5, 0.5])
    assert "rank_correlation" not in _confidence(same, np.array([0.1, 0.2, 0.3]))
    assert _confidence(np.array([0.2, 0.3, 0.1]), np.array([0.5, 0.9, 0.0]))["rank_correlation"] == pytest.approx(1)


def test_segment_writes_coco_crops_and_reviews(call: Call, photos: Path, trained: Any) -> None:
    said = call(
        "segment", trained.folder, photos / "images", "-o", "out", "--as", "coco", "--review", "--label", "thing"
    )
    assert (said.code, said.err) == (0, "")
    assert json.loads(Path("out/coco.json").read_text())["categories"][0]["name"] == "thing"
    assert Path("out/review.csv").read_text().count("\n") == 13
    assert call("segment", trained.folder, photos / "images/00.png", "-o", "whole.png", "--as", "soft").code == 0
    plain = call("segment", trained.folder, photos / "images/00.png", "-o", "p.png", "--as", "soft", "--edges", "plain")
    assert plain.code == 0
    assert Path("whole.png").read_bytes() != Path("p.png").read_bytes()
    said = one_line(call("segment", trained.folder, photos / "images", "-o", "o", "--as", "coco", "--crop"))
    assert said.startswith("crop cannot be combined with kind coco")


def test_segment_continues_after_a_broken_picture(call: Call, photos: Path, trained: Any) -> None:
    shutil.copytree(photos / "images", "pics/sub")
    Path("pics/broken.jpg").write_bytes(b"no picture")
    Image.new("RGB", (37, 21), (200, 30, 30)).save("pics/odd.png")
    before = content(Path("pics"))
    said = call("segment", trained.folder, "pics", "-o", "out")
    assert said.code == 1
    assert "13 of 14 pictures segmented into out" in said.out
    listed = [line for line in (said.out + said.err).splitlines() if line.startswith("skipped: ")]
    assert len(listed) == 1
    assert "broken.jpg" in listed[0]
    expected = {f"sub/{number:02}.png" for number in range(12)} | {"odd.png"}
    assert set(content(Path("out"))) == expected
    with Image.open("out/odd.png") as mask:
        assert mask.size == (37, 21)
        assert set(np.unique(np.asarray(mask))) <= {0, 255}
    assert content(Path("pics")) == before
    # again: nothing is overwritten
    masks = content(Path("out"))
    assert call("segment", trained.folder, "pics", "-o", "out").code == 1
    assert content(Path("out")) == masks


def test_train_continues_after_a_broken_picture(call: Call, photos: Path) -> None:
    shutil.copytree(photos / "images", "pics")
    Path("pics/broken.png").write_bytes(b"no picture")
    said = call("train", "shapes", *TINY, "--watch.collapse-share=0", "--data", "pics", "--out", "run")
    assert (said.code, said.err) == (1, "")  # done in part
    listed = [line for line in said.out.splitlines() if line.startswith("skipped: ")]
    assert listed == ["skipped: broken.png: not a picture of a known format; replace or remove it"]
    assert said.out.splitlines()[-3:] == ["finished; run folder: run", *NEXT]
    assert json.loads(Path("run/config.json").read_text())["trained_on"]["pictures"] == 12


def test_training_takes_the_part_called_train(call: Call, photos: Path) -> None:
    shutil.copytree(photos, "pics")
    Path("pics/splits.csv").write_text("".join(f"{i:02},{'test' if i < 3 else 'train'}\n" for i in range(12)))
    Path("pics/images/broken.png").write_bytes(b"no picture")
    assert call("prepare", "folder", "--source", "pics", "--out", "set", "--size", "32").code == 1
    recipe = "photos-redrawing"
    said = call(
        "train", recipe, *TINY, "--watch.collapse-share=0", "--data", "set", "--refine.rounds=0", "--out", "run"
    )
    # what was left out was said when the set was prepared
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[0] == "training on 9 pictures of pics (train)"
    command = ["--watch.collapse-share=0", "--data.split=", "--data", "set", "--refine.rounds=0", "--out", "run2"]
    said = call("train", recipe, *TINY, *command)
    assert said.out.splitlines()[0] == "training on 12 pictures of pics (test, train)"


def test_prepare_and_data(call: Call, photos: Path) -> None:
    shutil.copytree(photos, "pics")
    said = call("prepare", "folder", "--source", "pics", "--out", "set", "--size", "16")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[0] == "12 pictures prepared at 16 px in set"
    said = call("data", "set", "--sheet", "sheet.png")
    assert said.code == 0
    here = os.getcwd()
    assert said.out.splitlines()[:2] == [
        f"pics: 12 pictures of 16 px, prepared from {here}/pics",
        "in no split: 12 pictures, 12 with masks",
    ]
    share = re.search(r"the object covers (\d+\.\d) % of the labelled pixels\nskipped when it was made: 0", said.out)
    assert share is not None
    labels = open_data("set", 16).labels()
    assert float(share[1]) == pytest.approx(100 * (labels == 1).mean(), abs=0.051)
    with Image.open("sheet.png") as sheet:
        assert sheet.format == "PNG"
    said = call("prepare", "folder", "--source", "pics", "--out", "set", "--size", "16")
    assert (said.code, said.out.splitlines()[0]) == (
        0,
        "12 pictures prepared at 16 px in set (12 of them were done before)",
    )
    said = call("prepare", "folder", "--source", "pics", "--out", "set")
    assert one_line(said) == (
        "set is a set prepared from other pictures or settings (12 pictures, 16 px); choose a new folder"
    )
    Path("pics/images/broken.png").write_bytes(b"no picture")
    said = call("prepare", "folder", "--source", "pics", "--out", "set2", "--size", "16")
    assert said.code == 1
    assert "skipped: images/broken.png: not a picture of a known format" in said.out + said.err


def test_prepare_a_mix_with_lists_of_names(call: Call, photos: Path) -> None:
    shutil.copytree(photos, "a")
    shutil.copytree(photos, "b")
    Path("lists").mkdir()
    Path("lists/test.txt").write_text("".join(f"a/{i:02}\nb/{i:02}\n" for i in range(4)))
    command = ["prepare", "folder+folder", "--source", "a", "b", "--out", "set", "--size", "16"]
    said = call(*command, "--splits", "lists")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[0] == "24 pictures prepared at 16 px in set"
    data = open_data("set", 16)
    assert (data.splits.count("train"), data.splits.count("test")) == (16, 8)
    assert {"a/00", "b/11"} <= set(data.names)
    assert data.labelled.all()
    said = call("prepare", "a", "--out", "other")
    assert one_line(said).startswith(
        "'a' is a path, but the name of a set is needed. For your own pictures: redoseg prepare"
    )
    said = call("prepare", "lfw", "--out", "other")
    assert one_line(said) == "--source is missing: the folder of lfw is needed. Add --source DIR or --download."
    said = call("prepare", "folder", "--out", "other")
    assert one_line(said) == "--source is missing: a folder of pictures is needed. Add --source DIR."


def test_prepare_with_download_takes_what_is_there(call: Call) -> None:
    for number in range(1, 10):
        flower = np.full((30, 40, 3), (200, 10, 60), np.uint8)
        trimap = np.full((30, 40, 3), (0, 0, 128), np.uint8)
        trimap[10:20, 10:30] = (128, 0, 0)
        for folder, pixels, suffix in (("jpg", flower, "jpg"), ("trimaps", trimap, "png")):
            Path("seventeen", folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(f"seventeen/{folder}/image_{number:04}.{suffix}")
    said = call("prepare", "flowers17", "--download", "--source", "seventeen", "--out", "set", "--size", "16")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[:2] == [
        "9 pictures prepared at 16 px in set",
        "note: 9 of the official 1,360 pictures are here",
    ]
    said = call("prepare", "horses", "--download", "--out", "set2")
    assert one_line(said).startswith("set 'horses' cannot be downloaded; choose one of flowers102, ")
    said = call("prepare", "lfw+flowers17", "--download", "--source", "seventeen", "--out", "set2")
    assert one_line(said).startswith("1 source folders are given, but lfw+flowers17 needs 2; give one for each part")


def test_prepare_stopped_by_hand_continues(call: Call, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "COMMIT_ITEMS", 5)
    shutil.copytree(photos, "pics")
    add, added = writing._Writer.add, []

    def stop_after_seven(self: Any, *rest: Any) -> None:
        add(self, *rest)
        added.append(1)
        if len(added) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(writing._Writer, "add", stop_after_seven)
    command = ["prepare", "folder", "--source", "pics", "--out", "set", "--size", "16"]
    said = call(*command)
    assert (said.code, said.out) == (130, "stopped by hand; the same command continues where it stopped\n")
    assert not Path("set").exists()
    said = call(*command)
    assert (said.code, said.out) == (0, "12 pictures prepared at 16 px in set (7 of them were done before)\n")


@pytest.mark.slow
def test_bench_prepare(call: Call) -> None:
    command = ["bench", "prepare", "--pictures", "2", "--rounds", "1", "--size", "64", "--small", "20", "--json"]
    said = call(*command)
    assert (said.code, said.err) == (0, "")
    result = json.loads(said.out)
    assert {name: len(speeds) for name, speeds in result["per_second"].items()} == {"plain loop": 1, "redoseg": 1}
    ratio = result["ratio"]["redoseg"]
    assert 0 < ratio["least"] <= ratio["median"] <= ratio["most"]
    assert result["megapixels"] >= 4
    assert 0 < result["mean_difference_grey_levels"] < 2
    assert result["mask_pixels_changed"] == 0
    assert result["small"]["pictures"] == 20


def test_bench_prepare_on_ones_own_pictures(call: Call, photos: Path) -> None:
    shutil.copytree(photos, "mine")
    Path("mine/images/00.png").write_bytes(b"broken")
    said = call("bench", "prepare", "--source", "mine", "--rounds", "1", "--size", "16", "--json")
    assert (said.code, said.err, json.loads(said.out)["pictures"]) == (0, "", 11)
    said = call("bench", "prepare", "--source", "mine", "--rounds", "0")
    assert (said.code, said.err) == (2, "redoseg: --rounds is 0; choose 1 or more\n")


def test_quantize(call: Call, photos: Path, trained: Any) -> None:
    said = call("quantize", trained.folder, photos / "images", "-o", "small/int8.onnx")
    assert (said.code, said.out, said.err) == (
        0,
        "int8 model written to small/int8.onnx, its ranges of values measured on 12 pictures\n",
        "",
    )
    assert call("segment", "small/int8.onnx", photos / "images", "-o", "out").code == 0
    assert len(content(Path("out"))) == 12
    said = call("quantize", trained.folder, photos / "images", "-o", "small/int8.onnx")
    assert one_line(said) == "small/int8.onnx exists: choose another name"


def test_redraw(call: Call, photos: Path, trained: Any) -> None:
    photo, other = photos / "images" / "00.png", photos / "images" / "01.png"
    said = call("redraw", trained.folder, photo, "-o", "out", "-n", "3", "--what", "both", "--seed", "4")
    assert (said.code, said.err) == (0, "")
    written, doubtful = said.out.splitlines()  # so short a training has doubtful masks
    assert written == "3 drawings in out, all on out/00-redrawn.png"
    assert "its mask looks doubtful" in doubtful
    drawn = content(Path("out"))
    assert set(drawn) == {"00-1.png", "00-2.png", "00-3.png", "00-redrawn.png"}
    assert len(set(drawn.values())) == 4
    said = call("redraw", trained.folder, photo, "-o", "out")
    assert one_line(said) == "out/00-1.png exists: choose another path, or allow overwriting (--overwrite)"
    assert content(Path("out")) == drawn
    assert call("redraw", trained.folder, photo, "-o", "out", "-n", "1", "--like", other, "--overwrite").code == 0
    assert content(Path("out"))["00-1.png"] != drawn["00-1.png"]
    said = call("redraw", trained.folder, photo, "-o", "gif", "-n", "2", "--gif")
    assert (said.code, said.out.splitlines()[0], said.err) == (0, "animation: gif/00-redrawn.gif", "")
    assert set(content(Path("gif"))) == {"00-redrawn.gif"}


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("redraw flowers-int8 {photo} -o out", "model flowers-int8 has no redraw.onnx: choose a run folder, "),
        ("redraw {run} gone.jpg -o out", "gone.jpg does not exist, but must be a photograph: "),
        ("redraw {run} {photo} -o out --like gone.jpg", "gone.jpg: cannot be read (no such file); "),
        (
            "redraw {run} {photo} -o out -n 0",
            "the number of drawings is 0, but must be from 1 to 64: ",
        ),
        ("redraw {run} {photo} -o out --what sky", "--what is 'sky', but must be one of object, background, both. "),
        ("redraw {run} {photo}", "`redoseg redraw` needs -o FOLDER. "),
        ("export {run}", "`redoseg export` needs -o FOLDER. "),
        (
            "export gone -o out",
            "gone has no state.safetensors, so it is not a run folder; choose one made by `redoseg train`",
        ),
        ("push {run} me/birds", "{run} has no README.md; expected a model folder; make one with `redoseg export`"),
        (
            "segment hf://birds {photo} -o out",
            "'birds' is not a model's name on the hub; expected user/name; correct it",
        ),
    ],
)
def test_mistakes_in_redrawing_and_sharing(command: str, text: str, call: Call, photos: Path, trained: Any) -> None:
    places = {"photo": photos / "images" / "00.png", "run": trained.folder}
    said = one_line(call(*(part.format(**places) for part in command.split())))
    assert said.startswith(text.format(**places))
    assert list(Path().iterdir()) == []


def test_export(call: Call, photos: Path, trained: Any) -> None:
    said = call("export", trained.folder, "-o", "models/birds", "--licence", "mit")
    assert (said.code, said.err) == (0, "")
    assert re.fullmatch(
        r"model folder: models/birds \(mask.onnx [\d.]+ MB, redraw.onnx [\d.]+ MB, model.safetensors [\d.]+ MB\)\n"
        r"note: the model card, README.md, has gaps that --data-note would fill\n",
        said.out,
    )
    assert 'license: "mit"' in Path("models/birds/README.md").read_text()
    for verb in ("segment", "redraw"):
        assert call(verb, "models/birds", photos / "images" / "00.png", "-o", verb).code == 0
    command = ["export", trained.folder, "-o", "models/birds"]
    assert one_line(call(*command)) == "models/birds exists; expected a new model folder; choose another path"
    said = call("export", trained.folder, "-o", "b", "--licence", "mit", "--data-note", "Mine.", "--limits", "Hats.")
    assert said.out.count("\n") == 1
    assert "Mine." in Path("b/README.md").read_text()
    assert "Hats." in Path("b/README.md").read_text()


@pytest.mark.slow
def test_bench_segment(call: Call) -> None:
    counts = "--pictures 5 --rounds 2 --size 32 --starts 1 --folder 3 --small 2 --many 4".split()  # noqa: SIM905
    said = call("bench", "segment", *counts, "--json")
    assert (said.code, said.err) == (0, "")
    result = json.loads(said.out)
    network, folder = result["network"], result["folder"]
    assert {len(speeds) for speeds in network["per_second"].values()} == {2}
    slower = network["ratio"].keys() - {"redoseg", "redoseg, int8"}
    assert len(slower) == 1  # the other batch of eager PyTorch, not the reference
    assert slower < {"eager PyTorch, batches of 4", "eager PyTorch, batches of 32"}
    assert 0 <= network["largest_difference"]["redoseg"] < 1e-4 < network["largest_difference"]["redoseg, int8"] < 0.3
    assert (network["pictures"], folder["pictures"]) == (5, 3)
    assert set(folder["per_second"]) == {"plain loop", "redoseg", "redoseg, guided edges"}
    assert len(result["shell"]["seconds"]) == 1
    assert [result[name]["pictures"] for name in ("small", "many")] == [2, 4]
    assert result["many"]["peak_own_memory_mb"] > 10
    assert {"torch", "onnxruntime"} < set(result["hardware"])


TINY_STEPS = [
    *("--data.size", "16", "--batch", "4", "--precision", "bfloat16", "--nets.latent", "4"),
    *("--nets.extractor-width", "4", "--nets.generator-width", "2"),
    *("--nets.discriminator-width", "4", "--nets.encoder-width", "4"),
]


@pytest.mark.slow
def test_bench_train(call: Call) -> None:
    settings = [*TINY_STEPS, "--nets.generator-attention"]
    measured = ["--rounds", "2", "--turn", "1", "--same", "2", "--each", "--roofline", "--device", "cpu", "--json"]
    said = call("bench", "train", "shapes", *settings, *measured)
    assert (said.code, said.err) == (0, "")
    result = json.loads(said.out)
    ways = {"channels_last", "fused_optimiser", "precision bfloat16", "rewrite_convs", "fewer passes", "redoseg"}
    assert set(result["ratio"]) == ways
    assert {len(speeds) for speeds in result["per_second"].values()} == {2}
    flop = result["gflop_a_step"]
    assert 0 < flop["redoseg"] < flop["plain"]
    same, other = (result["same"][name]["2 steps"] for name in ("redoseg in float32", "plain from another seed"))
    assert same.keys() == other.keys() == {"redrawer", "latent", "self_redraw", "critic_real", "critic_fake"}
    assert sum(same.values()) < 0.1 * sum(other.values())
    layers = result["roofline"]["layers"]
    assert {row["bound"] for row in layers} <= {"arithmetic", "bytes"}
    assert any(row["layer"].startswith("UpsampledConv(") and row["gflop"] > 0 for row in layers)
    wanted = {row["layer"].partition("gradients: ")[2] for row in layers}
    assert wanted >= {"none", "input", "input and weights"}  # redrawn without gradient; a constant discriminator; both
    assert any(row["layer"].startswith("SelfAttention") for row in layers)
    assert not any("(2, 1, 1, 1)" in row["layer"] for row in layers)  # its own convolutions are not counted twice
    assert [row["ms"] for row in layers] == sorted((row["ms"] for row in layers), reverse=True)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["segment", "--folder", "0"], "0 photographs cannot be timed; choose 1 or more"),
        (
            ["train", "shapes", *TINY_STEPS, "--turn", "0"],
            "5 rounds of 0 steps cannot be timed; choose 1 or more of each",
        ),
    ],
)
def test_a_bench_of_nothing(command: list[str], said: str, call: Call) -> None:
    assert one_line(call("bench", *command)) == said


@pytest.mark.slow
def test_bench_scaling(call: Call) -> None:
    growing = "--sizes 16 32 --regions 2 3 --pictures 50 100 --processes 1 2 --rounds 1 --turn 1 --json".split()  # noqa: SIM905
    said = call("bench", "scaling", "shapes", *TINY_STEPS, *growing)
    assert (said.code, said.err) == (0, "")
    result = json.loads(said.out)
    for name in ("resolution", "regions"):
        small, large = result[name]["gflop_a_step"].values()
        assert large > small
        small, large = result[name]["kept_for_backward_mb"].values()
        assert large > small
    assert result["pictures"]["100"]["mb_on_disk"] == pytest.approx(2 * result["pictures"]["50"]["mb_on_disk"], rel=0.1)
    assert set(result["processes"]["pictures_per_second"]) == {"1", "2"}


def test_scaling_is_also_printed_in_words(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from redoseg.bench import scaling

    part = {
        "per_second": {"32 px": [2.0], "64 px": [1.0]},
        "ratio": {"64 px": dict.fromkeys(("median", "least", "most"), 0.5)},
    }
    found = {"resolution": part, "processes": {"pictures_per_second": {"1": [5.0], "2": [9.0]}, "ratio": {"2": 1.8}}}
    monkeypatch.setattr(scaling, "bench_scaling", lambda *_, **__: found)
    said = call("bench", "scaling", "shapes")
    assert (said.code, said.err) == (0, "")
    assert "64 px: 0.50 times as fast (0.50 to 0.50)" in said.out
    assert '"ratio": {\n   "2": 1.8' in said.out


@pytest.mark.slow
@pytest.mark.parametrize("counted", [False, True])
def test_the_model_of_devices(counted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from redoseg.bench import scaling

    if not counted:  # PyTorch counts for many seconds, whatever the widths
        monkeypatch.setattr(scaling, "flop_per_image", lambda _: 2e8)
    config = Config(data=DataConfig(size=16), nets=NetConfig(discriminator_width=8, encoder_width=8))
    found = scaling.devices(config)
    assert found["gflop_a_picture"] == 0.2
    by_link = {(row["link"], row["devices"]): row for row in found["rows"]}
    slow, fast = by_link["Ethernet 100 Gb/s", 64], by_link["InfiniBand 400 Gb/s", 64]
    # 2 * 63 / 64 of the gradients over 12.5 GB a second
    assert slow["communication_ms"] == pytest.approx(2 * 63 / 64 * found["gradients_a_step_mb"] / 12.5, rel=0.01)
    assert slow["communication_ms"] == pytest.approx(4 * fast["communication_ms"], rel=0.05)
    assert found["gradients_a_step_mb"] == pytest.approx(4 * found["weights_million"], rel=0.1)


def test_benches_are_listed(call: Call) -> None:
    for arguments in (["bench"], ["bench", "--help"]):
        said = call(*arguments)
        assert said.code == 0
        assert re.findall(r"^  (\w+) ", said.out, re.M) == list(BENCHES)
    said = call("bench", "trian")
    listed = ", ".join(BENCHES)
    assert (said.code, said.err) == (
        2,
        f"redoseg: bench 'trian' does not exist. Did you mean train? Choose one of {listed}; see "
        "`redoseg bench --help`.\n",
    )  # fmt: skip


# ------------------------------------------------------------------------------------------- without torch

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "safetensors", "onnx", "matplotlib", "jaxtyping"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
"""


@pytest.mark.slow
def test_segment_and_evaluate_need_no_torch(photos: Path, trained: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = outside("segment", trained.folder, photos / "images", "-o", out, code=BLOCK)
    assert (said.returncode, said.stderr) == (0, "")
    assert len(content(out)) == 12
    said = outside("evaluate", trained.folder, photos, "--json", "--methods", "kmeans", code=BLOCK)
    assert (said.returncode, said.stderr) == (0, "")
    assert json.loads(said.stdout)["pictures"] == 12
    said = outside("compare", photos, trained.folder, "--methods", "kmeans", "--json", "--size", "32", code=BLOCK)
    assert (said.returncode, said.stderr) == (0, "")
    assert len(json.loads(said.stdout)["rows"]) == 3
    said = outside("redraw", trained.folder, photos / "images" / "00.png", "-o", out / "drawn", code=BLOCK)
    assert (said.returncode, said.stderr) == (0, "")
    assert len(content(out / "drawn")) == 9


def test_training_without_torch_says_what_to_install(tmp_path: Path) -> None:
    said = outside("train", "shapes", "--out", tmp_path / "run", code=BLOCK)
    assert said.returncode == 2
    assert said.stdout == ""
    assert re.fullmatch(
        r'redoseg: \w+ is not installed; run: pip install "redoseg\[train\]"\n',
        said.stderr,
    )
    assert not (tmp_path / "run").exists()


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    command = f"{sys.executable} -m redoseg train shapes --dry-run --json | head -c 1"
    said = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in said.stderr
    assert said.stdout == "{"
