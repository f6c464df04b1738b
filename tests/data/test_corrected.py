"""Masks that a person repaired, and reviews with verdicts: what is read, and one line for each mistake."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redoseg.data import open_corrected, same_images
from redoseg.errors import DataError

HEADER = "picture,verdict,file,mask\n"


@pytest.fixture
def review(photos: Path, tmp_path: Path) -> Path:
    """A folder of results: a review of three pictures without a verdict."""
    for name in ("00", "01", "02"):
        mask = Image.open(photos / "masks" / f"{name}.png")
        mask.save(tmp_path / f"{name}.png")
    rows = [f"{name}.png,,{photos / 'images' / name}.png,{name}.png\n" for name in ("00", "01", "02")]
    (tmp_path / "review.csv").write_text(HEADER + "".join(rows))
    return tmp_path / "review.csv"


def decided(review: Path, *verdicts: str) -> Path:
    with open(review, newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [f"{r['picture']},{v},{r['file']},{r['mask']}\n" for r, v in zip(rows, verdicts, strict=True)]
    review.write_text(HEADER + "".join(lines))
    return review


def test_a_folder(photos: Path, tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for name in ("03", "05", "07"):
        (tmp_path / "images" / f"{name}.png").symlink_to(photos / "images" / f"{name}.png")
    for name in ("03", "07"):
        (tmp_path / "masks" / f"{name}.png").symlink_to(photos / "masks" / f"{name}.png")
    found = open_corrected(str(tmp_path), 32)
    assert (found.images.names, found.refused) == (("03", "07"), ())
    assert found.images.masks is not None
    for mask, name in zip(found.images.masks, ("03", "07"), strict=True):
        assert np.array_equal(mask, np.asarray(Image.open(photos / "masks" / f"{name}.png")))
    before = found.digest()
    assert before == open_corrected(str(tmp_path), 32).digest()
    (tmp_path / "masks" / "05.png").symlink_to(photos / "masks" / "05.png")
    assert before != open_corrected(str(tmp_path), 32).digest()


@pytest.mark.parametrize("form", ["as written", "of a spreadsheet"])
def test_a_review(form: str, review: Path, photos: Path) -> None:
    decided(review, "accept", "", "Refused")
    if form != "as written":
        review.write_bytes(b"\xef\xbb\xbf" + review.read_text().replace(",", ";").replace("\n", "\r\n").encode())
    found = open_corrected(str(review), 32)
    assert (found.images.names, found.refused) == (("00.png",), ("02.png",))
    assert found.images.masks is not None
    assert np.array_equal(found.images.masks[0], np.asarray(Image.open(photos / "masks" / "00.png")))
    assert np.array_equal(found.images.pixels[0], np.asarray(Image.open(photos / "images" / "00.png")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"review\.csv has no column picture; .*; make it again"),
        ("picture,confidence\na.png,0.5\n", r"review\.csv has no column verdict; "),
        (HEADER + "00.png,,x,y\n", r"review\.csv has no verdict; write accept or refuse into its column verdict$"),
        (HEADER + "00.png,maybe,x,y\n", r"line 2: the verdict is 'maybe', but must be accept, refuse or empty"),
        (HEADER + "\n00.png,accept,,\n", r"line 3: 00\.png is accepted, but its column file is empty"),
        (HEADER + "00.png,accept,01.png,\n", r"00\.png is accepted, but its column mask is empty; segment with --as m"),
        (HEADER + "00.png,accept,01.png,no.png\n", r"line 2 names .*no\.png, which does not exist; put it back"),
        (HEADER + "00.png,accept,review.csv,00.png\n", r"review\.csv: .*; repair it, or remove its line in the review"),
        (HEADER + "a,b,accept,x,y\n", r"line 2 has 5 values, but there are 4 columns; correct it"),
    ],
)
def test_a_wrong_table_is_one_line(text: str, said: str, review: Path) -> None:
    review.write_text(text)
    with pytest.raises(DataError, match=said) as error:
        open_corrected(str(review), 32)
    assert "\n" not in str(error.value)


def test_what_is_not_there_or_has_no_masks(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="which does not exist; choose a folder with images/ and masks/, or a review"):
        open_corrected(str(tmp_path / "no"), 32)
    with pytest.raises(DataError, match="has no masks"):
        open_corrected(str(photos / "images"), 32)
    (tmp_path / "images").symlink_to(photos / "images")
    (tmp_path / "masks").mkdir()
    for number in range(12):
        Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32) % 4).save(tmp_path / f"masks/{number:02}.png")
    with pytest.raises(DataError, match=r"set --refine\.corrected-values nonzero"):
        open_corrected(str(tmp_path), 32)
    assert len(open_corrected(str(tmp_path), 32, "1,2").images) == 12


def test_pictures_are_known_by_their_names() -> None:
    names = ("a/1", "b/1", "b/2.x", "3")
    assert same_images(names, ("1.jpg",)) == set()  # which of the two?
    assert same_images(names, ("b/1.jpg", "new/2.x.png", "3", "4")) == {1, 2, 3}
