"""Files that a person wrote with a byte-order mark, and a home that cannot be written."""

from __future__ import annotations

import codecs
import io
import sys
from pathlib import Path

import pytest

from redoseg.cli import main
from redoseg.config.recipe import load_recipe
from redoseg.errors import ConfigError, DataError
from redoseg.files import cache_dir, make_folder, write_atomic
from tests.bright import bright_square

MARKS = {
    "none": (b"", "utf-8"),
    "utf-8": (codecs.BOM_UTF8, "utf-8"),
    "utf-16-le": (codecs.BOM_UTF16_LE, "utf-16-le"),
    "utf-16-be": (codecs.BOM_UTF16_BE, "utf-16-be"),
}


TINY = """
steps = 1
batch = 2
threads = 1
[data]
size = 16
[nets]
extractor_width = 4
generator_width = 2
discriminator_width = 4
encoder_width = 4
latent = 4
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", MARKS)
def test_a_recipe_may_begin_with_a_byte_order_mark(mark: str, end: str, tmp_path: Path) -> None:
    begin, encoding = MARKS[mark]
    text = end.join(["# fünf", "steps = 5", "[data]", 'source = "größe"'])
    (tmp_path / "r.toml").write_bytes(begin + text.encode(encoding))
    found = load_recipe(str(tmp_path / "r.toml"))
    assert (found.steps, found.data.source) == (5, "größe")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\xffsteps = 5", b"\xef\xbb\xbfsteps"])
def test_a_recipe_that_is_no_text_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(content)
    with pytest.raises(ConfigError, match="is not a TOML file"):
        load_recipe(str(tmp_path / "r.toml"))


@pytest.mark.parametrize("what", ["write", "folder", "deep folder"])
def test_a_cache_that_cannot_be_written_names_the_variable(
    what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file stands where the cache should be, which not even root can write into."""
    (tmp_path / ".cache").write_text("")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def write() -> None:
        if what == "write":
            write_atomic(cache_dir() / "x.json", b"{}")
        else:
            make_folder(cache_dir() / what.replace(" ", "/"))

    with pytest.raises(DataError, match="set XDG_CACHE_HOME to a folder that can be written"):
        write()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("verb", ["data", "train"])
def test_names_that_the_terminal_cannot_print(
    verb: str, encoding: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "größe 猫"
    folder.mkdir()
    for number in range(8):
        bright_square(32, 24).save(folder / f"{number}.png")
    for name in ("é.png", "\U0001f408.png", "a\x1b[31m.png", "\u202e.png"):
        (folder / name).write_text("no picture")
    prepared, recipe = tmp_path / "set 猫", tmp_path / "tiny.toml"
    recipe.write_text(TINY)
    commands = {
        "data": [
            ["prepare", "folder", "--source", str(folder), "--out", str(prepared), "--size", "16"],
            ["data", str(prepared)],
        ],
        "train": [["train", str(recipe), "--data", str(folder), "--out", str(tmp_path / "run 猫")]],
    }[verb]
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, write_through=True))
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["redoseg", *command])
        with pytest.raises(SystemExit) as stopped:
            main.main()
        assert stopped.value.code in (0, 1, None), written.getvalue()
    said = written.getvalue().decode(encoding)
    assert "\x1b" not in said
    assert "Traceback" not in said
    assert said.strip()
