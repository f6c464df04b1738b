"""What is offered at TAB, by the shells themselves where they are installed."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from redoseg.cli.bench import BENCHES
from redoseg.cli.completion import script
from redoseg.cli.main import run_command
from redoseg.cli.options import Data
from redoseg.cli.verbs import VERBS
from redoseg.config.describe import settings_of
from redoseg.config.recipe import recipe_names
from redoseg.inference.model_file import weights
from redoseg.study.run import study_names


def printed(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run_command(["completion", shell]) == 0
    return capsys.readouterr().out


def shell_says(shell: str, code: str, where: Path) -> list[str]:
    done = subprocess.run([shell, "-c", code], capture_output=True, text=True, timeout=60, cwd=where)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.splitlines()


CASES = [  # the line, its last word unfinished; words that are offered; words that are not
    ("redoseg ''", {*VERBS, "--version"}, {"shapes"}),
    ("redoseg se", {"segment"}, {"train"}),
    ("redoseg bench ''", set(BENCHES), {"shapes", "doctor"}),
    ("redoseg train ''", {*recipe_names(), "photos"}, {"flowers-int8"}),
    ("redoseg train report/b", {"report/bce"}, {"shapes"}),
    ("redoseg segment ''", {*weights(), "photos", "two words.jpg"}, {"shapes"}),
    ("redoseg segment flowers two", {"two words.jpg"}, {"photos"}),
    ("redoseg segment flowers photos --as ''", {"mask", "soft", "cutout", "overlay"}, {"photos"}),
    ("redoseg segment flowers --o", {"--out", "--overwrite"}, {"--as"}),
    ("redoseg study ''", set(study_names()), {"shapes"}),
    ("redoseg train shapes --device c", {"cpu", "cuda"}, {"auto"}),
    ("redoseg train shapes --objective.s", {"--objective.same-latents", "--objective.self-redraw-weight"}, {"--seed"}),
    ("redoseg train shapes --data.no", {"--data.no-flip"}, {"--data.size"}),
    ("redoseg train shapes --steps ''", set(), {"photos", "shapes"}),
    ("redoseg train shapes --out ph", {"photos"}, {"shapes"}),
    ("redoseg bench train --each fl", {"flowers", "flowers-cpu"}, {"--each"}),
    ("redoseg bench train --dev", {"--device"}, {"--rounds"}),
    ("redoseg prepare flowers1", {"flowers17", "flowers102"}, {"lfw"}),
    ("redoseg completion ''", {"bash", "zsh", "fish"}, {"photos"}),
    ("redoseg nonsense --x", set(), {"--steps"}),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "here" / "photos").mkdir(parents=True)
    (tmp_path / "here" / "two words.jpg").touch()
    return tmp_path / "here"


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "script").write_text(printed("bash", capsys))
    code = ". ../script"
    for line, _, _ in CASES:
        code += f"\nCOMPREPLY=(); COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _redoseg; echo = {{}}"
        code += '\nprintf "%s\\n" "${COMPREPLY[@]}"'
    parts = "\n".join(shell_says("bash", code, place)).split("= {}\n")[1:]
    assert len(parts) == len(CASES)
    for (line, offered, not_offered), part in zip(CASES, parts, strict=True):
        assert offered <= set(part.splitlines()), line
        assert not set(part.splitlines()) & not_offered, line
    assert shell_says("bash", ". ../script; complete -p redoseg", place)[0].endswith("-F _redoseg redoseg")


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "script").write_text(printed("fish", capsys))
    for line, offered, not_offered in CASES:
        line = line.replace("''", "")
        said = shell_says("fish", f"source ../script; complete -C {shlex.quote(line)}", place)
        found = {word.split("\t")[0].rstrip("/").replace("\\ ", " ") for word in said} - {"--version"}
        assert offered - {"--version"} <= found, line
        assert not found & not_offered, line


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what only an interactive zsh has put in its place: it prints all words that it is given."""
    (tmp_path / "script").write_text(printed("zsh", capsys))
    stubs = (
        "compdef() { : }; compadd() { shift; print -rl -- $@ }; _files() { print -rl -- * }\n"
        "_describe() { for one in ${(P)2}; do print -r -- ${one%%:*}; done }\n. ../script\n"
    )
    for line, offered, not_offered in CASES:
        said = shell_says("zsh", f"{stubs}words=({line}); CURRENT=${{#words}}; _redoseg", place)
        last = shlex.split(line)[-1]
        found = {word for word in said if word.startswith(last)}
        assert offered - {"--version"} <= found, line
        assert not found & not_offered, line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_verb_setting_and_choice_is_in_the_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(shell, capsys)
    for kind, _ in [*VERBS.values(), *BENCHES.values()]:
        for setting in settings_of(kind):
            if not setting.positional:
                assert (f"-l {setting.name}" if shell == "fish" else f"--{setting.name}") in text
            for choice in setting.choices:
                assert choice in text


def test_a_new_verb_and_setting_is_completed_by_itself() -> None:
    text = script("bash", {"measure": Data}, {})
    assert "words='measure --help --version'" in text
    assert "measure) options='--help --sheet'" in text
