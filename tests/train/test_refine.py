"""The second stage: which masks it learns from, what it makes of wrong ones, and how it behaves in a run."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from redoseg import metrics, run_folder
from redoseg.config.recipe import check
from redoseg.config.schema import Config
from redoseg.data.shapes import generate
from redoseg.errors import ConfigError, MissingError, RunError
from redoseg.inference.redraw import RedrawModel
from redoseg.inference.segmenter import Segmenter
from redoseg.sharing.model_folder import export_run
from redoseg.train import refine, run
from redoseg.train.checkpoint import load_checkpoint, save_checkpoint
from redoseg.train.doubt import disagreement, raggedness
from redoseg.train.loader import ImageStore
from redoseg.train.measure import soft_masks
from redoseg.train.stage_data import RunData, open_training_images
from redoseg.train.state import TrainState
from tests.conftest import Trained

Tiny = Callable[..., Config]


def disc(side: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return (np.hypot(x, y) < radius).astype(np.uint8)


def test_raggedness_of_a_disc_clutter_and_a_missing_region() -> None:
    plain = disc(64, 16)
    small = disc(64, 10)
    cluttered = plain.copy()
    cluttered[2:60:6, 2:12:4] = 1
    gone = np.zeros((64, 64), np.uint8)
    figures = raggedness(np.stack([plain, small, cluttered, gone, 1 - plain]), 2)
    assert figures[0] == pytest.approx(4.5, abs=0.2)
    assert figures[1] == pytest.approx(figures[0], rel=0.05)  # whatever its size
    assert figures[2] > 1.4 * figures[0]
    assert figures[3] == np.inf
    assert figures[4] == figures[0]  # either way round
    assert raggedness(plain[None], 3)[0] == np.inf
    assert np.isfinite(raggedness(np.stack([gone, small]), 2, 0.0)).all()  # an empty picture counts too


def test_disagreement_of_masks_before_and_after() -> None:
    before = disc(64, 16)
    moved, large = np.roll(before, 8, 1), disc(64, 22)
    gone = np.zeros((64, 64), np.uint8)
    after = np.stack([before, moved, large, gone])
    figures = disagreement(np.repeat(before[None], 4, 0), after)
    assert figures[0] == 0
    for figure, mask in zip(figures[1:3], after[1:3], strict=True):
        assert figure == pytest.approx(1 - (mask & before).sum() / (mask | before).sum())
    assert figures[3] == np.inf
    assert np.array_equal(disagreement(1 - after, 1 - np.repeat(before[None], 4, 0))[:3], figures[:3])


def test_of_masks_cut_again_those_that_changed_least_are_learnt_from(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(SECOND | {"refine.keep": 0.25, "refine.sharpen": "grabcut"})
    store = Recording(open_training_images(config), config, torch.device("cpu"))
    labels = np.broadcast_to(disc(16, 5), (24, 16, 16)).copy()
    monkeypatch.setattr(refine, "soft_masks", given_masks(labels))

    def cut_again(_: Any, __: Any, regions: np.ndarray, *___: Any, **____: Any) -> bool:
        regions[:] = np.roll(regions, 4, 1)
        regions[5:11] = disc(16, 4.5)  # nearly as before, though no smoother than the rest
        return True

    monkeypatch.setattr(refine, "_cut_by_colour", cut_again)
    assert refine.refine(
        TrainState.fresh(config, torch.device("cpu")), store, [store] * 3, report=lambda *_: None, stop=lambda: False
    )
    assert set(store.asked) == set(range(5, 11))


@pytest.mark.parametrize("signed", [True, False])
def test_augmented_masks_stay_on_their_pictures(signed: bool) -> None:
    mask = torch.from_numpy(disc(64, 20)).float()
    white, black = 1.0, -1.0 if signed else 0.0
    picture = (mask * (white - black) + black).expand(6, 3, 64, 64).contiguous()
    masks = torch.stack([1 - mask, mask]).expand(6, 2, 64, 64).contiguous()
    seen, wanted = refine.augment(picture, masks, signed, np.random.default_rng(0), (0.7, 1.5))
    bright = seen.mean(1) > black + 0.3 * (white - black)
    assert (bright == (wanted[:, 1] > 0.4)).float().mean() > 0.98
    assert torch.allclose(wanted.sum(1), torch.ones(6, 64, 64), atol=1e-5)
    assert len({round(s, 3) for s in wanted[:, 1].mean((1, 2)).tolist()}) == 6  # each its own zoom and shift


@pytest.mark.parametrize(("closest", "furthest"), [(0.7, 1.5), (0.3, 1.5), (0.9, 1.1)])
def test_the_range_of_zooms_is_a_setting(closest: float, furthest: float) -> None:
    ramp = torch.linspace(0, 1, 64).expand(400, 1, 64, 64).contiguous()
    _, wanted = refine.augment(ramp.repeat(1, 3, 1, 1), ramp, False, np.random.default_rng(0), (closest, furthest))
    shown = wanted[:, 0, 0].diff().abs().amax(1) * 63  # the steepness of the ramp as shown
    assert shown.min().item() == pytest.approx(closest, abs=0.02)
    assert shown.max().item() == pytest.approx(furthest, abs=0.02)


def test_a_fresh_extractor_repairs_what_is_wrong(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"data.size": 32, "data.pictures": 64}
    settings |= {"refine.rounds": 1, "refine.steps": 60, "refine.batch": 8, "refine.rate": 1e-2, "refine.keep": 0.5}
    config = tiny(settings)
    store = ImageStore(open_training_images(config), config, torch.device("cpu"))
    labels = generate("shapes", 64, 32)[1].astype(np.int8)
    rng = np.random.default_rng(0)
    wrong = labels.copy()  # every other mask takes in a third of the background, in specks
    wrong[::2] |= (rng.random((32, 32, 32)) < 0.35).astype(np.int8)
    given = np.stack([1 - wrong, wrong], 1).astype(np.float32)
    with monkeypatch.context() as patch:
        patch.setattr(refine, "soft_masks", lambda _, __, indices: given[indices])
        state = TrainState.fresh(config, torch.device("cpu"))
        student = refine.refine(state, store, [store] * 3, report=lambda *_: None, stop=lambda: False)
    assert student is not None
    masks = soft_masks(student, store, np.arange(64))
    before = metrics.score(wrong[::2] > 0, labels[::2]).iou
    after = metrics.score(masks[::2, 1] > 0.5, labels[::2]).iou
    assert after > before + 0.15


@pytest.mark.slow
def test_a_unet_keeps_what_is_finer_than_the_paper_extractor_sees(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of two pixels, two pixels apart: at a quarter of the side nothing is left of them."""
    settings = {"data.size": 32, "data.pictures": 32, "nets.extractor_width": 8, "refine.student_width": 8}
    settings |= {"refine.rounds": 1, "refine.steps": 80, "refine.batch": 8, "refine.rate": 1e-2, "refine.keep": 1.0}
    settings |= {"refine.closest": 1.0}
    rng = np.random.default_rng(0)
    labels = np.zeros((32, 32, 32), np.int8)
    for image in labels:
        start = rng.integers(4)
        for column in range(4 + start, 26, 4):
            image[6:26, column : column + 2] = 1
    colours = rng.integers(0, 60, (*labels.shape, 3)) + 150 * labels[..., None].astype(int)
    given = np.stack([1 - labels, labels], 1).astype(np.float32)
    found = {}
    for student in ("paper", "unet"):
        config = tiny(settings | {"refine.student": student})
        images = dataclasses.replace(open_training_images(config), pixels=colours.astype(np.uint8))
        store = ImageStore(images, config, torch.device("cpu"))
        with monkeypatch.context() as patch:
            patch.setattr(refine, "soft_masks", lambda _, __, indices: given[indices])
            state = TrainState.fresh(config, torch.device("cpu"))
            net = refine.refine(state, store, [store] * 3, report=lambda *_: None, stop=lambda: False)
        assert net is not None
        found[student] = metrics.score(soft_masks(net, store, np.arange(32))[:, 1] > 0.5, labels).iou
    assert found["unet"] > 0.9, found
    assert found["unet"] > found["paper"] + 0.05, found


# masks of both regions within a few steps, since one term outweighs all else, and a short second stage
BOTH = {
    "objective.centre_weight": 200.0,
    "objective.centre_steps": 1000,
    "optim.extractor_rate": 1e-2,
    "optim.average": 0.5,
    "watch.collapse_share": 0.0,
    "steps": 6,
}
SECOND = {"refine.rounds": 1, "refine.steps": 20, "refine.batch": 4}


class Recording(ImageStore):
    """Remembers which pictures were asked for."""

    asked: list[int]

    def stored(self, indices: Any) -> torch.Tensor:
        self.asked = [*getattr(self, "asked", []), *indices.tolist()]
        return super().stored(indices)


def given_masks(labels: np.ndarray) -> Callable[..., np.ndarray]:
    """In place of `soft_masks`: these for every extractor."""
    soft = np.stack([1 - labels, labels], 1).astype(np.float32)
    return lambda _, __, indices: soft[indices]


def test_nothing_is_learnt_from_pictures_with_a_missing_region(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(SECOND | {"refine.rounds": 2, "refine.keep": 1.0, "refine.keep_later": 1.0})
    store = Recording(open_training_images(config), config, torch.device("cpu"))
    labels = np.broadcast_to(disc(16, 5), (24, 16, 16)).copy()
    labels[::3], labels[1::3] = 0, 1  # nothing but ground, nothing but object
    labels[0, 8, 8:14] = 1  # 2.3 % of the picture is missing, too
    labels[3, 8, 6:14] = 1  # 3.1 % is not
    monkeypatch.setattr(refine, "soft_masks", given_masks(labels))
    rounds: list[Any] = []
    state = TrainState.fresh(config, torch.device("cpu"))
    assert (
        refine.refine(state, store, [store] * 3, report=lambda entry, _: rounds.append(entry), stop=lambda: False)
        is not None
    )
    assert set(store.asked) == {3, *range(2, 24, 3)}
    assert [e["kept"] for e in rounds] == [9, 9]


FIRST_STAYS = "keep the first stage with --resume --refine.rounds 0 --redraw.steps 0{}, or start a new run with"
OTHER_MASKS = "choose other masks with --refine.start, or a lower --refine.least-share, in redoseg refine RUN"


@pytest.mark.parametrize(
    ("kind", "settings", "advice"),
    [
        (0, {}, FIRST_STAYS.format("")),
        (1, {"refine.corrected": "review.csv"}, FIRST_STAYS.format(" --refine.corrected ''")),
        (1, {"refine.start": "disc", "refine.start_size": 0.01, "refine.least_share": 0.5}, OTHER_MASKS),
    ],
)
def test_no_mask_with_both_regions_is_refused(
    kind: int, settings: dict[str, Any], advice: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(SECOND | settings)
    store = Recording(open_training_images(config), config, torch.device("cpu"))
    monkeypatch.setattr(refine, "soft_masks", given_masks(np.full((24, 16, 16), kind)))
    with pytest.raises(RunError) as caught:
        refine._kept(
            np.full(24, np.inf), config.refine, number=1, seed=0, corrections=None, images=np.arange(24)
        ) if settings else refine.refine(
            TrainState.fresh(config, torch.device("cpu")),
            store,
            [store] * 3,
            report=lambda *_: None,
            stop=lambda: False,
        )
    start = "no training picture shows every region, so the second stage has no masks to learn from; "
    assert str(caught.value).startswith(start + advice)
    assert not hasattr(store, "asked")


def export_nothing(patch: pytest.MonkeyPatch) -> None:
    for name in ("export_extractor", "export_redrawer"):
        patch.setattr(run, name, lambda *_, **__: None)


def train(config: Config, out: Path, resume: bool = False) -> dict[str, Any]:
    return run.run(config, out, resume, "cpu", Console(file=io.StringIO()))


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """A run without exports."""
    export_nothing(monkeypatch)
    return train


def finished(config: Config, folder: Path) -> Trained:
    with pytest.MonkeyPatch.context() as patch:
        export_nothing(patch)
        return Trained(folder, config, train(config, folder))


@pytest.fixture(scope="module")
def one_round(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run with one round, without exports. Nobody changes it."""
    return finished(tiny(BOTH | SECOND), tmp_path_factory.mktemp("one") / "run")


@pytest.fixture(scope="module")
def two_rounds(tiny: Tiny, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run with two rounds and labelled pictures that are watched. Nobody changes it."""
    config = tiny(BOTH | SECOND | {"refine.rounds": 2, "data.evaluate_on": str(photos)})
    return finished(config, tmp_path_factory.mktemp("two") / "run")


def no_second_stage(*_: Any, **__: Any) -> None:
    raise AssertionError("a second stage that was not to be")


def log_of(folder: Path) -> list[dict[str, Any]]:
    """The log, without the lines within a round of the second stage."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "refining" not in line]


def test_a_run_with_a_second_stage(
    two_rounds: Trained,
    go: Callable[..., Any],
    tiny: Tiny,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, outcome = two_rounds.config, two_rounds.outcome
    shutil.copytree(two_rounds.folder, tmp_path / "a")
    assert set(outcome["scores"]) == set(outcome["scores_before_refining"])
    entries = log_of(tmp_path / "a")
    assert [e.get("refine_round") for e in entries[-3:]] == [None, 1, 2]
    seconds = [e["seconds"] for e in entries]
    assert seconds == sorted(seconds)
    assert entries[-1]["iou"] == pytest.approx(outcome["scores"]["iou"])
    assert "Scores before refining" in (tmp_path / "a" / "report.md").read_text()

    # the first stage is what it is without a second, and again gives the same
    alone = go(tiny(BOTH | {"data.evaluate_on": str(photos)}), tmp_path / "b")
    assert alone["scores"] == outcome["scores_before_refining"]
    first, second = (load_file(tmp_path / name / "state.safetensors") for name in "ab")
    assert all(torch.equal(first[key], second[key]) for key in first)

    # both stages are finished: resuming trains nothing, and the refined extractor stays in use
    refined = (tmp_path / "a" / "refined.safetensors").read_bytes()
    used: list[torch.nn.Module] = []
    with monkeypatch.context() as patch:
        patch.setattr(run, "refine", no_second_stage)
        patch.setattr(run, "export_extractor", lambda extractor, *_, **__: used.append(extractor))
        assert go(config, tmp_path / "a", resume=True) == outcome
    assert (tmp_path / "a" / "refined.safetensors").read_bytes() == refined
    assert log_of(tmp_path / "a") == entries
    weights = load_file(tmp_path / "a" / "refined.safetensors")
    exported = used[-1].state_dict()
    assert exported.keys() == weights.keys()
    assert all(torch.equal(exported[key], weights[key]) for key in weights)


@pytest.mark.slow
def test_more_steps_afterwards_do_the_second_stage_again(
    one_round: Trained, go: Callable[..., Any], tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    go(tiny(BOTH | SECOND | {"steps": 4}), folder)
    old = load_file(folder / "refined.safetensors")
    seen: list[bool] = []
    real = run.refine

    def look_and_refine(*arguments: Any, **named: Any) -> Any:
        seen.append((folder / "refined.safetensors").exists())
        return real(*arguments, **named)

    monkeypatch.setattr(run, "refine", look_and_refine)
    outcome = go(one_round.config, folder, resume=True)
    assert seen == [False]  # that of the shorter run is gone
    assert outcome["step"] == 6
    assert [(e["step"], e.get("refine_round")) for e in log_of(folder)] == [*((s, None) for s in range(1, 7)), (6, 1)]
    assert outcome == one_round.outcome
    new, expected = (load_file(f / "refined.safetensors") for f in (folder, one_round.folder))
    assert all(torch.equal(new[key], expected[key]) for key in expected)
    assert any(not torch.equal(new[key], old[key]) for key in old)


@pytest.mark.slow
def test_a_stop_in_the_second_stage_leaves_the_first(
    two_rounds: Trained, go: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = two_rounds.config, tmp_path / "run"
    append = run_folder.RunLog.append

    def append_and_interrupt(log: run_folder.RunLog, entry: run_folder.Entry) -> None:
        append(log, entry)
        if entry.get("refine_round") == 1:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder.RunLog, "append", append_and_interrupt)
        outcome = go(config, folder)
    assert (outcome["stopped"], outcome["step"]) == (True, 6)
    assert "- Ended: stopped by hand in the second stage, 6 steps" in (folder / "report.md").read_text()
    assert not (folder / "refined.safetensors").exists()
    state = TrainState.load(folder / "state.safetensors", torch.device("cpu"))
    assert state.step == 6

    resumed = go(config, folder, resume=True)
    assert not resumed["stopped"]
    assert "- Ended: finished" in (folder / "report.md").read_text()
    assert [e.get("refine_round") for e in log_of(folder)] == [None] * 6 + [1, 2]
    assert resumed == two_rounds.outcome
    weights, expected = (load_file(f / "refined.safetensors") for f in (folder, two_rounds.folder))
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_a_run_finished_before_a_setting_came_is_not_refined_again(
    one_round: Trained, go: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = one_round.config, tmp_path / "run"
    shutil.copytree(one_round.folder, folder)
    tensors, about = load_checkpoint(folder / "refined.safetensors")
    del about["config"]["speed"], about["format"]
    save_checkpoint(folder / "refined.safetensors", tensors, about)
    monkeypatch.setattr(run, "refine", no_second_stage)
    assert not go(config, folder, resume=True)["stopped"]


@pytest.mark.slow
def test_a_log_emptied_before_the_second_stage(
    go: Callable[..., Any], tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = tiny(BOTH | SECOND), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(run, "refine", lambda *_, **__: None)  # what it gives when asked to stop
        assert go(config, folder)["stopped"]
    (folder / "log.jsonl").write_bytes(b"")
    assert not go(config, folder, resume=True)["stopped"]
    assert [e["refine_round"] for e in log_of(folder)] == [1]


def test_a_second_stage_that_is_not_finite_is_refused(go: Callable[..., Any], tiny: Tiny, tmp_path: Path) -> None:
    config, folder = tiny(BOTH | SECOND | {"refine.rate": 1e30}), tmp_path / "run"
    with pytest.raises(RunError) as caught:
        go(config, folder)
    assert re.fullmatch(
        r"training has diverged: the second stage's loss is nan at step \d+; the run folder keeps the last good state; "
        r"do the second stage again with a lower rate: redoseg refine RUN --refine.rate RATE",
        str(caught.value),
    )
    assert not (folder / "refined.safetensors").exists()
    state = TrainState.load(folder / "state.safetensors", torch.device("cpu"))
    assert state.step == 6
    assert all(p.isfinite().all() for p in state.average.nets.parameters())


# the paper's network at a larger size: test_masks_of_the_first_stage_are_enlarged_for_the_second
@pytest.mark.parametrize("student", ["paper", "unet"])
@pytest.mark.slow
def test_a_second_stage_at_a_larger_size(student: str, tiny: Tiny, photos: Path, tmp_path: Path) -> None:
    settings = {"data.evaluate_on": str(photos), "refine.student": student, "refine.student_width": 4}
    config = tiny(BOTH | SECOND | settings | {"refine.rounds": 2, "refine.size": 32})
    folder, console = tmp_path / "run", Console(file=io.StringIO())
    outcome = run.run(config, folder, False, "cpu", console)
    assert set(outcome["scores"]) == set(outcome["scores_before_refining"])
    size = config.data.size
    assert Segmenter(folder).size == 32 != size

    # drawings keep the size of the first stage, masks have that of the second; also in a folder to share
    drawn = RedrawModel(folder, threads=1).redraw(Image.new("RGB", (50, 40), (200, 10, 10)), 2)
    assert [picture.size for picture in drawn] == [(50, 40)] * 2
    export_run(folder, tmp_path / "model")
    some = np.random.default_rng(0).integers(0, 255, (3, 40, 50, 3), np.uint8)
    given, again = (Segmenter(place, edges="plain").batch(some) for place in (folder, tmp_path / "model"))
    assert np.array_equal(given, again)
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"of ReDO at {size} px" in card
    assert "2 rounds of 20 steps of the second stage at 32 px" in card
    assert "It sees 32 x 32 pixels: what is finer is lost" in card
    assert f"no more than {size} pixels a side" in card
    # resumed when all is done it trains nothing and exports the same
    before = (folder / "mask.onnx").read_bytes()
    assert run.run(config, folder, True, "cpu", console) == outcome
    assert (folder / "mask.onnx").read_bytes() == before


def test_masks_of_the_first_stage_are_enlarged_for_the_second(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(SECOND | {"refine.size": 32, "refine.keep": 1.0})
    cpu = torch.device("cpu")
    pictures = open_training_images(config)
    store = ImageStore(pictures.resized(16), config, cpu)
    fine = ImageStore(pictures, config, cpu)
    assert (store.size, fine.size) == (16, 32)
    small, large = disc(16, 5), disc(32, 10)
    asked_of: list[ImageStore] = []

    def given(_: Any, asked: ImageStore, indices: np.ndarray) -> np.ndarray:
        asked_of.append(asked)
        return np.repeat(np.stack([1 - small, small]).astype(np.float32)[None], len(indices), 0)

    targets: list[torch.Tensor] = []
    real = refine.augment

    def recorded(seen: torch.Tensor, masks: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
        assert seen.shape[-1] == 32
        targets.append(masks)
        return real(seen, masks, *rest)

    monkeypatch.setattr(refine, "soft_masks", given)
    monkeypatch.setattr(refine, "augment", recorded)
    student = refine.refine(TrainState.fresh(config, cpu), store, [fine], report=lambda *_: None, stop=lambda: False)
    assert student is not None
    assert asked_of == [store]
    assert targets[0].shape[-2:] == (32, 32)
    assert (targets[0][0, 1].numpy() != large).mean() < 0.03
    assert student(fine(np.arange(2))).shape == (2, 2, 32, 32)


@pytest.mark.slow
def test_only_the_last_round_is_at_the_full_size(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(
        SECOND
        | {"refine.rounds": 3, "refine.size": 32, "refine.early_size": 16, "refine.start": "disc"}
        | {"refine.least_share": 0.0}
    )
    data = RunData.open(config, torch.device("cpu"))
    assert [stage.store.size for stage in data.rounds] == [16, 16, 32]
    assert data.rounds[0] is data.rounds[1] is data.first
    learnt_at, asked_of, real, given = [], [], refine.augment, refine.soft_masks

    def augmenting(seen: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
        learnt_at.append(seen.shape[-1])
        return real(seen, *rest)

    def asking(network: Any, store: ImageStore, indices: np.ndarray) -> np.ndarray:
        asked_of.append(store.size)
        return given(network, store, indices)

    monkeypatch.setattr(refine, "augment", augmenting)
    monkeypatch.setattr(refine, "soft_masks", asking)
    state, stores = TrainState.fresh(config, torch.device("cpu")), [stage.store for stage in data.rounds]
    student = refine.refine(
        state, data.first.store, stores, report=lambda *_: None, stop=lambda: False, start=data.start
    )
    assert student is not None
    assert learnt_at == [16] * 40 + [32] * 20
    assert asked_of == [16, 16]  # each round's masks are those of the network before, at the size that it learnt at


def test_targets_cut_again_by_colour(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher that is off by a quarter of the object: what is learnt from follows the picture."""
    cpu = torch.device("cpu")
    targets: dict[str, torch.Tensor] = {}
    truth = disc(32, 9)
    pictures = np.where(truth[..., None], (200, 60, 50), (40, 120, 70)) + np.random.default_rng(0).integers(
        -8, 9, (8, 32, 32, 3)
    )
    off = np.roll(truth, 5, 1)
    monkeypatch.setattr(refine, "soft_masks", given_masks(np.repeat(off[None], 8, 0)))
    real = refine.augment
    for sharpen in ("off", "grabcut"):
        config = tiny(SECOND | {"data.size": 32, "data.pictures": 8, "refine.keep": 1.0, "refine.sharpen": sharpen})
        opened = dataclasses.replace(open_training_images(config), pixels=pictures.astype(np.uint8))
        store = ImageStore(opened, config, cpu)

        def recorded(seen: torch.Tensor, masks: torch.Tensor, *rest: Any, key: str = sharpen) -> Any:
            targets.setdefault(key, masks)
            return real(seen, masks, *rest)

        monkeypatch.setattr(refine, "augment", recorded)
        refine.refine(TrainState.fresh(config, cpu), store, [store], report=lambda *_: None, stop=lambda: False)
    assert np.array_equal(targets["off"][0, 1].numpy(), off)
    for target in targets["grabcut"]:
        assert (target[1].numpy() != truth).mean() < 0.01
        assert torch.equal(target.sum(0), torch.ones(32, 32))


def test_without_opencv_no_step_is_trained(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, go: Callable[..., Any]
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingError, match=r'refine.sharpen need OpenCV, which is not installed; run: pip install "re'):
        go(tiny(BOTH | SECOND | {"refine.sharpen": "grabcut"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    go(tiny(BOTH | {"refine.sharpen": "grabcut"}), tmp_path / "run")  # without a second stage it is not needed


def test_more_regions_than_two_are_not_cut_again(tiny: Tiny) -> None:
    with pytest.raises(
        ConfigError, match=r"refine.sharpen grabcut needs two regions, but nets.regions is 3; set nets.regions to 2"
    ):
        tiny({"nets.regions": 3, "refine.sharpen": "grabcut"})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            8,
            "refine.size is 8, but must be 4 times a power of two, such as 16, 32, 64 or 128; change --refine.size",
        ),
        (
            48,
            "refine.size is 48, but must be 4 times a power of two, such as 16, 32, 64 or 128; change --refine.size",
        ),
        (16, "refine.size is 16, but must be at least data.size (32); change --refine.size"),
    ],
)
def test_sizes_that_cannot_be(value: int, said: str) -> None:
    config = Config()
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, size=32),
        refine=dataclasses.replace(config.refine, size=value),
    )
    with pytest.raises(ConfigError, match=re.escape(said)):
        check(config)
