"""Help names what is meant and shows a dozen options first; a misspelt word gets the one that was meant."""

from __future__ import annotations

import re
from dataclasses import MISSING
from pathlib import Path

import pytest
from bright import bright_square, write_model

from redoseg.cli.bench import BENCHES
from redoseg.cli.help import MANY
from redoseg.cli.main import run_command
from redoseg.cli.verbs import VERBS
from redoseg.config.describe import settings_of
from redoseg.errors import RedosegError

KINDS = {verb: kind for verb, (kind, _) in VERBS.items() if verb != "bench"} | {
    f"bench {what}": kind for what, (kind, _) in BENCHES.items()
}


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        run_command(command.split())
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.every(4)
@pytest.mark.parametrize("columns", ["40", "80", "300"])
@pytest.mark.parametrize("verb", KINDS)
def test_help_is_short_and_help_all_is_whole(
    verb: str, columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    short, whole = help_of(f"{verb} --help", capsys), help_of(f"{verb} --help-all", capsys)
    assert help_of(f"{verb} -h", capsys) == short
    options = [s for s in settings_of(KINDS[verb]) if not s.positional]
    for setting in options:
        assert re.search(rf"--{re.escape(setting.name)}\b", whole)
    for text in (short, whole):
        assert not re.search(r"\b(STR|INT|FLOAT|PATH \[PATH)\b|\{None\}", text)
        assert text.startswith(f"usage: redoseg {verb} ")
    shown = [line for line in short.splitlines() if re.match(r"  (-\w, )?--", line)]
    if len(options) <= MANY:
        assert short == whole
    else:
        assert 6 <= len(shown) <= 13
        assert short.rstrip().endswith(f"{len(options) - len(shown)} more options: redoseg {verb} --help-all")
        assert len(whole.splitlines()) > 1.2 * len(short.splitlines())


@pytest.mark.parametrize(
    ("verb", "usage"),
    [
        ("segment", "usage: redoseg segment MODEL PHOTO ... [OPTIONS]"),
        ("evaluate", "usage: redoseg evaluate MODEL DATA [OPTIONS]"),
        ("redraw", "usage: redoseg redraw MODEL PHOTO [OPTIONS]"),
        ("compare", "usage: redoseg compare DATA [MODEL ...] [OPTIONS]"),
        ("train", "usage: redoseg train [RECIPE] [OPTIONS]"),
        ("completion", "usage: redoseg completion {bash,zsh,fish} [OPTIONS]"),
    ],
)
def test_operands_have_names(verb: str, usage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert help_of(f"{verb} --help", capsys).splitlines()[0] == usage


def test_what_is_missing_has_the_names_of_the_help() -> None:
    for verb, kind in KINDS.items():
        needed = [s for s in settings_of(kind) if s.default is MISSING]
        if not needed or verb == "refine":
            continue
        with pytest.raises(RedosegError) as caught:
            run_command(verb.split())
        said = str(caught.value)
        assert "STR" not in said, said
        assert len(said) < 120, said


@pytest.mark.every(4)
@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("segmnt x", "segment"),
        ("Prepare", "prepare"),
        ("evalaute x y", "evaluate"),
        ("bench trian", "train"),
        ("train shpaes", "shapes"),
        ("train flowers_cpu", "flowers-cpu"),
        ("train photo", "photos"),
        ("segment flower x.png -o out", "flowers"),
        ("serve Butterflies", "butterflies"),
        ("redraw flowrs x.png -o out", "flowers"),
        ("evaluate flowers shpaes", "shapes"),
        ("evaluate flowers beetels", "beetles"),
        ("study misssing", "missing"),
        ("prepare flowers12 --source x --out out", "flowers102"),
        ("compare shapes flowers --methods kmean", "kmeans"),
        ("segment flowers x.png -o out --as cutuot", "cutout"),
        ("segment flowers x.png -o out --treshold 0.4", "--threshold"),
        ("segment flowers x.png -o out --skip-exisiting", "--skip-existing"),
        ("train shapes --refine.ronds 3", "--refine.rounds"),
        ("train shapes --hepl", "--help"),
        ("completion zhs", "zsh"),
    ],
)
def test_a_misspelt_word_gets_the_one_that_was_meant(
    command: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bright_square().save("x.png")
    with pytest.raises(RedosegError) as caught:
        run_command(command.split())
    assert f"id you mean {meant}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_that_are_like_none_get_no_guess() -> None:
    for command in ("frobnicate", "train qqqq", "segment zzzz x.png -o out", "doctor --qqqq"):
        with pytest.raises(RedosegError) as caught:
            run_command(command.split())
        assert "you mean" not in str(caught.value)


@pytest.mark.parametrize(
    "order",
    [
        "segment MODEL a.png b.png more -o out",
        "segment MODEL -o out a.png b.png more",
        "segment -o out MODEL a.png b.png more",
        "segment MODEL a.png --out out b.png --crop more",
        "segment MODEL a.png --out=out b.png --edges plain more",
        "segment MODEL *.png more -o out",
        "segment MODEL a.png a.png ./a.png b.png more more/ -o out",
    ],
)
def test_several_pictures_in_any_order(order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no two results get one name."""
    monkeypatch.chdir(tmp_path)
    write_model(Path("model.onnx"))
    for name in ("a.png", "b.png", "more/a.png", "more/sub/a.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        bright_square().save(name)
    assert run_command(order.replace("MODEL", "model.onnx").split()) == 0
    found = sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*.png"))
    assert found == ["a.png", "b.png", "more/a.png", "more/sub/a.png"]


def test_names_of_several_sources_never_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(Path("model.onnx"))
    for name in ("2023/in/a.png", "2024/in/a.png", "2024/in/A.PNG", "2024/in/a.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        bright_square().save(name)
    assert run_command(["segment", "model.onnx", "2023/in", "2024/in/a.png", "2024/in", "-o", "out"]) == 0
    assert len(list(Path("out").rglob("*.png"))) == 4
    assert (Path("out") / "2023" / "in" / "a.png").exists()
