"""What kinds of files are read from a folder, which are named as not read, and which are passed over."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redoseg.data import open_data, prepare
from redoseg.data.open import originals
from redoseg.data.prepared import open_prepared
from redoseg.errors import DataError
from redoseg.images import kinds
from redoseg.images.photo import Photo, SoftMask
from redoseg.images.read import list_images, read_photo
from redoseg.inference.segment_files import segment_paths

SIDE = 16


def saved(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("1" if kind == "PBM" else "RGB", (SIDE, SIDE), 1 if kind == "PBM" else (200, 90, 30)).save(
        buffer, "PPM" if kind == "PBM" else kind
    )
    return buffer.getvalue()


READ = {
    "a.jfif": "JPEG", "a.JIF": "JPEG", "a.jfi": "JPEG", "a.mpo": "JPEG", "a.apng": "PNG", "a.pnm": "PPM",
    "a.pbm": "PBM", "no_suffix": "JPEG", "IMG.0042": "PNG", "download.php": "WEBP", "scan.bin": "TIFF",
    "photo.jpg_large": "JPEG", "old.bak": "BMP", "x.image": "GIF", "y": "AVIF", "z.data": "PPM",
}  # fmt: skip
NOT_READ = {
    "a.jp2": b"x", "a.heics": b"x", "a.exr": b"x", "a.psb": b"x", "a.J2K": b"x", "a.nrw": b"x", "a.hif": b"x",
    "no_suffix": b"\xff\x0a" + bytes(20), "film.bin": b"v/1\x01" + bytes(20), "b.dat": b"8BPS" + bytes(20),
}  # fmt: skip
PASSED_OVER = {
    "a.txt": b"P2 is a name", "a.json": b"{}", "README.md": b"# x", "a.csv": b"a,b", "Thumbs.db": b"\xd0\xcf\x11\xe0",
    "a.mp4": b"\0\0\0\x18ftypmp42" + bytes(9), "a.mov": b"\0\0\0\x14ftypqt  " + bytes(9), "page.html": b"<html></html>",
    "LICENSE": b"Apache", "a.xml": b"<?xml version='1.0'?>", "desktop.ini": b"[x]", "a.pdf": b"%PDF-1.4",
    "a.npy": b"\x93NUMPY", "empty": b"",
}  # fmt: skip


class Everything:
    """A segmenter that takes all of a picture for the object."""

    name, threads = "everything", 1

    def soft_mask(self, photo: Photo) -> tuple[SoftMask, float]:
        return SoftMask.of(np.ones(photo.size[::-1], np.float32)), 1.0


def by_segment(source: Path, out: Path) -> tuple[int, list[str]]:
    report = segment_paths(Everything(), source, out / "masks")  # type: ignore[arg-type]
    return report.done, [path.name for path, _ in report.failed]


def by_prepare(source: Path, out: Path) -> tuple[int, list[str]]:
    made = prepare("folder", source, out / "set", SIDE)
    return made.pictures, [name for name, _ in made.bad]


def by_train(source: Path, out: Path) -> tuple[int, list[str]]:
    made = open_data(source, SIDE)
    return len(made), [name for name, _ in made.bad]


def by_data(source: Path, out: Path) -> tuple[int, list[str]]:
    """What `data` says of the set that was prepared."""
    prepare("folder", source, out / "set", SIDE)
    made = open_prepared(out / "set")
    return len(made), [name for name, _ in made.bad]


def by_evaluate(source: Path, out: Path) -> tuple[int, list[str]]:
    """The pictures that `evaluate` and `compare` score, each with a mask beside it."""
    shutil.copytree(source, out / "labelled" / "images")
    (out / "labelled" / "masks").mkdir()
    for picture in source.iterdir():
        Image.new("L", (SIDE, SIDE), 255).save(out / "labelled" / "masks" / f"{picture.stem}.png")
    found = originals(out / "labelled")
    return len(found.items), [Path(name).name for name, _ in found.bad]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight plain pictures, as many as a set needs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kinds, "has_heif", lambda: False)
    (tmp_path / "in").mkdir()
    for i in range(8):
        (tmp_path / "in" / f"plain{i}.png").write_bytes(saved("PNG"))
    return tmp_path / "in"


VERBS = pytest.mark.parametrize("verb", [by_segment, by_prepare, by_train, by_data, by_evaluate])
Verb = Callable[[Path, Path], tuple[int, list[str]]]


@VERBS
@pytest.mark.parametrize("name", READ)
def test_read_by_suffix_or_by_content(name: str, verb: Verb, folder: Path, tmp_path: Path) -> None:
    (folder / name).write_bytes(saved(READ[name]))
    assert verb(folder, tmp_path) == (9, [])


@VERBS
@pytest.mark.parametrize("name", NOT_READ)
def test_pictures_that_are_not_read_are_named(name: str, verb: Verb, folder: Path, tmp_path: Path) -> None:
    (folder / name).write_bytes(NOT_READ[name])
    assert verb(folder, tmp_path) == (8, [name])


@VERBS
@pytest.mark.parametrize("name", PASSED_OVER)
def test_what_is_no_picture_is_passed_over(name: str, verb: Verb, folder: Path, tmp_path: Path) -> None:
    (folder / name).write_bytes(PASSED_OVER[name])
    broken = verb is by_segment and Path(name).suffix in (".mp4", ".mov")  # it alone takes films, and says so
    assert verb(folder, tmp_path) == (8, [name] if broken else [])


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture, which needs pillow-heif"),
        (b"\xff\x0a" + bytes(30), "a JPEG XL picture"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
        (b"\n<!DOCTYPE html><html>", "a web page (HTML)"),
        (b"<html><body>404", "a web page (HTML)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (b"%PDF-1.7", "a PDF document"),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", "an SVG drawing"),
        (b"8BPS" + bytes(20), "a Photoshop picture"),
        (b"/annex/objects/SHA256E-s1234--abc.jpg\n", "a git-annex pointer"),
        (b"../../.git/annex/objects/a/b/MD5E-s12--abc.jpg", "a git-annex pointer"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a text in XML"),
        (b'{"message": "not found"}', "a text in JSON"),
        (b'[{"error": 404}]', "a text in JSON"),
        (b"\0\0\0\x18ftypmp42" + bytes(40), "a film"),
        (b"RIFF\0\0\0\0AVI LIST", "a film"),
        (b"\0\0\x01\0\x01\0\x20\x20", "an icon"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(30), "a camera's raw picture"),
        (b"II*\0\x08\0\0\0" + bytes(30), "a TIFF file that is damaged or of a kind that is not read"),
    ],
)
def test_what_only_has_the_name_of_a_picture(
    content: bytes, seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redoseg.images.read.register_heif", lambda: False)
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_photo(tmp_path / "photo.jpg")
    assert seen in str(caught.value)
    assert "\n" not in str(caught.value)
    assert any(word in str(caught.value) for word in ("; export ", "; replace ", "; save "))


def test_heic_with_pillow_heif(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.new("RGB", (64, 48), (200, 90, 30)).save(tmp_path / "a.heic")
    assert [path.name for path in list_images(tmp_path).images] == ["a.heic"]
    assert read_photo(tmp_path / "a.heic").size == (64, 48)
