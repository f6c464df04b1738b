"""Corrected masks as targets of the second stage: labels that are given on purpose, counted and named."""

from __future__ import annotations

import io
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from redoseg.cli.main import run_command
from redoseg.config.schema import Config
from redoseg.errors import ConfigError, DataError, ModelError, RunError
from redoseg.run_folder import RunFolder
from redoseg.sharing.model_folder import export_run
from redoseg.train import refine, run
from redoseg.train.corrections import Corrections
from redoseg.train.loader import ImageStore
from redoseg.train.refine_state import RefineState
from redoseg.train.stage_data import open_training_images
from redoseg.train.start_masks import StartMasks
from redoseg.train.state import TrainState
from tests.train.test_refine_resumes import SECOND as TWO_ROUNDS
from tests.train.test_refine_resumes import Killed, Stage, at_number

Tiny = Callable[..., Config]
CPU = torch.device("cpu")
SECOND = {"refine.start": "disc", "refine.rounds": 1, "refine.steps": 20, "refine.batch": 4, "refine.keep": 1.0}


@pytest.fixture
def corrected(photos: Path, tmp_path: Path) -> Path:
    """Two pictures with masks, whose names are no training picture's. In the second, a strip is not labelled."""
    for kind in ("images", "masks"):
        (tmp_path / "corrected" / kind).mkdir(parents=True)
        for name in ("03", "07"):
            shutil.copy(photos / kind / f"{name}.png", tmp_path / "corrected" / kind / f"mine{name}.png")
    path = tmp_path / "corrected" / "masks" / "mine07.png"
    mask = np.array(Image.open(path))
    mask[:, :8] = 127
    Image.fromarray(mask).save(path)
    return tmp_path / "corrected"


@pytest.fixture
def pictures(photos: Path, tmp_path: Path) -> Path:
    """A folder to train on, whose pictures have no masks."""
    shutil.copytree(photos / "images", tmp_path / "pictures")
    return tmp_path / "pictures"


def second_stage(config: Config, patch: pytest.MonkeyPatch) -> tuple[list[torch.Tensor], list[np.ndarray], list[Any]]:
    """The masks of each batch, the images that each round kept, and the entries of the log."""
    images = open_training_images(config)
    store, at = ImageStore(images, config, CPU), RefineState(config, 0, len(images), CPU)
    batches: list[torch.Tensor] = []
    kept: list[np.ndarray] = []
    entries: list[Any] = []
    real = refine.augment

    def recorded(seen: Any, masks: torch.Tensor, *rest: Any) -> Any:
        batches.append(masks.clone())
        return real(seen, masks, *rest)

    patch.setattr(refine, "augment", recorded)
    assert refine.refine(
        TrainState.fresh(config, CPU),
        store,
        [store] * config.refine.rounds,
        report=lambda entry, _: entries.append(entry),
        stop=lambda: False,
        start=StartMasks.find(config.refine, images.names),
        corrections=Corrections.find(config.refine, config.largest_size, images.names),
        at=at,
        save=lambda also: kept.append(at.targets.kept) if also and at.targets.kept is not None else None,
    )
    return batches, kept, entries


def train(config: Config, out: Path, resume: bool = False) -> tuple[dict[str, Any], str]:
    said = io.StringIO()
    return dict(run.run(config, out, resume, "cpu", Console(file=said, width=400))), said.getvalue()


@pytest.mark.every(3)
@pytest.mark.parametrize(("share", "many"), [(0.25, 1), (0.5, 2), (1.0, 4)])
def test_the_targets_are_the_given_masks(
    share: float, many: int, tiny: Tiny, corrected: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"refine.corrected": str(corrected), "refine.corrected_share": share, "refine.sharpen": "grabcut"}
    monkeypatch.setattr(refine, "grabcut_from", lambda _, mask, *__: mask)
    batches, _, entries = second_stage(tiny(SECOND | settings | {"refine.rounds": 2}), monkeypatch)
    given = []
    for name in ("mine03", "mine07"):
        mask = np.asarray(Image.open(corrected / "masks" / f"{name}.png").resize((16, 16), Image.Resampling.NEAREST))
        given.append(torch.from_numpy(np.stack([mask == 255, mask == 0]).astype(np.float32)))
    assert (given[1].sum(0) == 0).sum() == 4 * 16  # of neither region, where it is not labelled
    seen = [int(torch.equal(target, given[1])) for batch in batches for target in batch[:many]]
    assert all(any(torch.equal(target, one) for one in given) for batch in batches for target in batch[:many])
    assert 0 < sum(seen) < len(seen)
    assert not any(torch.equal(target, one) for one in given for batch in batches for target in batch[many:])
    assert [(entry["corrected"], entry["refused"]) for entry in entries] == [(2, 0)] * 2


def test_many_corrections_take_their_share_of_all(
    tiny: Tiny, photos: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of twelve pictures nine are corrected, so three quarters of each batch are."""
    for kind in ("images", "masks"):
        shutil.copytree(photos / kind, tmp_path / "nine" / kind)
    for number in (9, 10, 11):
        (tmp_path / "nine" / "masks" / f"{number:02}.png").unlink()
    settings = {"data.source": str(pictures), "refine.corrected": str(tmp_path / "nine")}
    batches, kept, _ = second_stage(tiny(SECOND | settings), monkeypatch)
    assert sorted(kept[0]) == [9, 10, 11]  # a corrected picture has no other target
    disc = StartMasks.find(tiny(SECOND).refine, ())
    assert disc is not None
    object_of = torch.from_numpy(disc.regions(np.array([0]), 16)[0] == 0).float()
    assert all([torch.equal(one[0], object_of) for one in batch] == [False] * 3 + [True] for batch in batches)


def test_a_refused_picture_teaches_nothing(
    tiny: Tiny, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "review.csv").write_text("picture,verdict\n02.png,refuse\n07.jpg,refuse\nanother.png,refuse\n")
    settings = {"data.source": str(pictures), "refine.corrected": str(tmp_path / "review.csv")}
    _, kept, entries = second_stage(tiny(SECOND | settings), monkeypatch)
    assert sorted(kept[0]) == [n for n in range(12) if n not in (2, 7)]
    assert (entries[0]["corrected"], entries[0]["refused"], entries[0]["kept"]) == (0, 2, 10)


def test_reviews_that_leave_nothing(tiny: Tiny, pictures: Path, tmp_path: Path) -> None:
    names = open_training_images(tiny({"data.source": str(pictures)})).names
    config = tiny(SECOND | {"refine.corrected": str(tmp_path / "review.csv")}).refine
    (tmp_path / "review.csv").write_text("picture,verdict\n" + "".join(f"{name}.png,refuse\n" for name in names))
    with pytest.raises(DataError, match="refuses all 12 training pictures and accepts none"):
        Corrections.find(config, 16, names)
    (tmp_path / "review.csv").write_text("picture,verdict\nanother.png,refuse\n")
    with pytest.raises(DataError, match="accepts no picture, and those that it refuses are not among the training"):
        Corrections.find(config, 16, names)


def test_without_them_nothing_names_labels(tiny: Tiny, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome, said = train(tiny(SECOND | {"data.source": str(pictures)}), out)
    export_run(out, tmp_path / "model")
    texts = [said, (out / "outcome.json").read_text(), (out / "log.jsonl").read_text()]
    texts.append((out / "report.md").read_text().split("## Settings")[0])
    assert not any(word in text for text in texts for word in ("abels:", "corrected", "refused"))
    assert "corrected" not in outcome
    card = (tmp_path / "model" / "README.md").read_text()
    assert "12 pictures of pictures, no masks" in card
    assert "Learnt from pictures, without a mask, with redoseg" in card
    assert '"unsupervised"' in card
    assert "labels" not in json.loads((out / "config.json").read_text())


@pytest.mark.slow
def test_log_report_and_card_count_the_labels(tiny: Tiny, pictures: Path, corrected: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = {"data.source": str(pictures), "refine.corrected": str(corrected)}
    outcome, said = train(tiny(SECOND | settings), out)
    assert f"labels: 2 corrected masks, of {corrected}" in said
    assert (outcome["corrected"], outcome["refused"]) == (2, 0)
    assert json.loads((out / "outcome.json").read_text())["corrected"] == 2
    assert RunFolder(out).log.entries()[-1]["corrected"] == 2
    assert f"- Labels: 2 corrected masks, of {corrected}, in each round" in (out / "report.md").read_text()
    export_run(out, tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "12 pictures of pictures, 2 corrected masks |" in card
    assert "Learnt from pictures and 2 corrected masks, with redoseg" in card
    assert "unsupervised" not in card
    assert "no masks" not in card
    assert str(tmp_path) not in (tmp_path / "model" / "config.json").read_text()

    taken = {"data.source": str(pictures), "nets.extractor_from": str(out), "steps": 2, "watch.collapse_share": 0.0}
    train(tiny(taken), tmp_path / "after")
    export_run(tmp_path / "after", tmp_path / "second")
    assert "and 2 corrected masks, by redrawing" in (tmp_path / "second" / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "number"),
    [pytest.param("step", 7, marks=pytest.mark.slow), ("round 1", 1), pytest.param("step", 33, marks=pytest.mark.slow)],
)
def test_a_killed_stage_continues_with_the_same_bits(
    what: str, number: int, tiny: Tiny, corrected: Path, tmp_path: Path
) -> None:
    config = tiny(TWO_ROUNDS | {"refine.corrected": str(corrected)})
    straight = Stage(config, tmp_path / "straight").go()
    stage = Stage(config, tmp_path / "run")
    with pytest.raises(Killed):
        stage.go(at_number(what, number))
    network = Stage(config, tmp_path / "run").go()
    plain = Stage(tiny(TWO_ROUNDS), tmp_path / "plain").go()
    assert straight is not None and network is not None and plain is not None  # noqa: PT018
    weights, without = straight.state_dict(), plain.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
    assert not all(torch.equal(value, weights[key]) for key, value in without.items())


def test_a_changed_folder_is_noticed(tiny: Tiny, pictures: Path, corrected: Path, tmp_path: Path) -> None:
    config = tiny(TWO_ROUNDS | {"refine.corrected": str(corrected)})
    stage = Stage(config, tmp_path / "stage")
    stage.go(at_number("step", 5), kill=False)
    out, settings = tmp_path / "run", {"data.source": str(pictures)}
    train(tiny(SECOND | settings | {"refine.corrected": str(corrected)}), out)

    (corrected / "masks" / "mine03.png").unlink()
    with pytest.raises(ModelError, match=r"the corrected masks of .*corrected have changed$"):
        Stage(config, tmp_path / "stage").go()
    moved = tiny(SECOND | settings | {"refine.corrected": str(corrected)})
    with pytest.raises(RunError, match=r"refine.corrected \(.*corrected\) has other pictures now than when"):
        train(moved, out, resume=True)
    shutil.rmtree(corrected)
    with pytest.raises(RunError, match=r"\(refine.corrected\), which does not exist; if it was moved, add --refine.c"):
        train(moved, out, resume=True)


def test_refine_with_a_review_of_the_run_itself(
    tiny: Tiny, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, checked = tmp_path / "run", tmp_path / "checked"
    train(tiny(SECOND | {"data.source": str(pictures)}), out)
    assert run_command(["segment", str(out), str(pictures), "-o", str(checked), "--review"]) == 0
    table = (checked / "review.csv").read_text().splitlines()
    table[1:4] = [line.replace(",,", ",accept,", 1) for line in table[1:4]]
    table[4] = table[4].replace(",,", ",refuse,", 1)
    (checked / "review.csv").write_text("\n".join(table) + "\n")
    command = ["refine", str(out), "--device", "cpu", "--corrected", str(checked / "review.csv")]
    assert run_command(command) == 0
    assert "labels: 3 corrected masks, 1 refused picture, of" in capsys.readouterr().out
    outcome = RunFolder(out).read_outcome()
    assert (outcome["corrected"], outcome["refused"]) == (3, 1)
    assert RunFolder(out).log.entries()[-1]["kept"] == 8
    assert RunFolder(out).read_config().refine.corrected == str(checked / "review.csv")
    assert run_command(["refine", str(out), "--device", "cpu", "--corrected", ""]) == 0
    assert "corrected" not in RunFolder(out).read_outcome()


@pytest.mark.slow
def test_a_stopped_refine_begins_again_where_corrections_changed(
    tiny: Tiny, pictures: Path, corrected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train(tiny(SECOND | {"data.source": str(pictures)}), out)
    before = (out / "outcome.json").read_bytes()
    command = ["refine", str(out), "--device", "cpu", "--corrected", str(corrected)]
    real, calls = refine.augment, [0]

    def stopping(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 15:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refine, "augment", stopping)
        assert run_command(command) == 130
        assert (out / "outcome.json").read_bytes() == before
        (corrected / "masks" / "mine03.png").unlink()
        capsys.readouterr()
        assert run_command(command) == 0
    assert "starts from its beginning, since the corrected masks of" in capsys.readouterr().out.replace("\n", " ")
    assert calls == [15 + 3 + 20]  # three are timed before
    assert RunFolder(out).read_outcome()["corrected"] == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"refine.corrected": "x"}, "refine.corrected needs the second stage, but refine.rounds is 0"),
        (
            {"refine.corrected": "x", "refine.rounds": 1, "nets.regions": 3},
            "refine.corrected needs two regions, but nets.regions is 3",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str, tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match=said):
        tiny(settings)
