"""The model folder: what is in it, what its card says, and that it is there whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from redoseg import RedrawModel, Segmenter
from redoseg.config.recipe import from_values
from redoseg.config.schema import Config
from redoseg.data.shapes import generate
from redoseg.errors import DataError, ModelError, RedosegError
from redoseg.nets.image_encoder import latent_encoder
from redoseg.nets.mask_extractor import MaskExtractor
from redoseg.sharing import model_folder
from redoseg.sharing.model_card import Statements, without_redoseg
from redoseg.sharing.model_folder import export_run
from redoseg.train.checkpoint import load_checkpoint, part, restore
from redoseg.train.run import run

Tiny = Callable[..., Config]
FILES = ["README.md", "config.json", "mask.onnx", "model.safetensors", "redraw.onnx"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def exported(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "deep" / "birds"
    export_run(trained.folder, folder, Statements("cc-by-4.0", "My own photographs, yours to use.", "Bad at hats."))
    return folder


def card(folder: Path) -> str:
    return (folder / "README.md").read_text()


def row(text: str, name: str) -> str:
    found = re.search(rf"^\| {re.escape(name)} \| (.*) \|$", text, re.M)
    assert found is not None, name
    return found[1]


def test_the_folder_is_whole_and_works(exported: Path, trained: Any) -> None:
    assert sorted(p.name for p in exported.iterdir()) == FILES
    assert [p.name for p in exported.parent.iterdir()] == ["birds"]  # nothing is left beside it
    image = generate("shapes", 1, 40, seed=3)[0][0]
    mine, runs = Segmenter(exported), Segmenter(trained.folder)
    assert (mine.name, mine.object_region) == ("birds", runs.object_region)
    assert (mine.soft(image) == runs.soft(image)).all()
    a, b = (RedrawModel(folder).redraw(image, 2) for folder in (exported, trained.folder))
    assert [p.tobytes() for p in a] == [p.tobytes() for p in b]


def test_weights_are_those_of_the_run_and_nothing_else(exported: Path, trained: Any) -> None:
    tensors, about = load_checkpoint(exported / "model.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"extractor", "generators", "encoder"}
    state = load_file(trained.folder / "state.safetensors")
    for prefix, theirs in (
        ("extractor", "average.extractor"),
        ("generators", "average.generators"),
        ("encoder", "redrawer.encoder"),
    ):
        mine, expected = part(prefix, tensors), part(theirs, state)
        assert mine.keys() == expected.keys()
        assert all(torch.equal(mine[name], expected[name]) for name in mine)
    config = from_values(about["config"], "the file")
    restore(MaskExtractor(config.nets), part("extractor", tensors), exported)
    restore(latent_encoder(config.nets, config.data.size), part("encoder", tensors), exported)
    assert (exported / "model.safetensors").stat().st_size < (trained.folder / "state.safetensors").stat().st_size / 3


def test_the_card_says_what_is_known(exported: Path, trained: Any) -> None:
    text = card(exported)
    header = re.match(r"---\n(.*?)\n---\n", text, re.S)
    assert header is not None
    values = {key: json.loads(value) for key, value in (line.split(": ", 1) for line in header[1].splitlines())}
    assert values["license"] == "cc-by-4.0"
    assert (values["library_name"], values["pipeline_tag"]) == ("redoseg", "image-segmentation")
    assert {"redoseg", "onnx"} <= set(values["tags"])
    assert "\n# birds\n" in text
    assert row(text, "learnt from") == "24 pictures of shapes, no masks"
    assert row(text, "the pictures") == "My own photographs, yours to use."
    assert row(text, "length") == "12 of 12 steps of 4 pictures"
    assert row(text, "seed") == "0"
    assert re.fullmatch(r"\d+\.\d minutes", row(text, "time"))
    assert f"torch {torch.__version__}" in row(text, "made with")
    scores = trained.outcome["scores"]
    assert f"## Scores on {Path(trained.config.data.evaluate_on).name}\n" in text
    assert row(text, "IoU, object region fixed once without labels") == f"{scores['iou']:.4f}"
    assert row(text, "pictures") == "12"
    assert "**Limits.** It sees 32 x 32 pixels" in text
    assert "Bad at hats." in text
    assert "Of the weights: cc-by-4.0." in text
    for name in ("mask.onnx", "redraw.onnx", "model.safetensors"):
        assert f"`{name}` ({(exported / name).stat().st_size / 1e6:.2f} MB)" in row(text, "files")


def test_what_nobody_said_is_not_made_up(trained: Any, tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    shutil.copytree(trained.folder, run_folder)
    for name in ("outcome.json", "log.jsonl", "config.json"):
        (run_folder / name).unlink()
    export_run(run_folder, tmp_path / "model")
    text = card(tmp_path / "model")
    assert 'license: "unknown"' in text
    assert row(text, "the pictures") == "not stated"
    assert "Of the weights: not stated." in text
    assert row(text, "score") == "none was written down for just these weights"
    assert "IoU" not in text
    for name in ("time", "learnt from", "made with"):
        assert f"| {name} |" not in text
    export_run(run_folder, tmp_path / "text", Statements(licence="ask me | first"))
    assert 'license: "other"' in card(tmp_path / "text")
    assert "Of the weights: ask me | first." in card(tmp_path / "text")


def test_where_pictures_lie_on_a_disk_is_not_shown(exported: Path, trained: Any) -> None:
    place = trained.config.data.evaluate_on
    assert place.startswith("/")
    for name in FILES:
        assert str(Path(place).parent).encode() not in (exported / name).read_bytes()
    values = json.loads((exported / "config.json").read_text())
    config = from_values(values["config"], "config.json")
    assert config.data.evaluate_on == Path(place).name
    assert config.nets == trained.config.nets
    assert values["trained_on"] == {"name": "shapes", "pictures": 24, "size": 32}


def test_scores_of_other_weights_are_not_shown(trained: Any, tmp_path: Path) -> None:
    """The run continued after its figures were written: another step, or another attempt."""
    run_folder = tmp_path / "run"
    shutil.copytree(trained.folder, run_folder)
    outcome = json.loads((run_folder / "outcome.json").read_text())
    for number, change in enumerate(({"step": 6}, {"restarts": 1}, {"scores_before_refining": outcome["scores"]})):
        (run_folder / "outcome.json").write_text(json.dumps(outcome | change))
        export_run(run_folder, tmp_path / f"model{number}")
        assert "## Scores" not in card(tmp_path / f"model{number}")


def test_the_second_stage_is_what_is_exported(tiny: Tiny, photos: Path, tmp_path: Path) -> None:
    settings = {"data.evaluate_on": str(photos), "refine.rounds": 1, "refine.steps": 20, "refine.batch": 4}
    config = tiny(settings | {"watch.collapse_share": 0.0})
    with open(os.devnull, "w") as nowhere:
        outcome = run(config, tmp_path / "run", False, "cpu", Console(file=nowhere))
    export_run(tmp_path / "run", tmp_path / "model")
    image = generate("shapes", 1, 40, seed=3)[0][0]
    mine, runs = Segmenter(tmp_path / "model"), Segmenter(tmp_path / "run")
    assert (mine.soft(image) == runs.soft(image)).all()
    refined = load_file(tmp_path / "run" / "refined.safetensors")
    assert all(
        torch.equal(value, refined[name])
        for name, value in part("extractor", load_file(tmp_path / "model" / "model.safetensors")).items()
    )
    text = card(tmp_path / "model")
    assert row(text, "length").endswith("then 1 rounds of 20 steps of the second stage")
    assert row(text, "IoU, object region fixed once without labels") == f"{outcome['scores']['iou']:.4f}"
    # a state that the second stage's extractor does not belong to
    saved, about = load_checkpoint(tmp_path / "run" / "state.safetensors")
    from redoseg.train.checkpoint import save_checkpoint

    save_checkpoint(tmp_path / "run" / "state.safetensors", saved, about | {"restarts": 1})
    export_run(tmp_path / "run", tmp_path / "other")
    other = part("extractor", load_file(tmp_path / "other" / "model.safetensors"))
    assert not all(torch.equal(value, refined[name]) for name, value in other.items())
    assert "second stage" not in card(tmp_path / "other")
    assert "## Scores" not in card(tmp_path / "other")


def test_a_run_that_was_killed_can_be_exported(trained: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("state.safetensors", "config.json"):
        shutil.copy(trained.folder / name, tmp_path / "run")
    export_run(tmp_path / "run", tmp_path / "model")
    assert Segmenter(tmp_path / "model").object_region == trained.outcome["object_region"]  # chosen again, not guessed
    assert len(RedrawModel(tmp_path / "model").redraw(np.zeros((20, 20, 3), np.uint8), 2)) == 2


def test_the_region_is_the_runs_own_where_its_log_is_lost(trained: Any, tmp_path: Path) -> None:
    shutil.copytree(trained.folder, tmp_path / "run")
    model = onnx.load(tmp_path / "run" / "mask.onnx")
    other = 1 - trained.outcome["object_region"]
    next(entry for entry in model.metadata_props if entry.key == "object_region").value = str(other)
    onnx.save(model, tmp_path / "run" / "mask.onnx")
    for name in ("log.jsonl", "outcome.json"):
        (tmp_path / "run" / name).unlink()
    export_run(tmp_path / "run", tmp_path / "model")
    assert Segmenter(tmp_path / "model").object_region == other


# ------------------------------------------------------------------------------------------------ mistakes


def test_what_is_refused(trained: Any, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing has no state.safetensors, so it is not a run folder"):
        export_run(tmp_path / "nothing", tmp_path / "model")
    before = {p.name: p.read_bytes() for p in exported.iterdir()}
    with pytest.raises(RedosegError, match="birds exists; expected a new model folder; choose another path"):
        export_run(trained.folder, exported)
    assert {p.name: p.read_bytes() for p in exported.iterdir()} == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        DataError, match=r"file/model cannot be made \(Not a directory\): make its folder or choose another path"
    ):
        export_run(trained.folder, tmp_path / "file" / "model")
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "state.safetensors").write_bytes(b"junk")
    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        export_run(tmp_path / "junk", tmp_path / "model")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "junk"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_failure_leaves_nothing(error: Any, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> str:
        raise error

    monkeypatch.setattr(model_folder, "write_card", fails)
    with pytest.raises((KeyboardInterrupt, DataError)):
        export_run(trained.folder, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_kill_leaves_no_half_folder(
    start: Callable[..., subprocess.Popen[str]], trained: Any, tmp_path: Path
) -> None:
    code = (
        "import sys, time\nfrom redoseg.sharing import model_folder\n"
        "model_folder.write_card = lambda *_: (print('now', flush=True), time.sleep(60))\n"
        f"model_folder.export_run({str(trained.folder)!r}, {str(tmp_path / 'model')!r})\n"
    )
    process = start("-c", code)
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    assert not (tmp_path / "model").exists()
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    assert not (tmp_path / "model").exists()
    assert all(p.name.startswith(".model.") for p in tmp_path.iterdir())  # hidden, and in nobody's way
    export_run(trained.folder, tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == FILES


# ---------------------------------------------------------------------------------------- without redoseg


@pytest.mark.parametrize("signed", [True, False])
def test_the_eight_lines_segment_without_redoseg(signed: bool, tiny: Tiny, tmp_path: Path) -> None:
    """In a process that cannot import redoseg; the card has just these lines."""
    if signed:
        from redoseg.inference.model_file import find_model

        (tmp_path / "mask.onnx").write_bytes(find_model("flowers").content)
    else:
        from redoseg.onnx_export.mask_extractor import export_extractor

        config = tiny({"data.value_range": "unit"})
        torch.manual_seed(2)
        extractor = MaskExtractor(config.nets)
        torch.nn.init.normal_(extractor.head.weight, std=0.1)
        export_extractor(extractor.eval(), config, tmp_path / "mask.onnx", name="unit", object_region=1)
    lines = without_redoseg(signed)
    assert len(lines.splitlines()) == 8
    # at the random network's own size, since the lines reduce a photograph a little otherwise
    width, height = (200, 120) if signed else (16, 16)
    photo = Image.fromarray(generate("shapes-hard", 1, 64, seed=1)[0][0]).resize((width, height))
    photo.save(tmp_path / "photo.jpg", quality=95)
    code = f"import sys\nsys.modules['redoseg'] = None\n{lines}\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    mask = np.asarray(Image.open(tmp_path / "mask.png"), np.float32) / 255
    expected = Segmenter(tmp_path / "mask.onnx", edges="plain").soft(tmp_path / "photo.jpg")
    assert mask.shape == expected.shape == (height, width)
    assert expected.std() > 0.1
    assert np.abs(mask - expected).mean() < (0.03 if signed else 0.005)


def test_the_docs_and_the_card_have_those_lines(exported: Path) -> None:
    assert f"```python\n{without_redoseg()}\n```" in card(exported)
    page = (ROOT / "docs" / "sharing.md").read_text()
    assert page.count("InferenceSession(") == 1
    assert without_redoseg() in page.replace("\n\n", "\n")  # a formatter parts imports from the rest
