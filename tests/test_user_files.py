"""Files that a person wrote with a byte-order mark, and a home that cannot be written."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from redoseg.config.recipe import load_recipe
from redoseg.errors import ConfigError, DataError
from redoseg.files import cache_dir, make_folder, write_atomic

MARKS = {
    "none": (b"", "utf-8"),
    "utf-8": (codecs.BOM_UTF8, "utf-8"),
    "utf-16-le": (codecs.BOM_UTF16_LE, "utf-16-le"),
    "utf-16-be": (codecs.BOM_UTF16_BE, "utf-16-be"),
}


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
