"""Which values of masks are the object: decided for the whole set, said by the user, and never silently wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from redoseg.cli.main import run_command
from redoseg.data import labelled_images, open_data, originals, prepare
from redoseg.data.mask_values import checked_values
from redoseg.errors import DataError
from tests.bright import write_model

Save = Callable[[Path, NDArray[np.bool_], int], None]
PICTURES = 8


def grey(*values: int, kind: type[np.generic] = np.uint8) -> Save:
    """Background 0; the objects of the set have these values in turn."""

    def save(path: Path, truth: NDArray[np.bool_], number: int) -> None:
        Image.fromarray(np.where(truth, values[number % len(values)], 0).astype(kind)).save(path)

    return save


def several(*values: int, kind: type[np.generic] = np.uint8) -> Save:
    """The left and the right part of each object have other values."""

    def save(path: Path, truth: NDArray[np.bool_], number: int) -> None:
        columns = np.arange(truth.shape[1]) * len(values) // truth.shape[1]
        Image.fromarray((np.array(values)[columns] * truth).astype(kind)).save(path)

    return save


def between(ground: int, value: int) -> Save:
    """Another value than 0 around the object."""

    def save(path: Path, truth: NDArray[np.bool_], number: int) -> None:
        Image.fromarray(np.where(truth, value, ground).astype(np.uint8)).save(path)

    return save


def palette(*values: int, rim: int | None = None) -> Save:
    """Entries of a palette of many colours; `rim` goes along the picture's edge, as Pascal VOC's 255 along objects."""

    def save(path: Path, truth: NDArray[np.bool_], number: int) -> None:
        columns = np.arange(truth.shape[1]) * len(values) // truth.shape[1]
        entries = (np.array(values)[columns] * truth).astype(np.uint8)
        if rim is not None:
            entries[0] = rim
        image = Image.fromarray(entries)
        image.putpalette([0, 0, 0, *np.random.default_rng(0).integers(0, 255, 3 * 255).tolist()])
        image.save(path)

    return save


def alpha(colour: tuple[int, int, int] | None) -> Save:
    """A mask in the opacity of one colour, or of a photograph (None), as cut-outs have it."""

    def save(path: Path, truth: NDArray[np.bool_], number: int) -> None:
        pixels = np.random.default_rng(number).integers(0, 255, (*truth.shape, 4), np.uint8)
        if colour is not None:
            pixels[..., :3] = colour
        pixels[..., 3] = truth * np.uint8(255)
        Image.fromarray(pixels).save(path)

    return save


def opaque(path: Path, truth: NDArray[np.bool_], number: int) -> None:
    value = np.where(truth, np.uint8(255), np.uint8(0))
    Image.fromarray(np.stack([value, value, value, np.full_like(value, 255)], -1)).save(path)


def smoothed(path: Path, truth: NDArray[np.bool_], number: int) -> None:
    large = Image.fromarray(truth).convert("L").resize((96, 96), Image.Resampling.BICUBIC)
    large.resize(truth.shape[::-1], Image.Resampling.BILINEAR).save(path)


def jpeg(path: Path, truth: NDArray[np.bool_], number: int) -> None:
    Image.fromarray(truth).convert("L").save(path.with_suffix(".jpg"), quality=80)


def poor(suffix: str, mode: str = "RGB", **options: object) -> Save:
    """Of a format that changes values, by much."""

    def save(path: Path, truth: NDArray[np.bool_], number: int) -> None:
        Image.fromarray(truth).convert("L").convert(mode).save(path.with_suffix(suffix), **options)

    return save


def grey_and_opaque(path: Path, truth: NDArray[np.bool_], number: int) -> None:
    Image.merge("LA", (Image.fromarray(truth).convert("L"), Image.new("L", truth.shape[::-1], 255))).save(path)


def deep(path: Path, truth: NDArray[np.bool_], number: int) -> None:
    Image.fromarray(truth * np.int32(9)).save(path.with_suffix(".tif"))


def bits(path: Path, truth: NDArray[np.bool_], number: int) -> None:
    Image.fromarray(truth).save(path)


def floats(path: Path, truth: NDArray[np.bool_], number: int) -> None:
    Image.fromarray(truth.astype(np.float32)).save(path.with_suffix(".tif"))


def red_channel(*values: int) -> Save:
    """Dark colours, as CARLA writes the number of a class."""

    def save(path: Path, truth: NDArray[np.bool_], number: int) -> None:
        value = values[number % len(values)]
        Image.fromarray(truth[..., None] * np.array([value, 0, 0], np.uint8)).save(path)

    return save


def by_tifffile(kind: type[np.generic]) -> Save:
    """An array of numbers or bits, as scikit-image saves it too."""

    def save(path: Path, truth: NDArray[np.bool_], number: int) -> None:
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(path.with_suffix(".tif"), truth.astype(kind))

    return save


BINARY = {
    "0 and 1": grey(1),
    "0 and 255": grey(255),
    "0 and 128": grey(128),
    "class 3": grey(3),
    "class 77": grey(77),
    "class 200": grey(200),
    "class 3 in 16 bits": grey(3, kind=np.uint16),
    "class 5000 in 16 bits": grey(5000, kind=np.uint16),
    "255 in 16 bits": grey(255, kind=np.uint16),
    "65535 in 16 bits": grey(65535, kind=np.uint16),
    "32 bits": deep,
    "0/1 and 0/255 files": grey(1, 255),
    "palette entry 1": palette(1),
    "palette entry 15 with a rim of 255": palette(15, rim=255),
    "opacity of black": alpha((0, 0, 0)),
    "opacity of white": alpha((255, 255, 255)),
    "opacity of red": alpha((200, 0, 0)),
    "cut-outs": alpha(None),
    "opaque RGBA": opaque,
    "smoothed": smoothed,
    "jpeg": jpeg,
    "poor jpeg": poor(".jpg", quality=25),
    "poor grey jpeg": poor(".jpg", "L", quality=10),
    "poor webp": poor(".webp", quality=5),
    "avif": poor(".avif", quality=30),
    "gif": poor(".gif", "L"),
    "grey and opaque": grey_and_opaque,
    "bits": bits,
    "floats": floats,
    "1 in one channel": red_channel(1),
    "7 in one channel": red_channel(7),
    "array of bool": by_tifffile(np.bool_),
    "array of int8": by_tifffile(np.int8),
    "array of uint32": by_tifffile(np.uint32),
}
CLASSES = {
    "0, 1 and 2": (several(1, 2), "0, 1 and 2"),
    "0/1 and 0/2 files": (grey(1, 2), "0, 1 and 2"),
    "0/1 files and 0/1/2 files": (grey(1, 1, 2), "0, 1 and 2"),
    "instances in 16 bits": (several(1, 700, 1400, kind=np.uint16), "0, 1, 700 and 1400"),
    "classes with 255": (several(7, 255, 12), "0, 7, 12 and 255"),
    "palette": (palette(1, 2, 3), "0, 1, 2 and 3"),
    "palette with a rim": (palette(1, 9, rim=255), "0, 1, 9 and 255"),
    "two classes in one channel": (red_channel(4, 12), "0, 4 and 12"),
    "many": (several(*range(1, 33)), "0, 9, 10, 11, 12, 13, ..., 23"),
}


def make(folder: Path, save: Save) -> Path:
    """Pictures of a bright disc, and its masks as `save` writes them."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    y, x = np.indices((32, 32))
    for number in range(PICTURES):
        truth = (y - 12 - number) ** 2 + (x - 15) ** 2 < 64
        shade = np.where(truth, np.uint8(250), np.uint8(10))
        Image.fromarray(np.stack([shade] * 3, -1)).save(folder / "images" / f"{number}.png")
        save(folder / "masks" / f"{number}.png", truth, number)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "bright.onnx")


def score(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> float:
    assert run_command(["evaluate", *map(str, arguments), "--methods", "square", "--json"]) == 0
    return float(json.loads(capsys.readouterr().out)["iou"])


@pytest.mark.every(5)
@pytest.mark.parametrize("name", BINARY)
def test_binary_masks_of_any_form_score_the_same(
    name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path / "set", BINARY[name])
    truth = labelled_images(str(make(tmp_path / "plain", grey(255))), 32)
    for found in (labelled_images(str(folder), 32).labels(), own_size(folder)):
        known = found >= 0
        assert known.mean() > 0.95
        assert ((found == truth.labels()) | ~known).mean() > 0.99
    if name in ("class 3", "palette entry 1", "cut-outs"):
        assert score(capsys, model, folder) > 0.9
        prepare("folder", folder, tmp_path / "out", 32)
        assert score(capsys, model, tmp_path / "out") > 0.9


def own_size(folder: Path) -> NDArray[np.int8]:
    masks = np.stack([item.labels() for item in originals(folder).items])
    return np.where(masks == 127, -1, masks == 255).astype(np.int8)


VERBS = ("prepare", "data", "evaluate", "own size", "grounds", "compare", "train")
EVERY = ("prepare", "evaluate")  # verbs that are tried with every kind of classes


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("name", "verb"), [(n, v) for n in CLASSES for v in VERBS if v in EVERY or n in ("0, 1 and 2", "palette")]
)
def test_classes_are_shown_and_not_guessed(
    name: str, verb: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save, values = CLASSES[name]
    folder = make(tmp_path / "set", save)
    said = f"no mask is used: they have the values {values}, which do not say what is the object; set --mask-values"
    if verb in ("prepare", "data"):
        assert run_command(["prepare", "folder", "--source", str(folder), "--out", str(tmp_path / "out")]) == 0
        if verb == "data":
            capsys.readouterr()
            run_command(["data", str(tmp_path / "out")])
        assert said in " ".join(capsys.readouterr().out.split())
    elif verb == "train":
        from redoseg.config.recipe import from_values
        from redoseg.train.stage_data import open_training_images

        config = from_values({"data": {"source": str(folder), "size": 16}}, "here")
        assert any(said in note for note in open_training_images(config).notes)
    else:
        command = {
            "evaluate": ["evaluate", str(model), str(folder)],
            "own size": ["evaluate", str(model), str(folder), "--own-size"],
            "grounds": ["evaluate", str(model), str(folder), "--grounds"],
            "compare": ["compare", str(folder), str(model), "--methods"],
        }[verb]
        with pytest.raises(DataError) as error:
            run_command(command)
        assert said in str(error.value)


@pytest.mark.every(5)
@pytest.mark.parametrize("name", CLASSES)
def test_what_the_user_says_counts(name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path / "set", CLASSES[name][0])
    assert score(capsys, model, folder, "--mask-values", "nonzero") > 0.9
    if not name.startswith("palette"):  # there 255 is not labelled
        every = sorted(
            {int(v) for item in originals(folder, mask_values="nonzero").items for v in raw(item.mask)} - {0}
        )
        assert score(capsys, model, folder, "--mask-values", ",".join(map(str, every))) > 0.9
    assert prepare("folder", folder, tmp_path / "out", 32, mask_values="nonzero").labelled == PICTURES
    assert score(capsys, model, tmp_path / "out") > 0.9
    with pytest.raises(DataError, match="was prepared with --mask-values nonzero; prepare it again"):
        open_data(tmp_path / "out", 32, mask_values="3")


def raw(path: Path | None) -> NDArray[np.generic]:
    assert path is not None
    return np.unique(np.asarray(Image.open(path)))


def test_colours_are_classes_too(tmp_path: Path) -> None:
    def coloured(path: Path, truth: NDArray[np.bool_], number: int) -> None:
        Image.fromarray(truth[..., None] * np.array([200, 30, number], np.uint8)).save(path)

    folder = make(tmp_path / "set", coloured)
    with pytest.raises(DataError, match=r"has no mask that can be used: masks/0\.png: the mask is in colour"):
        labelled_images(str(folder), 32)
    assert len(labelled_images(str(folder), 32, mask_values="nonzero")) == PICTURES


@pytest.mark.parametrize(
    ("save", "said"),
    [
        (grey(0), "no mask has an object: they have only 0 (0.png, 1.png, 2.png, ...)"),
        (grey(127), "no mask has an object: they have only 0 and 127 (0.png, 1.png, 2.png, ...)"),
        (grey(255, 255, 255, 255, 255, 0), "masks without an object: 1 (5.png)"),
        (grey(4, 4, 0), "masks without an object: 2 (2.png, 5.png)"),
        (alpha((0, 0, 0)), ""),
        (between(254, 255), "no mask has a background: they have only 254 and 255 (0.png, 1.png, 2.png, ...)"),
        (between(127, 255), "no mask has a background: they have only 127 and 255 (0.png, 1.png, 2.png, ...)"),
        (between(1, 1), "no mask has a background: they have only 1 (0.png, 1.png, 2.png, ...)"),
    ],
)
def test_masks_of_one_side_alone_are_named(save: Save, said: str, tmp_path: Path) -> None:
    notes = prepare("folder", make(tmp_path / "set", save), tmp_path / "out", 32).notes
    assert [note for note in notes if "mask" in note and "is read as" not in note] == ([said] if said else [])


def test_a_file_of_classes_among_binary_ones_is_listed(tmp_path: Path) -> None:
    folder = make(tmp_path / "set", grey(255))
    several(1, 2)(folder / "masks" / "3.png", np.ones((32, 32), np.bool_), 0)
    report = prepare("folder", folder, tmp_path / "out", 32)
    assert report.labelled == PICTURES - 1
    assert [path for path, _ in report.bad] == ["masks/3.png"]
    assert "the mask has the values 1 and 2, which do not show what the object is" in report.bad[0][1]


def test_128_is_not_labelled_where_other_masks_have_255(tmp_path: Path) -> None:
    folder = make(tmp_path / "set", grey(255, 255, 255, 128))
    found = labelled_images(str(folder), 32).labels()
    assert (found[0] == 1).any()
    assert (found[3] == 1).sum() == 0
    assert (found[3] == -1).any()


@pytest.mark.parametrize("said", ["all", "1;2", "-1", "70000", "", "1,", "non zero"])
def test_other_words_are_refused(said: str) -> None:
    if said == "non zero":
        assert checked_values(said) == "nonzero"
        return
    with pytest.raises(DataError, match="but must be auto, nonzero"):
        checked_values(said)
