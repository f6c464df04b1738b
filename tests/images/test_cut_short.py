"""JPEGs that end early: what is read with a note, what is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redoseg.data import open_data, prepare
from redoseg.errors import DataError
from redoseg.images import cut_short
from redoseg.images.photo import Photo, SoftMask
from redoseg.images.read import read_numbers, read_photo
from redoseg.inference.redraw import RedrawModel
from redoseg.inference.redraw_files import redraw_photo
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter
from redoseg.web.cuts import Cuts

KINDS = [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}, {"optimize": True, "quality": 30}]
WIDTH, HEIGHT = 240, 400


def jpeg(grey: bool = False, **settings: object) -> bytes:
    blocks = np.random.default_rng(0).integers(0, 255, (HEIGHT // 4, WIDTH // 4, 3)).astype(np.uint8)
    image = Image.fromarray(np.kron(blocks, np.ones((4, 4, 1), np.uint8)))
    buffer = io.BytesIO()
    image.convert("L" if grey else "RGB").save(buffer, "JPEG", **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("settings", KINDS, ids=str)
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("size", [None, 32])
def test_little_is_missing(settings: dict[str, object], grey: bool, size: int | None) -> None:
    content = jpeg(grey, **settings)
    whole = np.asarray(read_photo("x.jpg", size, content=content).rgb)
    assert read_photo("x.jpg", size, content=content).note == ""
    for lost in (1, 2, 40):
        photo = read_photo("x.jpg", size, content=content[:-lost])
        seen = np.asarray(photo.rgb)
        assert seen.shape == whole.shape
        different = int((seen != whole).any(axis=(1, 2)).sum())
        if lost <= 2:
            assert (different, photo.note) == (0, "ends early; no pixel is missing")
        elif size is None:
            rows = int(photo.note.removeprefix("ends early; pixels of its last ").split()[0])
            assert different <= rows <= 18


@pytest.mark.parametrize("settings", KINDS, ids=str)
@pytest.mark.parametrize("size", [None, 32])
def test_much_is_missing(settings: dict[str, object], size: int | None) -> None:
    content = jpeg(**settings)
    for lost in (0.15, 0.5, 0.8):
        with pytest.raises(DataError, match="truncated") as caught:
            read_photo("x.jpg", size, content=content[: int(len(content) * (1 - lost))])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_of_a_large_one_only_its_brightness_is_looked_at(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = jpeg(**settings)
    exact = {lost: read_photo("x.jpg", content=content[:-lost]) for lost in (2, 40, 100)}
    monkeypatch.setattr(cut_short, "LARGE", 1000)
    for lost, whole in exact.items():
        seen = read_photo("x.jpg", content=content[:-lost])
        assert np.array_equal(np.asarray(seen.rgb), np.asarray(whole.rgb))
        assert abs(rows_of(seen) - rows_of(whole)) <= 9
    with pytest.raises(DataError, match="truncated"):
        read_photo("x.jpg", content=content[: len(content) // 2])


@pytest.mark.every(3)
@pytest.mark.parametrize("settings", [*KINDS, {"restart_marker_blocks": 2}, {"quality": 100}], ids=str)
@pytest.mark.parametrize("form", ["RGB", "L", "CMYK", "MPO"])
def test_where_it_ends_makes_no_pixel_seem_to_be_there(settings: dict[str, object], form: str) -> None:
    """A file may end within a marker, of which 255 is the first half, and just before one."""
    blocks = np.random.default_rng(1).integers(0, 255, (20, 15, 3)).astype(np.uint8)
    image = Image.fromarray(np.kron(blocks, np.ones((4, 4, 1), np.uint8)))
    buffer = io.BytesIO()
    image.convert("RGB" if form == "MPO" else form).save(buffer, "MPO" if form == "MPO" else "JPEG", **settings)
    content = buffer.getvalue()
    whole = np.asarray(read_photo("x.jpg", content=content).rgb)
    begin = content.rindex(b"\xff\xda")
    ends = [at + more for at in range(begin, len(content)) if content[at] == 255 for more in (0, 1, 2)]
    for end in ends[:: 1 + len(ends) // 60]:
        try:
            photo = read_photo("x.jpg", content=content[:end])
        except DataError:
            continue
        different = int((np.asarray(photo.rgb) != whole).any(axis=(1, 2)).sum())
        assert different <= (rows_of(photo) if photo.note else 0) + 1, end


def rows_of(photo: Photo) -> int:
    """How many rows are not whole, as its note says."""
    return 0 if "no pixel" in photo.note else int("".join(filter(str.isdigit, photo.note)))


def test_plain_ground_does_not_count_as_missing() -> None:
    """The last rows of a product's photograph look like what libjpeg fills in."""
    image = Image.new("RGB", (WIDTH, HEIGHT), (255, 255, 255))
    image.paste((200, 30, 60), (80, 40, 160, 120))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    photo = read_photo("x.jpg", content=buffer.getvalue()[:-2])
    assert photo.note == "ends early; no pixel is missing"


def test_numbers_of_a_mask_are_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "mask.jpg"
    path.write_bytes(jpeg(True)[:-2])
    assert read_numbers(path).size == (WIDTH, HEIGHT)
    path.write_bytes(jpeg(True)[:-40])
    with pytest.raises(DataError, match="truncated"):
        read_numbers(path)


class Everything:
    """A segmenter that takes all of a picture for the object."""

    name, threads = "everything", 1

    def soft_mask(self, photo: Photo) -> tuple[SoftMask, float]:
        return SoftMask.of(np.ones(photo.size[::-1], np.float32)), 1.0


def by_segment(source: Path, out: Path) -> tuple[int, tuple[str, ...]]:
    report = segment_paths(Everything(), source, out / "masks")  # type: ignore[arg-type]
    assert not report.failed
    return report.done, report.notes


def by_segment_of_one(source: Path, out: Path) -> tuple[int, tuple[str, ...]]:
    report = segment_paths(Everything(), source / "cut0.jpg", out)  # type: ignore[arg-type]
    return report.done + 7, report.notes


def by_prepare(source: Path, out: Path) -> tuple[int, tuple[str, ...]]:
    made = prepare("folder", source, out / "set", 16)
    assert not made.bad
    assert prepare("folder", source, out / "set", 16).notes == made.notes
    return made.pictures, made.notes


def by_data(source: Path, _out: Path) -> tuple[int, tuple[str, ...]]:
    made = open_data(source, 16)
    assert not made.bad
    return len(made), made.notes


def by_redraw(source: Path, out: Path) -> tuple[int, tuple[str, ...]]:
    own = redraw_photo(RedrawModel("flowers"), source / "cut0.jpg", out / "own", count=1)
    like = redraw_photo(RedrawModel("flowers"), source / "whole7.jpg", out, count=1, like=source / "cut0.jpg")
    assert own.notes == like.notes
    return 8, like.notes


def by_library(source: Path, _out: Path) -> tuple[int, tuple[str, ...]]:
    model, path = Segmenter("flowers"), source / "cut0.jpg"
    found = model.predict([path, path.read_bytes(), source / "whole7.jpg"])
    assert found[0].note == found[1].note != found[2].note == ""
    return 8, (f"{path} {found[0].note}",)


def by_page(source: Path, _out: Path) -> tuple[int, tuple[str, ...]]:
    words = Cuts(Everything(), 10**6).previews(source / "cut0.jpg", 0.5)[1]  # type: ignore[arg-type]
    return 8, (words.replace("The photograph", "cut0.jpg"),)


def by_quantize(source: Path, out: Path) -> tuple[int, tuple[str, ...]]:
    quantization = pytest.importorskip("redoseg.inference.quantize")
    made = quantization.quantize("flowers", source, out / "int8.onnx")
    return made.pictures, made.notes


OF_ONE = (by_segment_of_one, by_redraw, by_library, by_page)


@pytest.mark.every(3)
@pytest.mark.parametrize("verb", [by_segment, by_prepare, by_data, by_quantize, *OF_ONE])
@pytest.mark.parametrize("cut", [1, 3])
def test_every_verb_says_it(
    verb: Callable[[Path, Path], tuple[int, tuple[str, ...]]],
    cut: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "in"
    source.mkdir()
    for i in range(8):
        (source / f"{'cut' if i < cut else 'whole'}{i}.jpg").write_bytes(jpeg()[: -40 if i < cut else None])
    pictures, notes = verb(source, tmp_path / "out")
    assert pictures == 8
    assert [note for note in notes if "cut0.jpg" in note and "ends early; pixels of its last" in note]
    if cut > 1 and verb not in OF_ONE:
        assert any(note.startswith("3 pictures end early") for note in notes)
