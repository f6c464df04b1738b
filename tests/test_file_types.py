"""What kinds of files are read from a folder, which are named as not read, and which are passed over."""

from __future__ import annotations

import io
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redoseg.data import open_data, prepare
from redoseg.data.open import originals
from redoseg.data.prepared import open_prepared
from redoseg.errors import DataError, FormatError
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


def odd_jpeg(kind: int, bits: int = 8) -> bytes:
    content = bytearray(saved("JPEG"))
    at = content.index(b"\xff\xc0")
    content[at + 1], content[at + 4] = kind, bits
    return bytes(content)


def raw(order: str, *folders: dict[int, int], inner: Sequence[dict[int, int]] = (), version: bool = False) -> bytes:
    """A TIFF with a thumbnail as camera's raw pictures have it, and the headers of what else it has.

    Folders of numbers, each tag with its value: one after the other, and those that the first has within.
    """
    pixels = bytes(range(3 * 64))
    first = {256: 8, 257: 8, 258: 8, 259: 1, 262: 2, 277: 3, 278: 8, 279: len(pixels), 273: 8}
    first |= {50706: 0x01040000} if version else {}
    content = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HL", 42, 0) + pixels)

    def add(folder: dict[int, int], following: int) -> int:
        at = len(content)
        content.extend(struct.pack(order + "H", len(folder)))
        for tag, value in sorted(folder.items()):
            packed = struct.pack(order + "HH", value, 0) if tag == 262 else struct.pack(order + "L", value)
            content.extend(struct.pack(order + "HHL", tag, 3 if tag == 262 else 4, 1) + packed)
        content.extend(struct.pack(order + "L", following))
        return at

    inside = [add(folder, 0) for folder in inner]
    following = 0
    for folder in reversed(folders):
        following = add(folder, following)
    if inside:
        first[330] = inside[0] if len(inside) == 1 else len(content)
        content.extend(b"" if len(inside) == 1 else struct.pack(f"{order}{len(inside)}L", *inside))
    at = add(first, following)
    if len(inside) > 1:
        where = content.index(struct.pack(order + "HHL", 330, 4, 1), at)
        content[where + 4 : where + 8] = struct.pack(order + "L", len(inside))
    content[4:8] = struct.pack(order + "L", at)
    return bytes(content)


MOSAIC, LINEAR, PREVIEW = {262: 32803, 256: 64}, {262: 34892, 256: 64}, {262: 6, 256: 16}
RAW = {
    "DNG": raw("<", version=True),
    "DNG, of values without a mosaic": raw(">", inner=[LINEAR], version=True),
    "NEF": raw(">", inner=[PREVIEW, MOSAIC]),
    "ARW": raw("<", inner=[MOSAIC]),
    "ERF": raw("<", MOSAIC),
    "PEF": raw(">", PREVIEW, MOSAIC),
    "of values alone": raw("<", PREVIEW, inner=[PREVIEW, PREVIEW, LINEAR]),
}

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


@pytest.mark.every(3)
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


@pytest.mark.every(3)
@VERBS
@pytest.mark.parametrize("name", PASSED_OVER)
def test_what_is_no_picture_is_passed_over(name: str, verb: Verb, folder: Path, tmp_path: Path) -> None:
    (folder / name).write_bytes(PASSED_OVER[name])
    broken = verb is by_segment and Path(name).suffix in (".mp4", ".mov")  # it alone takes films, and prints that
    assert verb(folder, tmp_path) == (8, [name] if broken else [])


@pytest.mark.every(3)
@pytest.mark.parametrize("kind", RAW)
@pytest.mark.parametrize("name", ["a.dng", "a.tif", "a.jpg", "a"])
def test_of_a_camera_raw_picture_no_thumbnail_is_read(kind: str, name: str, folder: Path, tmp_path: Path) -> None:
    """Not alone, and not in a folder, where it is named."""
    (folder / name).write_bytes(RAW[kind])
    with pytest.raises(FormatError, match="a camera's raw picture, which is not read; export it as JPEG, PNG or WebP"):
        read_photo(folder / name)
    assert by_prepare(folder, tmp_path) == (8, [name])


def test_a_tiff_of_previews_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(raw("<", PREVIEW, inner=[PREVIEW, PREVIEW]))
    assert read_photo(tmp_path / "a.tif").size == (8, 8)


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF"])
def test_a_file_that_is_cut_in_its_header_is_named_as_what_it_is(kind: str) -> None:
    content, name = saved(kind), {"MPO": "JPEG", "WEBP": "WebP"}.get(kind, kind)
    for length in range(12, 40):
        with pytest.raises(DataError) as caught:
            read_photo("x.jpg", content=content[:length])
        assert f"{name} file that is damaged" in str(caught.value) or "cannot be read (" in str(caught.value)
        assert "\n" not in str(caught.value)


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
        (b"\0MRM" + bytes(30), "a camera's raw picture"),
        (b"II\x1a\0\0\0HEAPCCDR", "a camera's raw picture"),
        (b"MMOR\0\0\0\x08" + bytes(30), "a camera's raw picture"),
        (b"MM\0*\0\0\0\x08MMMMRaw" + bytes(30), "a camera's raw picture"),
        (b"\0\0\x01\xba" + bytes(30), "a film"),
        ((b"\x47" + bytes(187)) * 3, "a film"),
        (b"OggS" + bytes(30), "a film"),
        (bytes(128) + b"DICM", "a DICOM picture"),
        (b"SIMPLE  =                    T", "a FITS picture"),
        (b"P7\nWIDTH 4\nHEIGHT 4\n", "a PAM or PFM picture"),
        (b"\x93NUMPY\1\0", "an array of numbers"),
        (b"\x28\xb5\x2f\xfd" + bytes(30), "an archive"),
        (b"\0\x05\x16\x07" + bytes(30), "a note of macOS"),
        (bytes(4000), "nothing but zeros"),
        (b"\x89P", "the first 2 bytes of a picture"),
        ("<html>\n404".encode("utf-16"), "a web page (HTML)"),
        (b"data:image/png;base64,iVBORw0KGgo", "a text of a picture in base64"),
        (b"/9j/4AAQSkZJRgABAQAAAQABAAD", "a text of a picture in base64"),
        (b'{\n  "error": 404\n}', "a text in JSON"),
        (b"\0\0\x02\0" + bytes(8) + b"\x10\0\x10\0", "not a picture of a known format"),  # TGA, once an icon
        (odd_jpeg(0xC3), "a lossless JPEG"),
        (odd_jpeg(0xC5), "a hierarchical JPEG"),
        (odd_jpeg(0xF7), "a JPEG-LS picture"),
        (odd_jpeg(0xC1, bits=12), "a JPEG with 12 bits a channel"),
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
    assert any(
        f"; {word} " in str(caught.value) for word in ("export", "replace", "save", "unpack", "decode", "remove")
    ) or ("JPEG" in seen and "which is not read); replace or remove it" in str(caught.value))


def test_heic_with_pillow_heif(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.new("RGB", (64, 48), (200, 90, 30)).save(tmp_path / "a.heic")
    assert [path.name for path in list_images(tmp_path).images] == ["a.heic"]
    assert read_photo(tmp_path / "a.heic").size == (64, 48)
