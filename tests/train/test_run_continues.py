"""A run continues with the pictures that it began with, wherever they lie, and with no others."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import onnx
import pytest
from PIL import Image
from rich.console import Console

from redoseg.cli.main import run_command
from redoseg.config.recipe import from_values, nested, to_toml
from redoseg.config.schema import Config
from redoseg.data import prepare
from redoseg.errors import RedosegError, RunError
from redoseg.run_folder import RunFolder
from redoseg.train import run
from tests.conftest import TINY, Trained

KINDS = ("a folder", "a prepared set", "labelled ones that are watched", "masks to start from")
SHORT = ["--refine.steps", "20", "--refine.batch", "4", "--refine.pictures", "12", "--device", "cpu"]
Begin = Callable[[str], Path]


def read_by(kind: str) -> str:
    """The folder that a run of this kind reads."""
    return dict(zip(KINDS, ("pictures", "set", "watched", "starts"), strict=True))[kind]


@pytest.fixture(scope="module")
def begun(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each kind, with a run that began there and what it reads, by paths relative to that folder."""
    above = tmp_path_factory.mktemp("begun")
    for kind in KINDS:
        settings: dict[str, Any] = {"steps": 2, "data.source": "pictures", "data.split": "", "data.evaluate_on": ""}
        settings |= {"refine.least_share": 0.0}  # so short a run may find no object
        (above / kind).mkdir()
        with pytest.MonkeyPatch.context() as patch:
            draw_nothing(patch)
            patch.chdir(above / kind)
            shutil.copytree(photos, "pictures")
            if kind == "a prepared set":
                prepare("folder", "pictures", "set", 32)
                settings |= {"data.source": "set"}
            elif kind == "labelled ones that are watched":
                shutil.copytree("pictures", "watched")
                settings |= {"data.evaluate_on": "watched"}
            elif kind == "masks to start from":
                shutil.copytree("pictures/masks", "starts")
                settings |= {"refine.start": "starts", "refine.sharpen": "off", "refine.rounds": 1}
                settings |= {"refine.steps": 20, "refine.batch": 4, "refine.pictures": 12}
            values = nested(settings)
            for table, of_all in TINY.items():
                values[table] = (
                    of_all | values.get(table, {}) if isinstance(of_all, dict) else values.get(table, of_all)
                )
            Path("recipe.toml").write_text(to_toml(from_values(values, "tests")))
            assert run_command(["train", "recipe.toml", "--out", "run", "--device", "cpu"]) in (0, 1)
    return above


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds at the end of a run."""
    for name in ("export_extractor", "export_redrawer"):
        patch.setattr(f"redoseg.train.run.{name}", lambda *_, **__: None)


@pytest.fixture
def begin(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Go where a run of this kind began; returns the folder that it reads."""

    def go(kind: str) -> Path:
        draw_nothing(monkeypatch)
        shutil.copytree(begun / kind, tmp_path / "place")
        monkeypatch.chdir(tmp_path / "place")
        return tmp_path / "place" / read_by(kind)

    return go


def where(kind: str, folder: Path | str) -> list[str]:
    """The option that says where these files are now."""
    option = {"labelled ones that are watched": "--data.evaluate-on", "masks to start from": "--refine.start"}
    return [option.get(kind, "--data"), str(folder)]


def resume(*more: str) -> int:
    steps = [] if "refine.start" in " ".join(more) else ["--steps", "4"]
    return run_command(["train", "--resume", "--out", "run", "--device", "cpu", *steps, *more])


@pytest.mark.every(4)
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *((kind, "moved") for kind in KINDS),
        *(pytest.param(kind, "linked", marks=pytest.mark.slow) for kind in KINDS[::2]),
        *(pytest.param(kind, "with other dates", marks=pytest.mark.slow) for kind in KINDS[1::2]),
    ],
)
def test_the_same_pictures_elsewhere(kind: str, how: str, begin: Begin) -> None:
    there = begin(kind)
    new: Path | str = there.parent / "other place" / there.name
    Path("other place").mkdir()
    if how == "moved":
        shutil.move(there, new)
    elif how == "linked":
        os.symlink(there, new)
    else:
        new = there.name
        for path in there.rglob("*.png"):
            os.utime(path, (1, 1))
    assert resume(*where(kind, new)) in (0, 1)
    config = RunFolder(Path("run")).read_config()
    assert str(new) in (config.data.source, config.data.evaluate_on, config.refine.start)
    if kind != "masks to start from":
        assert RunFolder(Path("run")).read_outcome()["step"] == 4


def one_picture_less(folder: Path) -> None:
    sorted(folder.rglob("*.png"))[0].unlink()


def one_mask_is_another(folder: Path) -> None:
    path = max(folder.rglob("*.png"), key=lambda p: ("masks" in str(p) or "starts" in str(p), str(p)))
    values = np.asarray(Image.open(path))
    Image.fromarray(255 - values).save(path)


def one_picture_is_another(folder: Path) -> None:
    path = sorted(folder.rglob("*.png"))[0]
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


def two_swap_their_names(folder: Path) -> None:
    for part in sorted({p.parent for p in folder.rglob("*.png")}):
        first, second = sorted(part.glob("*.png"))[:2]
        first.rename(part / "x"), second.rename(first), (part / "x").rename(second)


def one_byte_of_the_array(folder: Path) -> None:
    with open(folder / "images.npy", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 255]))


OTHERS = [
    ("a folder", one_picture_less),
    ("a folder", one_picture_is_another),
    ("a folder", two_swap_their_names),
    ("a prepared set", one_byte_of_the_array),
    ("labelled ones that are watched", one_mask_is_another),
    ("labelled ones that are watched", one_picture_is_another),
    ("labelled ones that are watched", two_swap_their_names),
    ("masks to start from", one_mask_is_another),
    ("masks to start from", two_swap_their_names),
]


@pytest.mark.every(5)
@pytest.mark.parametrize("place", ["the same path", "another path"])
@pytest.mark.parametrize(("kind", "change"), OTHERS, ids=[f"{k}, {c.__name__}" for k, c in OTHERS])
def test_other_pictures_are_refused(kind: str, change: Callable[[Path], None], place: str, begin: Begin) -> None:
    there = begin(kind)
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    if place == "another path":
        there = there.rename(there.parent / "elsewhere")
    change(there)
    with pytest.raises(RunError) as error:
        resume(*where(kind, there if place == "another path" else there.name))
    assert "has other pictures now than when run began" in str(error.value)
    assert there.name in str(error.value)
    assert "start a new run" in str(error.value)
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_that_are_gone(kind: str, begin: Begin) -> None:
    begin(kind).rename("elsewhere")
    with pytest.raises(RunError) as error:
        resume()
    assert f"if it was moved, add {where(kind, 'FOLDER')[0]} FOLDER" in str(error.value)


def test_other_masks_do_not_matter_where_only_pictures_are_read(begin: Begin) -> None:
    begin("a folder")
    shutil.rmtree("pictures/masks")
    assert resume() == 0


@pytest.mark.slow
def test_the_second_stage_again_at_another_size_where_the_pictures_were_moved(begin: Begin) -> None:
    begin("a folder")
    Path("pictures").rename("elsewhere")
    command = ["refine", "run", "--refine.rounds", "1", "--refine.size", "32", *SHORT]
    with pytest.raises(RedosegError, match=r"if it was moved, add --data\.source FOLDER"):
        run_command(command)
    assert run_command([*command, "--data.source", "elsewhere"]) == 0
    assert resume() == 0  # the new path and the new size are what the run has now
    one_picture_is_another(Path("elsewhere"))
    with pytest.raises(RunError, match=r"data\.source .* has other pictures now than when run began"):
        run_command(["refine", "run", "--refine.rounds", "1", "--refine.size", "64", *SHORT])


def test_a_second_stage_that_is_finished_stays_when_pictures_move(begin: Begin) -> None:
    begin("masks to start from")
    weights = Path("run/refined.safetensors").read_bytes()
    Path("starts").rename("elsewhere")
    assert resume("--refine.start", "elsewhere") == 0
    assert Path("run/refined.safetensors").read_bytes() == weights


def test_a_run_without_hashes_keeps_its_paths(begin: Begin) -> None:
    begin("a folder")
    about: dict[str, Any] = json.loads(Path("run/config.json").read_text())
    del about["contents"]
    Path("run/config.json").write_text(json.dumps(about))
    shutil.copytree("pictures", "elsewhere")
    with pytest.raises(RunError, match=r"move them back to pictures \(data\.source\)"):
        resume("--data", "elsewhere")
    assert resume() == 0


def in_storage(folder: Path) -> list[str]:
    store = fsspec.filesystem("memory")
    for path in folder.rglob("*.png"):
        store.pipe(f"/continues/{path.relative_to(folder.parent)}", path.read_bytes())
    shutil.rmtree(folder)
    return ["--data", f"memory://continues/{folder.name}"]


def as_a_shard(folder: Path) -> list[str]:
    with tarfile.open("pictures.tar", "w") as shard:
        shard.add(folder / "images", "images")
    shutil.rmtree(folder)
    return ["--data", "pictures.tar"]


def with_the_recipe_again(folder: Path) -> list[str]:
    folder.rename("elsewhere")
    return ["recipe.toml", "--data", "elsewhere"]


def renamed_in_their_order(folder: Path) -> list[str]:
    for path in folder.rglob("*.png"):
        path.rename(path.with_name(f"later-{path.name}"))
    return []


def in_another_format(folder: Path) -> list[str]:
    for path in (folder / "images").glob("*.png"):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    return []


def as_an_address_of_a_file(folder: Path) -> list[str]:
    return ["--data", folder.absolute().as_uri()]


BEFORE = [as_a_shard, renamed_in_their_order, in_another_format]  # which always worked


@pytest.mark.parametrize(
    "how",
    [
        *(in_storage, with_the_recipe_again, as_an_address_of_a_file),
        *(pytest.param(how, marks=pytest.mark.slow) for how in BEFORE),
    ],
)
def test_the_same_pictures_by_another_name(
    how: Callable[[Path], list[str]], begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = how(begin("a folder"))
    ended = {"stopped": False, "collapsed": False, "step": 4, "steps": 4}
    monkeypatch.setattr("redoseg.train.run.Run.go", lambda *_: ended)
    assert resume(*more) == 0
    assert resume(*(word for word in more if word != "recipe.toml")) == 0


@pytest.mark.parametrize("given", ["~nobody-of-this-name/pictures", "memory://continues/nothing", "file:///nothing"])
def test_pictures_that_are_nowhere_are_one_line(given: str, begin: Begin) -> None:
    begin("a folder")
    with pytest.raises(RedosegError, match=r"does not exist|has no files"):
        resume("--data", given)


def test_a_run_whose_weights_are_gone_does_not_begin_again(begin: Begin) -> None:
    begin("a folder")
    RunFolder(Path("run")).state.unlink()
    log = RunFolder(Path("run")).log.path.read_text()
    with pytest.raises(RunError, match=r"run has the log of 2 steps, but no state\.safetensors"):
        resume()
    assert RunFolder(Path("run")).log.path.read_text() == log


def test_a_model_whose_masks_stay_is_known_by_its_weights(
    trained: Trained, tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_nothing(monkeypatch)
    shutil.copytree(trained.folder, "model")
    began = tiny({"steps": 1, "nets.extractor_from": "model", "optim.extractor_rate": 0.0})
    run.run(began, Path("run"), False, "cpu", Console(quiet=True))
    monkeypatch.setattr("redoseg.train.run.Run.go", lambda *_: {"stopped": False, "collapsed": False, "step": 4})
    moved = replace(began, nets=replace(began.nets, extractor_from="elsewhere"))
    Path("model").rename("elsewhere")
    with pytest.raises(RunError, match=r"if it was moved, add --nets.extractor-from FOLDER"):
        run.run(began, Path("run"), True, "cpu", Console(quiet=True))
    run.run(moved, Path("run"), True, "cpu", Console(quiet=True))
    file = onnx.load("elsewhere/mask.onnx")
    kernel = next(one for one in file.graph.initializer if len(one.dims) == 4)
    kernel.raw_data = np.frombuffer(kernel.raw_data, "<f4")[::-1].tobytes()
    onnx.save(file, "elsewhere/mask.onnx")
    with pytest.raises(RunError, match=r"nets.extractor_from \(elsewhere\) has other weights now"):
        run.run(moved, Path("run"), True, "cpu", Console(quiet=True))
