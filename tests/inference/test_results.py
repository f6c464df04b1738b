"""Other grounds, squares, parts, JPEG and WebP: what a cut-out can be, besides a transparent PNG of its photograph."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bright import tree, write_model
from PIL import Image, ImageCms

from redoseg.cli.main import run_command
from redoseg.errors import DataError, RedosegError
from redoseg.files import write_atomic
from redoseg.images.backdrop import ground_of
from redoseg.images.packing import packed
from redoseg.images.photo import SoftMask, to_photo
from redoseg.images.read import list_images
from redoseg.inference import results
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter
from redoseg.own_results import is_result, key_of

LARGE_BOX, SMALL_BOX = (20, 30, 80, 120), (130, 60, 180, 100)  # left, top, right, bottom


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return Segmenter(write_model(tmp_path / "run" / "mask.onnx").parent, threads=1)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Two bright boxes on a dark red ground."""
    image = Image.new("RGB", (200, 160), (40, 0, 0))
    for box in (LARGE_BOX, SMALL_BOX):
        image.paste((250, 255, 245), box)
    image.save(tmp_path / "two.png")
    return tmp_path / "two.png"


def result(segmenter: Segmenter, photo: Path, name: str = "out.png", **how: Any) -> Image.Image:
    out = photo.parent / name
    segment_paths(segmenter, photo, out, overwrite=True, **({"kind": "cutout"} | how))
    assert is_result(out)
    with Image.open(out) as image:
        image.load()
    return image


def pixel(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


def near(a: tuple[int, ...], b: tuple[int, ...], most: int = 12) -> bool:
    return max(abs(p - q) for p, q in zip(a, b, strict=True)) <= most


def test_a_colour_behind(segmenter: Segmenter, photo: Path) -> None:
    image = result(segmenter, photo, ground="#ff8800")
    assert (image.mode, image.size) == ("RGB", (200, 160))
    assert pixel(image, 5, 5) == (255, 136, 0)
    assert pixel(image, 50, 70) == (250, 255, 245)
    cut = result(segmenter, photo)
    over = Image.new("RGBA", cut.size, (255, 136, 0, 255))
    over.alpha_composite(cut)
    assert np.abs(np.asarray(over.convert("RGB"), int) - np.asarray(image, int)).max() <= 2


def test_a_picture_behind_covers_the_result(segmenter: Segmenter, photo: Path) -> None:
    halves = Image.new("RGB", (400, 100), (0, 0, 255))
    halves.paste((0, 200, 0), (200, 0, 400, 100))
    halves.save(photo.parent / "halves.png")
    image = result(segmenter, photo, ground=str(photo.parent / "halves.png"))
    assert near(pixel(image, 5, 5), (0, 0, 255))
    assert near(pixel(image, 195, 5), (0, 200, 0))
    assert pixel(image, 50, 70) == (250, 255, 245)
    with pytest.raises(RedosegError, match="is a picture to segment"):
        segment_paths(segmenter, photo, photo.parent / "halves.png", kind="cutout", overwrite=True,
                      ground=str(photo.parent / "halves.png"))  # fmt: skip


def test_the_own_ground_blurred_has_nothing_of_the_object(segmenter: Segmenter, photo: Path) -> None:
    image = result(segmenter, photo, ground="blur")
    assert near(pixel(image, 5, 5), (40, 0, 0))
    assert near(pixel(image, 105, 75), (40, 0, 0), 30)  # between both
    assert pixel(image, 50, 70) == (250, 255, 245)


def test_a_ground_is_srgb_and_so_is_the_object(segmenter: Segmenter, photo: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with Image.open(photo) as image:
        image.save(photo, icc_profile=profile)
    assert "icc_profile" not in result(segmenter, photo, ground="white").info


def test_a_large_picture_is_the_same_in_bands(
    segmenter: Segmenter, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grounds = ("#102030", "blur", str(photo))
    whole = [np.asarray(result(segmenter, photo, ground=ground)) for ground in grounds]
    monkeypatch.setattr(results, "LARGE", 100)
    monkeypatch.setattr(results, "PART", 2000)
    for ground, before in zip(grounds, whole, strict=True):
        bands = np.asarray(result(segmenter, photo, ground=ground), int)
        assert np.abs(bands - before).mean() < 1


def test_squares(segmenter: Segmenter, photo: Path) -> None:
    image = result(segmenter, photo, square=300, margin=0.1, ground="white")
    assert (image.mode, image.size) == ("RGB", (300, 300))
    assert pixel(image, 2, 2) == (255, 255, 255)
    image = result(segmenter, photo, square=100)
    assert (image.mode, image.size) == ("RGBA", (100, 100))
    columns = np.flatnonzero((np.asarray(image)[..., 3] > 127).any(0))
    assert columns[0] == pytest.approx(2, abs=1.5)  # a margin of 2 % of the object's longer side
    assert columns[-1] == pytest.approx(97, abs=1.5)
    segment_paths(segmenter, photo, photo.parent / "sq", kind="cutout", square=64, parts=True)
    for path in tree(photo.parent / "sq"):
        with Image.open(photo.parent / "sq" / path) as part:
            assert part.size == (64, 64)


def test_a_margin_is_a_share_of_the_longer_side(segmenter: Segmenter, photo: Path) -> None:
    tight = result(segmenter, photo, crop=True, margin=0.0, kind="mask")
    wide = result(segmenter, photo, crop=True, margin=0.1, kind="mask")
    assert wide.width == tight.width + 2 * round(0.1 * tight.width)
    assert np.asarray(tight).any(0).all() or np.asarray(tight).any(1).all()


def test_parts(segmenter: Segmenter, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment_paths(segmenter, photo, out, kind=["mask", "cutout", "coco", "yolo"], parts=True, crop=True)
    assert tree(out) == [
        ".redoseg-keys", "coco/coco.json", "cutout/two-1.png", "cutout/two-2.png", "mask/two-1.png", "mask/two-2.png",
        "yolo/data.yaml", "yolo/labels/two.txt",
    ]  # fmt: skip
    annotations = json.loads((out / "coco/coco.json").read_bytes())["annotations"]
    assert [annotation["id"] for annotation in annotations] == [1, 2]
    areas = []
    for number, annotation in enumerate(annotations, 1):
        with Image.open(out / f"mask/two-{number}.png") as mask:
            areas.append(int((np.asarray(mask) > 0).sum()))
        assert areas[-1] == annotation["area"]
        assert near(tuple(annotation["bbox"][:2]), (LARGE_BOX, SMALL_BOX)[number - 1][:2], 10)
    assert areas[0] > areas[1]
    assert len((out / "yolo/labels/two.txt").read_text().splitlines()) == 2
    whole = np.asarray(result(segmenter, photo, kind="mask")) > 0
    segment_paths(segmenter, photo, tmp_path / "full", parts=True)
    each = [np.asarray(Image.open(tmp_path / "full" / name)) > 0 for name in tree(tmp_path / "full")]
    assert np.array_equal(each[0] | each[1], whole)
    assert not (each[0] & each[1]).any()


def test_parts_continue(segmenter: Segmenter, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment_paths(segmenter, photo, out, parts=True)
    assert segment_paths(segmenter, photo, out, parts=True, skip_existing=True).skipped == 1
    (out / "two-1.png").unlink()  # the last one that is written
    (out / "two-2.png").unlink()
    assert segment_paths(segmenter, photo, out, parts=True, skip_existing=True).done == 1
    (out / "two-1.png").unlink()
    with pytest.raises(DataError, match=r"two-2\.png exists"):
        segment_paths(segmenter, photo, out, parts=True)
    assert segment_paths(segmenter, photo, out, skip_existing=True).done == 1  # without parts it is another file


@pytest.mark.parametrize("name", ["x.jpg", "x.jpeg", "x.webp"])
def test_packed_with_loss(name: str, segmenter: Segmenter, photo: Path, tmp_path: Path) -> None:
    plain = result(segmenter, photo, ground="white")
    good = result(segmenter, photo, name, ground="white", quality=95)
    assert good.format == ("WEBP" if name.endswith("webp") else "JPEG")
    assert np.abs(np.asarray(plain, int) - np.asarray(good.convert("RGB"), int)).mean() < 3
    large = (photo.parent / name).stat().st_size
    result(segmenter, photo, name, ground="white", quality=5)
    assert (photo.parent / name).stat().st_size < large
    assert len(key_of(photo.parent / name) or "") == 32
    report = segment_paths(
        segmenter, photo, photo.parent / name, kind="cutout", ground="white", quality=5, skip_existing=True
    )
    assert report.skipped == 1
    (tmp_path / "alone").mkdir()
    (photo.parent / name).rename(tmp_path / "alone" / name)
    with pytest.raises(DataError, match="except 1 that redoseg made"):
        list_images(tmp_path / "alone")


def test_webp_is_transparent(segmenter: Segmenter, photo: Path) -> None:
    image = result(segmenter, photo, "x.webp")
    assert image.mode == "RGBA"
    assert pixel(image, 5, 5)[3] == 0
    assert pixel(image, 50, 70)[3] == 255
    segment_paths(segmenter, photo, photo.parent / "out", kind="cutout", image_format="webp")
    assert tree(photo.parent / "out") == ["two.webp"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("size", [(40, 30), (401, 301)])
def test_the_mark_changes_no_pixel_of_a_webp(mode: str, size: tuple[int, int], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], len(mode))).astype(np.uint8)
    content = packed(Image.fromarray(noise), "webp", 80)
    write_atomic(tmp_path / "x.webp", content, "0" * 32)
    with Image.open(tmp_path / "x.webp") as marked, Image.open(io.BytesIO(content)) as plain:
        assert np.array_equal(np.asarray(marked), np.asarray(plain))
    assert is_result(tmp_path / "x.webp")
    assert key_of(tmp_path / "x.webp") == "0" * 32


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--ground whit --as cutout", "the ground is 'whit', but must be a colour such as white or #ff8800, blur, or"),
        ("--ground #ff880080 --as cutout", "the ground is '#ff880080', but must be a colour"),
        ("--ground white", "--ground is for cut-outs, but the kind is mask; add --as cutout"),
        ("--ground white --as cutout --keep-hidden", "which --ground covers; remove one of them"),
        ("--square 500", "--square is for cut-outs, but the kind is mask; add --as cutout"),
        ("--square 5 --as cutout", "--square is 5, but must be from 16 to 4096 pixels"),
        ("--margin 0.1", "--margin is for crops and squares; add --crop or --square"),
        ("--margin 3 --crop", "--margin is 3, but must be from 0 to 1"),
        ("--quality 80 --as cutout", "--quality is for JPEG and WebP, but PNG loses nothing"),
        ("--quality 101 --as cutout --format webp", "--quality is 101, but must be from 1 to 100"),
        ("--format jpg --as cutout", "JPEG has no transparency, which cut-outs need; add --ground white"),
        ("--format webp", "--format webp is for cut-outs and overlays, but the kind is mask"),
        ("--format webp --as yolo", "--format webp is for cut-outs and overlays, but the kind is yolo"),
        ("--parts --as soft", "--parts cannot be combined with --as soft"),
        ("--parts -o -", "-o - takes one result, but --parts makes several"),
        ("--as overlay -o x.gif", "the result is a .png file; choose a name that ends in .png"),
    ],
)
def test_what_cannot_be_combined(
    options: str, said: str, segmenter: Segmenter, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photo.parent / "here").mkdir()
    monkeypatch.chdir(photo.parent / "here")
    more = [] if " -o " in options else ["-o", "out"]
    with pytest.raises(RedosegError) as caught:
        run_command(["segment", str(photo.parent / "run"), str(photo), *options.split(), *more])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert tree(Path()) == []


def test_too_large_for_a_format(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = to_photo(Image.new("RGB", (16400, 2), (255, 255, 255)))
    soft = SoftMask.of(np.ones((2, 16400), np.float32))
    with pytest.raises(DataError, match="the result is 16,400 pixels long, but WebP has at most 16,383; choose png"):
        results.file_of(wide, soft, "overlay", results.Look(form="webp"))
    monkeypatch.setattr("redoseg.images.packing._MOST", 1000)
    with pytest.raises(DataError, match="million pixels, but jpg is written up to"):
        results.file_of(wide, soft, "overlay", results.Look(form="jpg"))


def test_other_settings_differ(segmenter: Segmenter, photo: Path) -> None:
    how: dict[str, Any] = {"kind": "cutout", "ground": "white"}
    segment_paths(segmenter, photo, photo.parent / "out", **how)
    assert segment_paths(segmenter, photo, photo.parent / "out", skip_existing=True, **how).skipped == 1
    assert segment_paths(segmenter, photo, photo.parent / "out", skip_existing=True, **how | {"ground": "#fff"}).skipped
    for other in (
        {"ground": "black"},
        {"ground": "blur"},
        {"square": 32},
        {"crop": True, "margin": 0.5},
        {"ground": ""},
    ):
        report = segment_paths(segmenter, photo, photo.parent / "out", skip_existing=True, **how | other)
        assert report.differing == (photo,), other


def test_colours_by_name() -> None:
    ground = ground_of("white")
    assert ground is not None
    assert ground.colour == (255, 255, 255)
    assert ground_of("") is None
