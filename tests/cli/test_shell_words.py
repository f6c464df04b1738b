"""COLUMNS of any value hides nothing; ~ at the start of any path is the home folder, in options, recipes and calls."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from bright import bright_square, tree, write_model

from redoseg import Segmenter
from redoseg.cli.main import run_command
from redoseg.cli.parse import parse
from redoseg.cli.verbs import VERBS
from redoseg.config.recipe import from_values, load_recipe
from redoseg.config.schema import RefineConfig
from redoseg.data import open_data, prepare, read_splits
from redoseg.data.corrected import open_corrected
from redoseg.data.open import originals
from redoseg.errors import RedosegError
from redoseg.files import cache_dir
from redoseg.inference.quantize import quantize
from redoseg.inference.segment_files import segment_paths
from redoseg.nets.unet import UNet
from redoseg.sharing.model_folder import export_run
from redoseg.train.refined import take_over
from redoseg.train.start_masks import StartMasks


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with photographs and a model, and an empty folder to work in."""
    folder = tmp_path / "home"
    (folder / "photos").mkdir(parents=True)
    for number in range(9):
        bright_square(40 + number).save(folder / "photos" / f"{number}.png")
    (folder / "photos" / "broken.jpg").write_text("x")
    write_model(folder / "run" / "mask.onnx")
    monkeypatch.setenv("HOME", str(folder))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


WIDTHS = ["0", "-1", "1", "junk", "", "1e3", "\u00b2", "99999999999", " 80", "10"]


@pytest.mark.every(7)
@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize(
    ("command", "lines"),
    [
        ("segment ~/run ~/photos -o out", ("9 of 10 pictures segmented into out", "broken.jpg: ")),
        (
            "prepare folder --source ~/photos --out set --size 16",
            ("9 pictures prepared at 16 px in set", "broken.jpg: "),
        ),
        ("segment --help", ("Cut the object out of photographs", "--threshold")),
        ("doctor", ("redoseg",)),
    ],
)
def test_every_line_is_printed_at_any_width(
    command: str,
    lines: tuple[str, ...],
    columns: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", columns)
    with contextlib.suppress(SystemExit):
        run_command(command.split())
    out = capsys.readouterr().out
    for line in lines:
        assert line in out


def test_a_width_that_a_terminal_has_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "132")
    run_command(["--version"])
    assert os.environ["COLUMNS"] == "132"


@pytest.mark.parametrize(
    ("more", "columns"), [("", "20"), ("", "55"), ("--own-size", "20"), ("--grounds --size 16", "20")]
)
def test_figures_are_whole_at_any_width_and_names_are_what_they_are(
    more: str, columns: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """rich reads [red] as a colour, [/b] as its end, and :cat: as a picture of one."""
    name = ":cat: [red]["
    for folder in ("images", "masks"):
        (Path(name) / "b]" / folder).mkdir(parents=True)
        for number in "12":
            bright_square().save(Path(name) / "b]" / folder / f"{number}.png")
    model = write_model(Path(name) / "b].onnx")
    monkeypatch.setenv("COLUMNS", columns)
    options = more or "--size 16 --methods square"
    assert run_command(["evaluate", str(model), f"{name}/b]", *options.split()]) == 0
    out = capsys.readouterr().out
    assert "b], 2 pictures at" in out
    assert "100.0 " in out
    assert "\u2026" not in out
    if not more:
        assert str(model) in out


@pytest.mark.every(3)
@pytest.mark.parametrize(
    "command",
    [
        "segment ~/run ~/photos/1.png --out=~/made/x.png",
        "segment ~/run ~/photos/1.png -o ~/made",
        "segment ~/run ~/photos --out ~/made --review",
        "segment ~/run ~/photos/[12].png --out ~/made",
        "prepare folder --source=~/photos --out=~/made/set --size=16",
        "evaluate ~/run shapes --methods square --size 16 --picture=~/made/x.png",
        "compare shapes ~/run --methods square --edges plain --size 16 --out=~/made",
        "quantize flowers ~/photos --out=~/made/x.onnx",
        "redraw flowers ~/photos/1.png --out=~/made --count=1",
    ],
)
def test_options_know_the_home(command: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redoseg.data.open.HELD_OUT_COUNT", 8)  # 512 otherwise
    assert run_command(command.split()) in (0, 1)
    assert tree(home / "made")
    assert list(Path().iterdir()) == []


def test_every_path_of_every_verb(home: Path) -> None:
    """Also those that no short command tries."""
    for verb, arguments in {
        "train": "--data ~/a --out ~/b --data.evaluate-on ~/c --nets.extractor-from ~/d --refine.start ~/e",
        "data": "~/a --sheet ~/b",
        "export": "~/a --out ~/b",
        "push": "~/a me/model",
        "serve": "~/a --run ~/b ~/c --examples ~/d",
        "study": "~/a --out ~/b",
        "prepare": "folder --source ~/a --out ~/b --splits ~/c",
        "compare": "~/a ~/b ~/c",
    }.items():
        seen = str(parse(VERBS[verb][0], verb, arguments.split()))
        assert "~" not in seen, seen
        assert seen.count(str(home)) == arguments.count("~")


def test_words_that_are_no_paths_stay(home: Path) -> None:
    assert parse(VERBS["segment"][0], "segment", ["m", "a.png", "-o", "x", "--label", "~/tilde"]).label == "~/tilde"  # type: ignore[attr-defined]
    nobody = parse(VERBS["segment"][0], "segment", ["m", "~nobody-of-this-name/a.png", "-o", "x"])
    assert "~nobody-of-this-name" in str(nobody)


NOBODY = "~nobody-of-this-name/x"
READERS: dict[str, Callable[[], object]] = {
    "model": lambda: Segmenter(NOBODY),
    "set": lambda: open_data(NOBODY, 16),
    "originals": lambda: originals(NOBODY),
    "corrected": lambda: open_corrected(NOBODY, 16),
    "masks to start from": lambda: StartMasks.find(RefineConfig(start=NOBODY), ("x",)),
    "what was learnt": lambda: take_over(UNet(4, 1), NOBODY),
    "recipe": lambda: load_recipe(NOBODY),
    "run": lambda: export_run(NOBODY, "out"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("reader", READERS)
def test_the_home_of_nobody_is_one_line(reader: str) -> None:
    with pytest.raises(RedosegError, match="~nobody-of-this-name") as caught:
        READERS[reader]()
    assert "\n" not in str(caught.value)


def test_recipes_know_the_home(home: Path) -> None:
    (home / "mine.toml").write_text(
        '[data]\nsource = "~/photos"\nevaluate_on = "~/photos"\n[refine]\nstart = "~/masks"\nrounds = 1\n'
    )
    config = load_recipe("~/mine.toml")
    assert config.data.source == config.data.evaluate_on == str(home / "photos")
    assert config.refine.start == str(home / "masks")
    assert from_values({"nets": {"extractor_from": "~"}}, "here").nets.extractor_from == str(home)


def test_the_library_knows_the_home(home: Path) -> None:
    segmenter = Segmenter("~/run")
    assert segmenter("~/photos/1.png").shape == segmenter(Path("~/photos/1.png")).shape == (64, 41)
    assert segment_paths(segmenter, ["~/photos/1.png", Path("~/photos/2.png")], "~/out").done == 2
    prepare("folder", "~/photos", "~/set", 16)
    assert len(open_data("~/set", 16)) == 9
    (home / "splits.csv").write_text("1,train\n")
    read_splits("~/splits.csv")
    quantize("flowers", "~/photos", "~/new/x.onnx")
    assert (home / "new" / "x.onnx").exists()
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("given", ["~/kept", "~"])
def test_the_cache_knows_the_home(given: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert cache_dir() == Path(given.replace("~", str(home))) / "redoseg"


@pytest.mark.parametrize("given", ["cache", "./cache", "../cache", ""])
def test_a_relative_cache_does_not_count(given: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder that a command is started in would have its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert cache_dir() == home / ".cache" / "redoseg"
