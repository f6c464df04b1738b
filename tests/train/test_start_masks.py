"""The second stage from masks that no first stage made: one for all pictures, or a folder of them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from redoseg.cli.train import _train_command
from redoseg.config.schema import Config, RefineConfig
from redoseg.data import labelled_images
from redoseg.data.shapes import generate
from redoseg.errors import ConfigError, DataError, ModelError, RunError
from redoseg.inference.redraw import RedrawModel
from redoseg.inference.segmenter import Segmenter
from redoseg.metrics import score
from redoseg.sharing.model_folder import export_run
from redoseg.train import refine, run
from redoseg.train.loader import ImageStore
from redoseg.train.stage_data import open_training_images
from redoseg.train.start_masks import StartMasks
from redoseg.train.state import TrainState

Tiny = Callable[..., Config]
CPU = torch.device("cpu")
SECOND = {"refine.rounds": 1, "refine.steps": 20, "refine.batch": 4, "watch.collapse_share": 0.0}


def train(config: Config, out: Path, resume: bool = False) -> dict[str, Any]:
    return run.run(config, out, resume, "cpu", Console(file=io.StringIO()))


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_disc_and_a_square() -> None:
    disc = StartMasks.find(RefineConfig(start="disc", start_size=0.5), ("a", "b", "c"))
    assert disc is not None
    masks = disc.regions(np.array([0, 2]), 32)
    assert masks.shape == (2, 32, 32)
    assert np.array_equal(masks[0], masks[1])
    assert (masks[0] == 0).mean() == pytest.approx(np.pi / 16, rel=0.05)
    assert masks[0, 16, 16] == 0 and masks[0, 16, 2] == 1  # noqa: PT018
    square = StartMasks.find(RefineConfig(start="square", start_size=0.25), ("a",))
    assert square is not None
    assert (square.regions(np.array([0]), 32) == 0).sum() == 16 * 16
    assert StartMasks.find(RefineConfig(), ("a",)) is None


def test_masks_in_a_folder_are_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, left in (("a", True), ("sub/b", False)):
        mask = np.zeros((20, 30), np.uint8)
        mask[:, :15] = 255 if left else 0
        mask[:, 15:] = 0 if left else 255
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    refine_config = RefineConfig(start=str(tmp_path))
    start = StartMasks.find(refine_config, ("b", "a.jpg"))
    assert start is not None
    right, left = start.regions(np.array([0, 1]), 16)
    assert (right[:, :8] == 1).all() and (right[:, 8:] == 0).all()  # noqa: PT018
    assert np.array_equal(left, 1 - right)
    with pytest.raises(DataError, match=r"no mask for 1 of 2 training pictures \(c is the first\)"):
        StartMasks.find(refine_config, ("a", "c"))
    (tmp_path / "other").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "other" / "b.png")
    with pytest.raises(DataError, match=r"no mask for 1 of 2 training pictures \(b is the first\)"):
        StartMasks.find(refine_config, ("a", "b"))  # which of the two?
    assert StartMasks.find(refine_config, ("a", "sub/b")) is not None
    with pytest.raises(DataError, match="which is not a folder; choose run, disc, square, ground or a folder of masks"):
        StartMasks.find(RefineConfig(start=str(tmp_path / "missing")), ("a",))


@pytest.mark.parametrize(
    ("pixels", "said"), [([[0, 1], [2, 3]], "do not show what the object is"), ([[[9, 90, 200]] * 2] * 2, "in colour")]
)
def test_masks_that_do_not_say_what_the_object_is(pixels: list[Any], said: str, tmp_path: Path) -> None:
    """No option says which of their values are the object, so none is named."""
    Image.fromarray(np.array(pixels, np.uint8).repeat(9, 0).repeat(9, 1)).save(tmp_path / "a.png")
    found = StartMasks.find(RefineConfig(start=str(tmp_path)), ("a",))
    assert found is not None
    with pytest.raises(DataError, match=said) as error:
        found.regions(np.array([0]), 16)
    assert "--" not in str(error.value)
    assert str(error.value).startswith("refine.start: ")


def test_a_run_from_a_disc_has_no_first_stage(tiny: Tiny, photos: Path, tmp_path: Path) -> None:
    settings = {"data.evaluate_on": str(photos), "refine.start": "disc", "data.size": 32, "watch.picture_scores": True}
    out = tmp_path / "run"
    outcome = train(tiny(SECOND | settings | {"refine.rounds": 2, "refine.steps": 30}), out)
    assert [e["refine_round"] for e in log_of(out) if "refining" not in e] == [1, 2]  # no step of redrawing
    assert (outcome["step"], outcome["stopped"]) == (0, False)
    assert "scores_before_refining" not in outcome
    assert Segmenter(out)(photos / "images" / "00.png").shape == (32, 32)
    assert "second stage alone, started from disc" in (out / "report.md").read_text()
    scores = [json.loads(line) for line in (out / "picture_scores.jsonl").read_text().splitlines()]
    assert [s["after"] for s in scores] == ["round 1", "round 2"]
    assert np.mean(scores[-1][""]) == pytest.approx(outcome["scores"]["iou"], abs=0.02)

    export_run(out, tmp_path / "model")
    assert not (tmp_path / "model" / "redraw.onnx").exists()
    card = (tmp_path / "model" / "README.md").read_text()
    assert "2 rounds of 30 steps of the second stage, started from one constant disc" in card
    for folder in (out, tmp_path / "model"):
        with pytest.raises(ModelError, match=r"refine.start was disc, run expected|redraw.onnx"):
            RedrawModel(folder)


@pytest.mark.slow
def test_a_stop_before_the_first_round_leaves_no_model(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(SECOND | {"refine.start": "square", "refine.start_size": 0.25})
    with monkeypatch.context() as patch:
        patch.setattr(run, "refine", lambda *_, **__: None)
        assert train(config, tmp_path / "run")["stopped"]
    assert not (tmp_path / "run" / "mask.onnx").exists()
    with pytest.raises(ModelError, match=r"has no masks yet; expected a run that has finished"):
        export_run(tmp_path / "run", tmp_path / "model")
    assert not train(config, tmp_path / "run", resume=True)["stopped"]
    assert (tmp_path / "run" / "mask.onnx").exists()


@pytest.mark.slow
def test_pictures_are_scored_after_each_stage_without_changing_it(tiny: Tiny, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for kind in ("images", "masks"):
        (tmp_path / "set" / kind).symlink_to(photos / kind)
    split = "".join(f"{n:02},{'test' if n % 3 == 0 else 'dev'}\n" for n in range(12))
    (tmp_path / "set" / "splits.csv").write_text(split)
    base = SECOND | {
        "data.evaluate_on": str(tmp_path / "set"),
        "data.evaluate_split": "dev",
        "data.size": 32,
        "steps": 3,
    }
    plain = train(tiny(base), tmp_path / "plain")
    stored = train(tiny(base | {"watch.picture_scores": True}), tmp_path / "stored")
    assert stored == plain
    scores = [json.loads(line) for line in (tmp_path / "stored" / "picture_scores.jsonl").read_text().splitlines()]
    assert [(s["after"], len(s["dev"]), len(s["test"])) for s in scores] == [("first stage", 8, 4), ("round 1", 8, 4)]
    whole = labelled_images(str(tmp_path / "set"))
    assert scores[0]["size"] == whole.size == 128  # as `redoseg evaluate` scores
    assert not (tmp_path / "plain" / "picture_scores.jsonl").exists()


def test_the_start_teaches_the_first_round_alone(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(SECOND | {"refine.rounds": 2})
    pictures = open_training_images(config)
    store = ImageStore(pictures, config, CPU)
    wanted: list[torch.Tensor] = []
    real = refine.augment

    def recorded(seen: Any, masks: torch.Tensor, *rest: Any) -> Any:
        wanted.append(masks.clone())
        return real(seen, masks, *rest)

    monkeypatch.setattr(refine, "augment", recorded)
    start = StartMasks.find(RefineConfig(start="square", start_size=0.25), pictures.names)
    assert refine.refine(
        TrainState.fresh(config, CPU), store, [store] * 3, report=lambda *_: None, stop=lambda: False, start=start
    )
    square = torch.zeros(16, 16)
    square[4:12, 4:12] = 1
    first, second = wanted[: config.refine.steps], wanted[config.refine.steps :]
    assert all((masks[:, 0] == square).all() for masks in first)
    assert not all((masks[:, 0] == square).all() for masks in second)


@pytest.mark.parametrize("rounds", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_targets_at_random_are_as_many_but_others(rounds: int, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    taught: dict[str, set[int]] = {}
    kept: dict[str, int] = {}
    for select in ("best", "random"):
        config = tiny(SECOND | {"refine.rounds": rounds, "refine.select": select, "refine.keep": 0.25})
        pictures = open_training_images(config)
        store = ImageStore(pictures, config, CPU)
        asked: list[int] = []
        stored = ImageStore.stored
        with monkeypatch.context() as patch:
            patch.setattr(ImageStore, "stored", lambda self, i, a=asked, of=stored: (a.extend(i), of(self, i))[1])
            start = StartMasks.find(RefineConfig(start="disc", start_size=0.5), pictures.names)
            refine.refine(
                TrainState.fresh(config, CPU),
                store,
                [store] * 2,
                report=lambda entry, _, s=select: kept.setdefault(s, entry["kept"]),
                stop=lambda: False,
                start=start,
            )
        taught[select] = set(asked[: config.refine.steps * config.refine.batch])
    assert kept["best"] == kept["random"] == 6
    assert taught["best"] == set(range(6))  # all discs are alike: the first ones
    assert taught["random"] != taught["best"]


def test_pictures_are_enlarged_for_the_cut_as_the_settings_say(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[int] = []

    def cut(picture: np.ndarray, mask: np.ndarray, rounds: int, side: int) -> np.ndarray:
        sides.append(side)
        return mask

    monkeypatch.setattr(refine, "grabcut_from", cut)
    config = tiny(SECOND | {"refine.sharpen": "grabcut", "refine.sharpen_size": 24})
    pictures = open_training_images(config)
    store = ImageStore(pictures, config, CPU)
    start = StartMasks.find(RefineConfig(start="disc"), pictures.names)
    refine.refine(
        TrainState.fresh(config, CPU), store, [store] * 3, report=lambda *_: None, stop=lambda: False, start=start
    )
    assert set(sides) == {24}


@pytest.mark.slow
def test_settings_of_the_second_stage_may_change_until_it_begins(tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = {"watch.collapse_share": 0.0, "steps": 3}
    train(tiny(first), out)
    steps = [e for e in log_of(out) if "sizes" in e]
    train(tiny(SECOND | first | {"refine.keep": 0.5}), out, resume=True)
    assert [e for e in log_of(out) if "sizes" in e] == steps  # the first stage was not made again
    assert [e["refine_round"] for e in log_of(out) if "refine_round" in e] == [1]
    with pytest.raises(RunError, match=r"trained with other settings \(refine.keep: 0.5 -> 0.25\)"):
        train(tiny(SECOND | first | {"refine.keep": 0.25}), out, resume=True)
    with pytest.raises(RunError, match=r"trained with other settings \(objective.floor: 0.0 -> 0.1\)"):
        train(tiny(SECOND | first | {"refine.keep": 0.5, "objective.floor": 0.1}), out, resume=True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"refine.start": "disc"}, "refine.start disc needs the second stage, but refine.rounds is 0"),
        (SECOND | {"refine.start": "square"}, "refine.start_size is 0.6, but must be below 0.5 for a square"),
        (SECOND | {"refine.start": "disc", "nets.regions": 3}, "refine.start needs two regions, but nets.regions is 3"),
        (
            {"watch.picture_scores": True, "nets.regions": 3},
            "watch.picture_scores needs two regions, but nets.regions is 3",
        ),
        (
            SECOND | {"refine.composites": 0.5, "nets.regions": 3},
            "refine.composites needs two regions, but nets.regions is 3",
        ),
        (
            SECOND | {"refine.student": "unet"},
            "refine.student unet needs pictures of 32 px or more, but they have 16 px",
        ),
        (SECOND | {"refine.start_size": 2.0}, "refine.start_size is 2.0, but must be from 0.01 to 1.5"),
    ],
)
def test_starts_that_cannot_be(settings: dict[str, Any], said: str, tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        tiny(settings)


GROUND = SECOND | {"data.source": "tray", "data.size": 32, "refine.start": "ground", "refine.keep": 1.0}


def test_what_differs_from_the_common_ground(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(GROUND | {"data.pictures": 16, "refine.least_share": 0.0, "refine.size": 32})
    images = open_training_images(config)
    start = StartMasks.on_ground(config.refine, images, 32)
    labels = generate("tray", 16, 32)[1].astype(np.int8)
    found = start.regions(np.array([3, 5]), 32)
    assert found.dtype == np.uint8
    assert score(found == 0, labels[[3, 5]]).iou > 0.6
    assert start.regions(np.array([3]), 16).shape == (1, 16, 16)
    outcome = train(config, tmp_path / "run")
    assert outcome["object_region"] == 0  # known, and not by the border
    assert "started from ground" in (tmp_path / "run" / "report.md").read_text()
    with pytest.raises(RunError, match=r"refine.start: ground -> disc"):
        train(tiny(GROUND | {"data.pictures": 16, "refine.start": "disc"}), tmp_path / "run", resume=True)


def test_pictures_without_a_common_ground_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"refine.start ground compares the pictures .* has 9, and at least 10 are"):
        train(tiny(GROUND | {"data.pictures": 9}), tmp_path / "few")
    with pytest.raises(DataError, match=r"leaves share no ground: the best one explains \d+ % .* but 85 % are needed"):
        train(tiny(GROUND | {"data.source": "leaves"}), tmp_path / "leaves")
    assert not list(tmp_path.iterdir())


def test_ground_fixed_takes_the_recipe_for_it(photos: Path) -> None:
    command, name = _train_command(["--data", str(photos), "--ground", "fixed"])
    assert (command.config.refine.start, command.config.refine.sharpen, name) == ("ground", "off", photos.name)
    assert command.config.watch.collapse_share == 0
    command, _ = _train_command(["photos", "--data", str(photos), "--ground", "fixed", "--refine.rounds", "1"])
    assert (command.config.refine.start, command.config.refine.sharpen) == ("ground", "grabcut")
    assert _train_command(["--data", str(photos)])[0].config.refine.start == "disc"
