"""The segmenter on pictures of any size; its stand-in model finds what is bright."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bright import METADATA, SIZE, bright_square, write_model
from PIL import Image

from redoseg.errors import DataError, MissingError, ModelError
from redoseg.inference.segmenter import Segmenter


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_model(tmp_path / "run" / "mask.onnx").parent


@pytest.fixture
def segmenter(run: Path) -> Segmenter:
    return Segmenter(run, threads=1)


def test_every_way_to_name_a_model(run: Path) -> None:
    for model in (run, str(run), run / "mask.onnx"):
        segmenter = Segmenter(model, threads=1)
        assert (segmenter.name, segmenter.size, segmenter.regions) == ("bright", SIZE, 2)
        assert segmenter.object_region == 1


def test_mask_has_the_pictures_own_size(segmenter: Segmenter, tmp_path: Path) -> None:
    picture = bright_square(130, 90)
    picture.save(tmp_path / "x.png")
    expected = np.asarray(picture)[..., 0] > 0
    for given in (picture, np.asarray(picture), tmp_path / "x.png", str(tmp_path / "x.png")):
        mask = segmenter(given)
        assert (mask.shape, mask.dtype) == ((90, 130), np.bool_)
        assert (mask == expected).mean() > 0.95
    soft = segmenter.soft(picture)
    assert (soft.shape, soft.dtype) == ((90, 130), np.float32)
    assert np.array_equal(soft > 0.5, segmenter(picture))
    assert np.array_equal(soft, segmenter.predict_proba(picture))
    assert segmenter(Image.new("RGB", (1, 3), "white")).all()
    assert segmenter(np.full((5, 7), 255, np.uint8)).all()


def test_a_rotated_photo_gets_an_upright_mask(segmenter: Segmenter, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    bright_square(96, 64).save(tmp_path / "x.jpg", exif=exif)
    assert segmenter(tmp_path / "x.jpg").shape == (96, 64)


def test_range_and_region_come_from_the_file(tmp_path: Path) -> None:
    other = write_model(tmp_path / "m.onnx", METADATA | {"object_region": "0", "picture_range": "0 1"})
    segmenter = Segmenter(other, threads=1)
    black, white = (segmenter.soft(Image.new("RGB", (9, 9), c)).mean() for c in ("black", "white"))
    assert black == pytest.approx(0.5)
    assert white == pytest.approx(0)


def test_batch_is_the_same_as_one_by_one(segmenter: Segmenter) -> None:
    images = np.random.default_rng(0).integers(0, 256, (70, SIZE, SIZE, 3)).astype(np.uint8)
    soft = segmenter.batch(images)
    assert (soft.shape, soft.dtype) == ((70, 2, SIZE, SIZE), np.float32)
    assert np.allclose(soft.sum(1), 1)
    for i in (0, 31, 32, 69):
        assert np.allclose(soft[i, 1], segmenter.soft(images[i]), atol=1e-6)
    with pytest.raises(DataError, match=r"uint8 \(70, 16, 16\), but must be uint8 \(N, H, W, 3\)"):
        segmenter.batch(images[..., 0])


def test_batch_of_another_size_is_at_that_size(segmenter: Segmenter) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 24, 3)).astype(np.uint8)
    soft = segmenter.batch(images)
    assert soft.shape == (3, 2, 40, 24)
    assert np.allclose(soft[2, 1], segmenter.soft(images[2]), atol=1e-6)


def test_an_array_of_another_kind(segmenter: Segmenter) -> None:
    with pytest.raises(DataError, match=r"image is int64 \(4, 4, 3\), but must be uint8, or floats from 0 to 1"):
        segmenter(np.zeros((4, 4, 3), np.int64))
    with pytest.raises(DataError, match=r"image is uint8 \(5, 4, 5\), but must be \(H, W\), \(H, W, 3\) or"):
        segmenter(np.zeros((5, 4, 5), np.uint8))


def test_what_is_no_picture_is_one_line(segmenter: Segmenter) -> None:
    for wrong in (None, [None], 3):
        with pytest.raises(DataError, match="must be a path, bytes, an open file, a PIL image, an array or a tensor"):
            segmenter(wrong)  # type: ignore[arg-type]
        with pytest.raises(DataError, match="must be uint8 \\(N, H, W, 3\\)"):
            segmenter.batch(wrong)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="the number of threads is 0, but must be 1 or more"):
        Segmenter("flowers", threads=0)
    with pytest.raises(ModelError, match="correct the path or name"):
        Segmenter("~no-such-user/model")
    with pytest.raises(ModelError, match="edges 'sharp' are not known: choose one of guided, plain, grabcut"):
        Segmenter("flowers", edges="sharp")  # type: ignore[arg-type]


def dim_square() -> Image.Image:
    """A red square, half of it lit, on a green ground: the stand-in finds the lit half."""
    pixels = np.full((64, 64, 3), (20, 110, 40), np.uint8)
    pixels[16:48, 16:48] = (180, 10, 10)
    pixels[16:48, 16:32] = (255, 120, 120)
    pixels = pixels + np.random.default_rng(0).integers(0, 10, pixels.shape)
    return Image.fromarray(pixels.astype(np.uint8))


def test_edges_by_grabcut(segmenter: Segmenter, tmp_path: Path) -> None:
    cutting = Segmenter(write_model(tmp_path / "m" / "mask.onnx"), edges="grabcut")
    picture = bright_square(96, 64)
    found = cutting.predict(picture)
    assert (found.soft > 0.5).sum() == (np.asarray(picture)[..., 0] > 0).sum()
    assert found.confidence == segmenter.predict(picture).confidence  # the network's, whatever the edges
    images = np.stack([np.asarray(dim_square()), np.asarray(bright_square(64, 64))])
    soft = cutting.batch(images)
    assert np.allclose(soft.sum(1), 1)
    for image, masks in zip(images, soft, strict=True):
        assert np.array_equal(masks[1], cutting.soft(image))
    assert np.array_equal(cutting.predict(picture, edges="guided").soft, segmenter.soft(picture))
    assert np.array_equal(segmenter.soft(picture, edges="grabcut"), cutting.soft(picture))
    assert np.array_equal(segmenter(picture, edges="grabcut"), cutting(picture))
    assert np.array_equal(segmenter.batch(images, edges="grabcut"), soft)
    assert not np.array_equal(segmenter.batch(images), soft)
    clear = picture.convert("RGBA")
    clear.putalpha(0)  # what is transparent is no object, however it is cut
    assert segmenter.predict(clear, edges="grabcut").soft.max() == 0


def test_edges_by_grabcut_are_for_two_regions_and_need_opencv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three = write_model(tmp_path / "three.onnx", METADATA | {"regions": "3"}, more=1)
    with pytest.raises(ModelError, match=r"has 3 regions, but grabcut edges need two: choose guided"):
        Segmenter(three, edges="grabcut")
    with pytest.raises(ModelError, match="grabcut edges need two"):
        Segmenter(three).soft(bright_square(), edges="grabcut")
    with pytest.raises(ModelError, match="edges 'sharp' are not known"):
        Segmenter(three).batch(np.zeros((1, 8, 8, 3), np.uint8), edges="sharp")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingError, match=r'OpenCV, which is not installed; run: pip install "redoseg\[grabcut\]"'):
        Segmenter(write_model(tmp_path / "two.onnx"), edges="grabcut")
    Segmenter(tmp_path / "two.onnx")


def test_confidence(segmenter: Segmenter) -> None:
    """The stand-in's mask is the brightness: entropy by hand."""
    for grey, expected in ((0, 1.0), (255, 1.0), (64, 1 - 0.8128)):
        assert segmenter.predict(Image.new("RGB", (30, 20), (grey,) * 3)).confidence == pytest.approx(
            expected, abs=2e-3
        )
    assert segmenter.predict(Image.new("RGB", (30, 20), (127,) * 3)).confidence == pytest.approx(0, abs=1e-3)


def test_what_is_transparent_is_no_object(segmenter: Segmenter, tmp_path: Path) -> None:
    picture = bright_square(96, 64).convert("RGBA")
    alpha = np.zeros((64, 96), np.uint8)
    alpha[:, 48:] = 255
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "half.png")
    for given in (picture, np.asarray(picture), tmp_path / "half.png"):
        mask = segmenter(given)
        assert not mask[:, :48].any()  # white there, which the network takes for the object
        assert mask[20:44, 50:70].all()


def test_what_is_no_model(tmp_path: Path, run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def refused(model: str | Path) -> str:
        with pytest.raises(ModelError) as caught:
            Segmenter(model)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    accepted = "choose a run folder, a model folder, an .onnx file or weights that come with redoseg ("
    assert f"model no-such-model does not exist: {accepted}" in refused("no-such-model")
    (tmp_path / "empty").mkdir()
    assert f"has no mask.onnx: {accepted}" in refused(tmp_path / "empty")
    text = tmp_path / "text.onnx"
    text.write_text("not a model")
    assert refused(text) == f"{text} is not an ONNX model: choose a run folder, a model folder or an .onnx file"
    cut = tmp_path / "cut.onnx"
    cut.write_bytes((run / "mask.onnx").read_bytes()[:200])
    assert "is not an ONNX model" in refused(cut)
    nothing = tmp_path / "nothing.onnx"
    nothing.touch()
    assert "is not an ONNX model" in refused(nothing)
    for broken in (
        {},
        METADATA | {"size": "big"},
        METADATA | {"picture_range": "0 255"},
        METADATA | {"object_region": "2"},
    ):
        assert "is an ONNX file, but not one of redoseg" in refused(write_model(tmp_path / "m.onnx", broken))
    other = write_model(tmp_path / "other.onnx", output="logits")
    assert "is an ONNX file, but not one of redoseg" in refused(other)
    newer = write_model(tmp_path / "newer.onnx", METADATA | {"redoseg_format": "2"})
    assert "has format 2, but this redoseg reads format 1: use the redoseg that wrote it" in refused(newer)
    assert capfd.readouterr() == ("", "")


def test_segmenting_imports_neither_torch_nor_training() -> None:
    code = (
        "import sys, redoseg.inference.segmenter, redoseg.inference.segment_files;"
        "print([m for m in sys.modules if m.startswith(('torch', 'redoseg.train', 'redoseg.data', 'scipy'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
