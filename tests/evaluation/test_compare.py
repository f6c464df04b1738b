"""The comparison: its figures, that it continues where it stopped, and that what fails is reported."""

from __future__ import annotations

import functools
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from redoseg import metrics
from redoseg.cli import main
from redoseg.cli.options import Compare
from redoseg.config.schema import Config
from redoseg.data import labelled_images
from redoseg.errors import RedosegError
from redoseg.evaluation import baselines
from redoseg.evaluation.compare import candidates, compare
from redoseg.evaluation.results import FIGURES
from redoseg.evaluation.tables import markdown_table
from redoseg.images import grabcut
from redoseg.images.clean import Cleaning, clean
from redoseg.inference.segmenter import Segmenter
from redoseg.metrics import boundary_f
from redoseg.nets.mask_extractor import MaskExtractor
from redoseg.onnx_export.mask_extractor import export_extractor
from redoseg.system import opencv

QUICK = ("otsu", "square", "everything")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where masks are kept, empty for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "redoseg" / "compare"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of a method for each time that one is called."""
    seen: list[str] = []

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def count(*args: Any, **settings: Any) -> Any:
            seen.append(name)
            return method(*args, **settings)

        return count

    for name, method in list(baselines.METHODS.items()):
        monkeypatch.setitem(baselines.METHODS, name, counted(name, method))
    return seen


def by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["method"]: row for row in result["rows"]}


def figures(result: dict[str, Any]) -> dict[str, list[float]]:
    return {name: [row[figure] for figure in FIGURES] for name, row in by_name(result).items()}


def kept(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file() and not path.name.startswith("."))


# -------------------------------------------------------------------------------------------------- figures


@pytest.mark.usefixtures("no_cuts")
def test_every_row_has_the_figures_that_it_has_by_hand(photos: Path, trained: Any) -> None:
    model = str(trained.folder)
    methods = ("everything", "square", "otsu", "kmeans", "grabcut:rounds=1")
    result = compare(str(photos), models=[model], methods=methods, size=32, edges="all")
    assert set(by_name(result)) == {*methods, model, f"{model}, guided edges", f"{model}, grabcut edges"}
    assert (result["pictures"], result["size"], result["failed"]) == (12, 32, [])

    pictures = labelled_images(str(photos), 32)
    images, labels = np.asarray(pictures.pixels), pictures.labels()
    masks = {
        "everything": np.ones(labels.shape, bool),
        "square": np.stack([baselines.square(image) for image in images]),
        "otsu": np.stack([baselines.otsu(image) for image in images]),
        "kmeans": np.stack([baselines.kmeans(image) for image in images]),
        "grabcut:rounds=1": np.stack([grabcut.grabcut(image, rounds=1) for image in images]),
    }
    for edges in ("plain", "guided", "grabcut"):
        name = model if edges == "plain" else f"{model}, {edges} edges"
        segmenter = Segmenter(model, edges=edges)  # type: ignore[arg-type]
        masks[name] = segmenter.batch(images)[:, segmenter.object_region] > 0.5
        if edges != "plain":
            masks[name] = np.stack([clean(mask, Cleaning()) for mask in masks[name]])
    for name, row in by_name(result).items():
        scores = metrics.score(masks[name], labels)
        edge = np.mean([boundary_f(mask, label) for mask, label in zip(masks[name], labels, strict=True)])
        expected = [scores.accuracy, scores.iou, scores.iou_oracle_flip, edge]
        assert [row[f] for f in FIGURES] == pytest.approx(expected, abs=1e-3), name
        assert row["iou_interval"] == pytest.approx(metrics.bootstrap_interval(scores.ious), abs=1e-3)
        assert row["computed"] == 12
    ious = [row["iou"] for row in result["rows"]]
    assert ious == sorted(ious, reverse=True)
    everything = by_name(result)["everything"]
    assert everything["iou"] == pytest.approx((labels > 0).mean(axis=(1, 2)).mean())
    assert everything["boundary_f"] == 0
    size = (trained.folder / "mask.onnx").stat().st_size / 1e6
    assert (by_name(result)[model]["megabytes"], everything["megabytes"]) == (size, None)


def test_each_row_is_tested_against_the_best_that_is_not_of_the_same_model(photos: Path, trained: Any) -> None:
    model = str(trained.folder)
    result = compare(str(photos), models=[model], methods=QUICK, size=32)
    rows = by_name(result)
    methods = [row["method"] for row in result["rows"] if row["method"] in QUICK]
    for name, row in rows.items():
        if name not in QUICK:
            assert row["against"] == methods[0]
        elif name != result["rows"][0]["method"]:
            assert row["against"] == result["rows"][0]["method"]
        assert row["difference"] == pytest.approx(row["iou"] - rows[row["against"]]["iou"])
        assert row["difference_interval"][0] <= row["difference"] <= row["difference_interval"][1]
        assert 0 < row["p"] <= 1
    alone = compare(str(photos), models=[model], methods=(), size=32)  # two rows, one model: nothing to test against
    assert [row["against"] for row in alone["rows"]] == [None, None]
    assert markdown_table(alone).count("| - | - |") == 2


def test_pictures_without_a_labelled_pixel_are_left_out(photos: Path, tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for path in sorted((photos / kind).iterdir()):
            (tmp_path / "set" / kind / path.name).write_bytes(path.read_bytes())
    Image.fromarray(np.full((32, 32), 127, np.uint8)).save(tmp_path / "set" / "masks" / "00.png")
    (tmp_path / "set" / "masks" / "01.png").unlink()
    result = compare(str(tmp_path / "set"), methods=("square",), size=32)
    assert result["pictures"] == 10


def test_settings_make_a_row_of_their_own(photos: Path) -> None:
    rows = by_name(compare(str(photos), methods=("square", "square:margin=0.25"), size=32))
    assert rows["square"]["iou"] != rows["square:margin=0.25"]["iou"]
    assert rows["square:margin=0.25"]["settings"] == {"margin": 0.25}


def test_the_start_of_grabcut_is_a_setting(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = ("grabcut:rounds=1", "grabcut:start=disc,size=1,rounds=1", "grabcut:start=square,rounds=1")
    code, out, _ = run(capsys, photos, "--methods", *methods, "--size", "32", "--json")
    assert code == 0
    rows = by_name(json.loads(out))
    assert [rows[name]["settings"] for name in methods] == [
        {"start": "rectangle", "inset": 0.02, "rounds": 1, "side": 1},
        {"start": "disc", "size": 1, "rounds": 1, "side": 1},
        {"start": "square", "size": 0.125, "rounds": 1, "side": 1},
    ]
    assert len({rows[name]["iou"] for name in methods}) == 3
    _, out, _ = run(capsys, photos, "--methods", *methods, "--size", "32")
    assert "grabcut start disc, size 1, rounds 1, side 1" in out
    code, out, err = run(capsys, photos, "--methods", "grabcut:start=disc,inset=0.1")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "has no setting 'inset'. Its settings: start=disc, size=0.8, rounds=5, side=1." in err


def test_the_command_names_every_method() -> None:
    assert Compare("shapes").methods == tuple(baselines.METHODS)
    assert signature(compare).parameters["methods"].default == tuple(baselines.METHODS)


# ------------------------------------------------------------------------------------------- continuing, keeping


def test_a_second_run_computes_nothing(photos: Path, trained: Any, calls: list[str]) -> None:
    first = compare(str(photos), models=[str(trained.folder)], methods=QUICK, size=32)
    assert len(calls) == 3 * 12
    assert all(row["seconds"] > 0 for row in first["rows"] if row["method"] not in ("square", "everything"))
    again = compare(str(photos), models=[str(trained.folder)], methods=QUICK, size=32)
    assert len(calls) == 3 * 12
    assert figures(again) == figures(first)
    assert {(row["computed"], row["seconds"]) for row in again["rows"]} == {(0, None)}
    assert markdown_table(again).count("| cached |") == 5
    fresh = compare(str(photos), methods=QUICK, size=32, fresh=True)
    assert len(calls) == 6 * 12
    assert {row["computed"] for row in fresh["rows"]} == {12}
    compare(str(photos), methods=("square:margin=0.3",), size=32)  # other settings, other masks
    assert len(calls) == 7 * 12


def test_masks_from_before_grabcut_had_a_choice_of_starts_are_still_used(photos: Path, calls: list[str]) -> None:
    image = np.ascontiguousarray(labelled_images(str(photos), 32).pixels[0])
    row = candidates(("grabcut:rounds=1",), ())[0]
    # the key as it was then
    assert row.key == (
        f"method grabcut 1 {[('inset', 0.02), ('rounds', 1), ('side', 1)]} OpenCV {opencv().__version__}"
    )
    assert row.mask(image).shape == (32, 32)
    compare(str(photos), methods=("grabcut:rounds=1",), size=32)
    compare(str(photos), methods=("grabcut:start=rectangle,rounds=1",), size=32)
    assert calls.count("grabcut") == 1 + 12


def test_a_raised_version_makes_masks_again(photos: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    compare(str(photos), methods=("square",), size=32)
    monkeypatch.setattr(baselines, "VERSION", baselines.VERSION + 1)
    compare(str(photos), methods=("square",), size=32)
    assert len(calls) == 2 * 12


def test_a_damaged_mask_is_made_again(photos: Path, calls: list[str], cache: Path) -> None:
    first = compare(str(photos), methods=("otsu",), size=32)
    files = kept(cache)
    assert {path.stat().st_size for path in files} == {32 * 32 // 8}
    files[0].write_bytes(files[0].read_bytes()[:-1])
    files[1].write_bytes(b"")
    assert figures(compare(str(photos), methods=("otsu",), size=32)) == figures(first)
    assert len(calls) == 14


def test_a_stopped_comparison_continues(photos: Path, calls: list[str], cache: Path) -> None:
    def stop(done: int, total: int, row: str) -> None:
        assert (total, row) == (24, "otsu" if done <= 12 else "square")
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(str(photos), methods=("otsu", "square"), size=32, jobs=1, on_item=stop)
    before = len(calls)
    assert 5 <= before < 12
    assert len(kept(cache)) == before
    result = compare(str(photos), methods=("otsu", "square"), size=32, jobs=3)
    assert len(calls) == 24
    assert by_name(result)["otsu"]["computed"] == 12 - before
    assert figures(result) == figures(compare(str(photos), methods=("otsu", "square"), size=32, fresh=True))


SLOW = """
import sys, time
from redoseg.evaluation import baselines
from redoseg.evaluation.compare import compare
quick = baselines.METHODS["otsu"]
baselines.METHODS["otsu"] = lambda picture: (time.sleep(0.1), quick(picture))[1]
compare(sys.argv[1], methods=("otsu",), size=32, jobs=1)
"""


def test_a_kill_leaves_no_half_mask(start: Callable[..., subprocess.Popen[str]], photos: Path, cache: Path) -> None:
    process = start("-c", SLOW, photos)
    deadline = time.monotonic() + 120
    while len(kept(cache)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    files = kept(cache)
    assert 2 <= len(files) < 12
    assert {path.stat().st_size for path in files} == {32 * 32 // 8}
    result = compare(str(photos), methods=("otsu",), size=32)
    assert result["rows"][0]["computed"] == 12 - len(files)
    assert figures(result) == figures(compare(str(photos), methods=("otsu",), size=32, fresh=True))


# ------------------------------------------------------------------------------------------- what fails is reported


@pytest.fixture
def broken(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that fails on one picture, `otsu`."""
    worst = np.asarray(labelled_images(str(photos), 32).pixels[3])

    def fails(picture: np.ndarray) -> np.ndarray:
        if np.array_equal(picture, worst):
            raise ValueError("no | such\nthing")
        return np.ones(picture.shape[:2], bool)

    monkeypatch.setitem(baselines.METHODS, "otsu", fails)


def test_a_method_that_fails_is_listed_and_its_mask_empty(
    photos: Path, broken: None, cache: Path, tmp_path: Path
) -> None:
    result = compare(str(photos), methods=("otsu", "everything"), size=32, out=tmp_path / "out")
    pictures = labelled_images(str(photos), 32)
    name = pictures.names[3]
    assert result["failed"] == [{"method": "otsu", "picture": name, "why": "no | such thing"}]
    rows = by_name(result)
    share = float((pictures.labels([3]) > 0).mean())
    assert rows["otsu"]["iou"] == pytest.approx(rows["everything"]["iou"] - share / 12)
    assert (rows["otsu"]["failed"], rows["otsu"]["computed"]) == (1, 11)
    assert len(kept(cache)) == 23  # it is tried again the next time
    assert f"- otsu on {name}: no | such thing" in (tmp_path / "out" / "table.md").read_text()


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[Any, str, str]:
    """Exit code, output and errors of one command line."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["redoseg", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main.main()
    said = capsys.readouterr()
    return stopped.value.code, said.out, said.err


def test_done_in_part_is_exit_code_1(photos: Path, broken: None, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, photos, "--methods", "otsu", "everything", "--size", "32")
    assert (code, err) == (1, "")
    assert "1 masks are missing and count as empty:" in out


@pytest.mark.parametrize(("flags", "what"), [((), "the same command"), (("--fresh",), "without --fresh it")])
def test_stopped_by_hand_is_exit_code_130(
    flags: tuple[str, ...],
    what: str,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(picture: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setitem(baselines.METHODS, "otsu", stop)
    code, out, err = run(capsys, photos, "--methods", "otsu", "--size", "32", *flags)
    assert (code, out) == (130, "")
    assert err == f"redoseg: stopped by hand; {what} continues where it stopped\n"


def three_regions(config: Config, at: Path) -> Path:
    config = replace(config, nets=replace(config.nets, regions=3))
    export_extractor(MaskExtractor(config.nets), config, at, name="three", object_region=0)
    return at


def test_mistakes_are_one_line(
    photos: Path, trained: Any, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three = three_regions(trained.config, tmp_path / "three.onnx")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "table.md").write_text("mine")
    quick = ("--methods", "square")
    for arguments, text in (
        ((photos, "--methods", "snakes"), "Method 'snakes' does not exist. Choose one of kmeans"),
        ((photos, "--methods", "square:margin=2"), "margin is '2', but must be a share between 0 and 0.5."),
        ((photos, "--methods"), "There is no model, no method and no folder of masks"),
        ((photos, "gone", *quick), "model gone does not exist: choose a run folder"),
        ((tmp_path / "gone", *quick), "gone does not exist; expected a prepared set, a folder of pictures"),
        ((photos / "images", *quick, "--size", "32"), "has no masks; expected pictures with masks"),
        ((photos, three, *quick), "has 3 regions, but compare needs two. Score it with `redoseg evaluate`."),
        ((photos, *quick, "--out", tmp_path / "out"), "table.md exists: choose another path, or allow overwriting"),
        ((photos, *quick, "--edges", "sharp"), "See `redoseg compare --help`"),
    ):
        code, out, err = run(capsys, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), (arguments, err)
        assert text in err
    assert (tmp_path / "out" / "table.md").read_text() == "mine"
    assert kept(cache) == []


def test_without_opencv_the_line_says_what_to_install(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(RedosegError, match=r'pip install "redoseg\[grabcut\]"'):
        compare(str(photos), methods=("everything",), size=32)


# ------------------------------------------------------------------------------------------- choosing settings


@pytest.fixture
def parted(photos: Path, tmp_path: Path) -> Path:
    """The pictures of `photos` in two splits, dev and test."""
    folder = tmp_path / "parted"
    shutil.copytree(photos, folder)
    (folder / "splits.csv").write_text("".join(f"{n:02},{'dev' if n % 3 == 0 else 'test'}\n" for n in range(12)))
    return folder


def test_settings_are_those_that_score_best_on_the_other_pictures(
    parted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(
        *(capsys, parted, "--split", "test", "--tune", "dev", "--size", "32", "--methods", "square", "otsu"),
        *("-o", tmp_path / "out"),
    )
    assert code == 0
    dev = labelled_images(str(parted), 32, split="dev")
    by_hand = {
        margin: metrics.score(np.stack([baselines.square(image, margin) for image in dev.pixels]), dev.labels()).iou
        for margin in baselines.TRIED["square"]["margin"]
    }
    best = max(by_hand, key=lambda margin: by_hand[margin])
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(by_name(result)) == {"otsu", f"square:margin={best:g}"}
    assert result["pictures"] == 8
    assert (result["tuned"]["on"], result["tuned"]["pictures"]) == ("dev", 4)
    tried = {f"square:margin={margin:g}": iou for margin, iou in by_hand.items()}
    assert result["tuned"]["iou"] == pytest.approx(tried, abs=1e-4)
    assert "best `iou` of 9 settings that were tried on 4 other pictures (split dev)" in out


def test_labels_of_the_table_have_no_say_in_the_settings(parted: Path) -> None:
    def chosen() -> set[str]:
        return set(by_name(compare(str(parted), methods=("square", "watershed"), split="test", size=32, tune="dev")))

    before = chosen()
    for path in sorted((parted / "masks").iterdir()):
        if int(path.stem) % 3:
            Image.new("L", (32, 32), 255).save(path)
    assert chosen() == before


def test_settings_that_are_named_stay(parted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {
        "grabcut": {"inset": (0.05, 0.125), "rounds": (1, 5)},
        "grabcut:start=square": {"size": (0.4,), "rounds": (1,)},
    }
    monkeypatch.setattr(baselines, "TRIED", few | {"square": {"margin": (0.1, 0.2)}})  # all of them take a minute
    result = compare(str(parted), methods=("grabcut:rounds=1", "square:margin=0.25"), split="test", size=32, tune="dev")
    names = set(by_name(result))
    assert "square:margin=0.25" in names
    tried = {name for name in result["tuned"]["iou"] if name.startswith("grabcut:")}
    assert tried == set(baselines.variants("grabcut:rounds=1"))
    assert len(tried) == 3
    assert len(names & tried) == 1


def test_methods_without_settings_have_nothing_to_choose(parted: Path) -> None:
    result = compare(str(parted), methods=("otsu", "everything"), split="test", size=32, tune="dev")
    assert set(by_name(result)) == {"otsu", "everything"}
    assert result["tuned"]["iou"] == {}
    assert "settings that were tried" not in markdown_table(result)


def test_of_built_in_pictures_another_seed_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redoseg.data.open.HELD_OUT_COUNT", 8)  # 512 otherwise
    result = compare("shapes", methods=("square",), size=32, tune="1")
    other = compare("shapes", methods=tuple(result["tuned"]["iou"]), size=32, seed=1)
    assert result["tuned"]["iou"] == pytest.approx({name: row["iou"] for name, row in by_name(other).items()})


def test_settings_are_never_chosen_on_pictures_of_the_table(parted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ("--methods", "square", "--size", "32")
    for arguments, text in (
        ((parted, "--tune", "dev"), "4 of the pictures to choose settings on (--tune dev) are also in the table (all"),
        ((parted, "--split", "dev", "--tune", "dev"), "also in the table (--split dev). Choose two splits"),
        (("shapes", "--tune", "0"), "--tune is 0, but shapes needs a whole number that is not the table's seed (0)"),
        (("shapes", "--tune", "dev"), "--tune is dev, but shapes needs a whole number"),
    ):
        code, out, err = run(capsys, *arguments, *quick)
        assert (code, out, err.count("\n")) == (2, "", 1), (arguments, err)
        assert text in err


# ----------------------------------------------------------------------------------------------- what is written


def test_json_is_one_object_and_nothing_else(
    photos: Path, trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (photos, trained.folder, "--methods", "square", "--size", "32", "--edges", "plain", "--json")
    code, out, err = run(capsys, *command, "--out", tmp_path / "out")
    assert (code, err, out.count("\n")) == (0, "", 1)
    said = json.loads(out)
    assert {row["method"] for row in said["rows"]} == {str(trained.folder), "square"}
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {key: written[key] for key in said} == said
    assert written["names"] == list(labelled_images(str(photos), 32).names)
    for row in said["rows"]:
        assert np.mean(written["ious"][row["method"]]) == pytest.approx(row["iou"], abs=1e-4)
    refused = run(capsys, *command, "--out", tmp_path / "out")
    assert (refused[0], refused[1]) == (2, "")
    assert run(capsys, *command, "--out", tmp_path / "out", "--overwrite")[0] == 0


def test_the_table_and_the_grid(photos: Path, trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(trained.folder)
    code, out, _ = run(capsys, photos, model, "--methods", *QUICK, "--size", "32", "-o", tmp_path / "out")
    assert code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"table.md", "results.json", "grid.png"}
    written = (tmp_path / "out" / "table.md").read_text()
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    lines = [line for line in written.splitlines() if line.startswith("| ")][2:]
    assert [line.split(" | ")[0] for line in lines] == [f"| {row['method']}" for row in result["rows"]]
    for line, row in zip(lines, result["rows"], strict=True):
        low, high = row["iou_interval"]
        assert line.split(" | ")[3] == f"{100 * row['iou']:.1f} ({100 * low:.1f} to {100 * high:.1f})"
        assert line in out
    assert "Settings: square margin 0.125." in written
    with Image.open(tmp_path / "out" / "grid.png") as grid:
        columns, rows = 2 + 5, 6
        assert grid.size == (columns * 132 + 4, 4 + 14 + rows * (128 + 14 + 4) + 4 + 2 * 14 - 4)
        assert grid.mode == "RGB"

    # the rule, by hand
    first = np.array(result["ious"][model])
    other = np.array(result["ious"][next(row["method"] for row in result["rows"] if row["method"] in QUICK)])
    order = np.argsort(other - first, kind="stable")
    shown = [(entry["number"], entry["which"]) for entry in result["shown"]]
    assert [which for _, which in shown] == ["best"] * 2 + ["median"] * 2 + ["worst"] * 2
    ahead = (first - other)[order]
    assert [(first - other)[number] for number, _ in shown] == pytest.approx(ahead[[0, 1, 5, 6, 10, 11]], abs=2e-4)
    assert re.search(rf"best, median and worst 2 of 12 pictures by IoU of {re.escape(model)} less", written)


def test_long_heads_of_the_grid_are_broken_not_cut(photos: Path, tmp_path: Path) -> None:
    heights = []
    for method in ("watershed", "watershed:centre=0.2,edge=0.05"):
        compare(str(photos), methods=(method,), size=32, out=tmp_path / "out", overwrite=True)
        with Image.open(tmp_path / "out" / "grid.png") as grid:
            heights.append(grid.height)
    assert heights[1] == heights[0] + 14


def test_few_pictures_are_shown_once_each(tmp_path: Path, photos: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for path in sorted((photos / kind).iterdir())[:3]:
            (tmp_path / "set" / kind / path.name).write_bytes(path.read_bytes())
    result = compare(str(tmp_path / "set"), methods=("otsu", "square"), size=32, out=tmp_path / "out")
    assert [entry["which"] for entry in result["shown"]] == ["best", "best", "worst"]
    assert len({entry["number"] for entry in result["shown"]}) == 3
