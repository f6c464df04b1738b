"""Files that a person wrote with a byte-order mark, and a home that cannot be written."""

from __future__ import annotations

import codecs
import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from redoseg.config.recipe import load_recipe
from redoseg.data.corrected import open_corrected
from redoseg.data.splits import read_splits
from redoseg.errors import ConfigError, DataError, ModelError, RedosegError
from redoseg.files import cache_dir, make_folder, write_atomic
from redoseg.images.lists import listed_in
from redoseg.inference.hub import fetch
from redoseg.study.run import load_study

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


def a_list(path: Path) -> int:
    return len(listed_in(path))


def a_table_of_splits(path: Path) -> int:
    return len(read_splits(path))


def a_review(path: Path) -> int:
    return len(open_corrected(str(path), 16).refused)


def a_study(path: Path) -> int:
    return len(load_study(str(path)).rows)


READ: dict[Callable[[Path], int], tuple[str, str]] = {
    a_list: ("x.txt", "./größe.png\n./x.png\n"),
    a_table_of_splits: ("x.csv", "name;split\ngröße.png;train\nx.png;test\n"),
    a_review: ("x.csv", "picture;verdict\ngröße.png;refuse\nx.png;refuse\n"),
    a_study: ("x.toml", 'recipe = "shapes"\n[[row]]\nname = "größe"\n[[row]]\nname = "x"\nsettings = {seed = 1}\n'),
}


def written(what: Callable[[Path], int], folder: Path, content: Callable[[str], bytes]) -> Path:
    name, text = READ[what]
    (folder / name).write_bytes(content(text))
    for picture in ("größe.png", "x.png"):
        (folder / picture).touch()
    return folder / name


@pytest.mark.parametrize("what", READ)
@pytest.mark.parametrize("mark", MARKS)
def test_other_texts_may_begin_with_one_too(
    mark: str, what: Callable[[Path], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, encoding = MARKS[mark]
    monkeypatch.chdir(tmp_path)
    path = written(what, tmp_path, lambda text: begin + text.replace("\n", "\r\n").encode(encoding))
    assert what(path) == 2


@pytest.mark.parametrize("what", READ)
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_text_without_a_mark_is_utf_8(encoding: str, what: Callable[[Path], int], tmp_path: Path) -> None:
    with pytest.raises(RedosegError, match=r"is not UTF-8; (expected a text file; )?save it as UTF-8"):
        what(written(what, tmp_path, lambda text: text.encode(encoding)))


@pytest.mark.parametrize("error", ["ENOTDIR", "EACCES", "EROFS", "ENOSPC"])
def test_a_cache_of_the_hub_that_cannot_be_written_names_the_variable(
    error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, error), "no")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fails)
    with pytest.raises(ModelError, match="set HF_HOME to a folder that can be written"):
        fetch("a/b", ["mask.onnx"])


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
