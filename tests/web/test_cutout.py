"""Cut-outs, several photographs at once, and corrected masks of the page, without a server."""

import json
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from redoseg.data.corrected import open_corrected
from redoseg.data.shapes import generate
from redoseg.errors import ConfigError, DataError, RedosegError
from redoseg.images.read import BACKGROUND, OBJECT, UNLABELLED
from redoseg.inference.request import Request
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter
from redoseg.own_results import is_result
from redoseg.web import corrections, several
from redoseg.web.cutout import BOX, COLOUR, PICTURE, SQUARE, CutOut
from redoseg.web.cuts import ZOOM, Cuts
from redoseg.web.several import request_of, segment_several

CUTOUT = Request(kinds=("cutout",))


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter("flowers")


@pytest.fixture
def cuts(segmenter: Segmenter) -> Cuts:
    return Cuts(segmenter, 2_000_000)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three photographs of 300 x 200 pixels. The first is on its side, two have one name."""
    folder = tmp_path_factory.mktemp("photographs")
    pixels = generate("shapes", 3, 300, seed=3)[0]
    names = ("a.jpg", "b.png", "more/a.jpg")
    (folder / "more").mkdir()
    for name, image in zip(names, pixels, strict=True):
        exif = Image.Exif()
        exif[0x0112] = 6
        upright = Image.fromarray(image).crop((0, 50, 300, 250))
        if name == "a.jpg":
            upright.transpose(Image.Transpose.ROTATE_90).save(folder / name, exif=exif)
        else:
            upright.save(folder / name)
    return [folder / name for name in names]


# ------------------------------------------------------------------------------------------------- one photograph


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"ground": "white"}, {"ground": "white"}),
        ({"ground": "blurred", "form": "jpg"}, {"ground": "blur", "image_format": "jpg"}),
        ({"frame": BOX, "margin": 0.2}, {"crop": True, "margin": 0.2}),
        (
            {"ground": COLOUR, "colour": "#ff8800", "frame": SQUARE, "side": 64, "margin": 0.1, "form": "webp"},
            {"ground": "#ff8800", "square": 64, "margin": 0.1, "image_format": "webp"},
        ),
        ({"ground": PICTURE}, {"ground": "b.png"}),
    ],
)
def test_a_cut_out_is_that_of_the_command_line(
    cuts: Cuts, photographs: list[Path], tmp_path: Path, fields: dict[str, Any], options: dict[str, Any]
) -> None:
    if fields.get("ground") == PICTURE:
        fields, options = fields | {"picture": str(photographs[1])}, {"ground": str(photographs[1])}
    request = CutOut(**fields).request(cuts.ground)
    written = cuts.files(photographs[0], 0.4, tmp_path / "page", request)
    segment_paths(cuts.segmenter, photographs[0], tmp_path / "own", kind="cutout", threshold=0.4, **options)
    own = next((tmp_path / "own").iterdir())
    assert written[1].name == f"a-cutout{own.suffix}"
    assert written[1].read_bytes() == own.read_bytes()
    with Image.open(written[0]) as mask:
        assert mask.size == (300, 200), "the mask keeps the photograph's size"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"ground": COLOUR, "colour": "/etc/passwd"}, "The colour is '/etc/passwd'"),
        ({"ground": "/etc/passwd"}, "The ground is"),
        ({"ground": PICTURE}, "no picture for the ground yet"),
        ({"form": "jpg"}, "JPEG has no transparency"),
        ({"form": "gif"}, "The format is"),
        ({"frame": SQUARE, "side": 5}, "from 16 to 4096"),
        ({"frame": BOX, "margin": float("nan")}, "The margin"),
    ],
)
def test_what_a_cut_out_cannot_be_is_one_line(cuts: Cuts, fields: dict[str, Any], why: str) -> None:
    with pytest.raises(RedosegError, match=why) as said:
        CutOut(**fields).request(cuts.ground)
    assert "\n" not in str(said.value)


def test_a_colour_as_some_browsers_give_it(cuts: Cuts) -> None:
    ground = CutOut(ground=COLOUR, colour="rgba(255, 135.6, 0, 1)").request(cuts.ground).ground
    assert ground is not None
    assert ground.colour == (255, 136, 0)


def test_no_object_to_crop_to_is_one_line(cuts: Cuts, photographs: list[Path], tmp_path: Path) -> None:
    request = CutOut(frame=BOX).request(cuts.ground)
    for look in (
        lambda: cuts.previews(photographs[0], 1, request),
        lambda: cuts.files(photographs[0], 1, tmp_path, request),
    ):
        with pytest.raises(DataError, match=r"There is no object to crop to\. Lower the threshold"):
            look()


@pytest.mark.parametrize("size", [(300, 200), (ZOOM + 500, 30)])
def test_before_and_after_are_of_one_size(cuts: Cuts, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "a.png")
    request = CutOut(ground="white", frame=SQUARE).request(cuts.ground)
    before, after = cuts.before_after(tmp_path / "a.png", 0.5, tmp_path, request)
    with Image.open(before) as left, Image.open(after) as right:
        assert left.size == right.size == (min(size[0], ZOOM), round(size[1] * min(1, ZOOM / size[0])))
    assert is_result(after)
    assert not is_result(before)


# ------------------------------------------------------------------------------------------------------ several


def test_several_are_what_the_command_line_writes(cuts: Cuts, photographs: list[Path], tmp_path: Path) -> None:
    look = CutOut(ground="black", frame=SQUARE, side=50).request(cuts.ground)
    request = request_of(look, ["cutout", "labelme", "coco"], 0.4, True, "shape")
    seen: list[tuple[int, int]] = []
    batch = segment_several(cuts, photographs, request, tmp_path / "page", lambda *count: seen.append(count))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert batch.words.startswith("3 photographs are segmented.")
    assert len(batch.tiles) == 3
    assert [p.name for p in batch.archive.parent.iterdir() if p.is_dir()] == [], "only what is shown stays"

    (tmp_path / "photos").mkdir()
    for path, name in zip(photographs, ("a.jpg", "b.png", "a-2.jpg"), strict=True):
        (tmp_path / "photos" / name).write_bytes(path.read_bytes())
    segment_paths(
        cuts.segmenter, tmp_path / "photos", tmp_path / "results", kind=("cutout", "labelme", "coco"), threshold=0.4,
        parts=True, label="shape", ground="black", square=50, margin=0.02, review=True,
    )  # fmt: skip
    with zipfile.ZipFile(batch.archive) as packed:
        own = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
        assert {"cutout/a-2-1.png", "labelme/b.json", "coco/coco.json", "review.csv"} <= {
            path.relative_to(tmp_path / "results").as_posix() for path in own
        }
        assert sorted(packed.namelist()) == sorted(path.relative_to(tmp_path).as_posix() for path in own)
        for path in own:
            assert packed.read(path.relative_to(tmp_path).as_posix()) == path.read_bytes(), path
        assert json.loads(packed.read("results/labelme/b.json"))["imagePath"] == "../../photos/b.png"


def test_of_several_those_that_cannot_be_used_are_named(cuts: Cuts, photographs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"garbage" * 50)
    (tmp_path / "page.html").write_text("<b>")
    Image.new("1", (2000, 1001)).save(tmp_path / "wide.png")
    others = [tmp_path / name for name in ("broken.jpg", "page.html", "wide.png", "gone.png")]
    batch = segment_several(cuts, [photographs[0], *others], request_of(CUTOUT, ["mask"], 0.5, False, ""), tmp_path)
    assert "1 photograph is segmented." in batch.words
    assert "4 could not be: " in batch.words
    for said in ("broken.jpg: not a picture", "page.html: its format", "wide.png: it has more than 2 million pixels"):
        assert said in batch.words
    assert "gone.png: it has been deleted" in batch.words
    assert str(tmp_path) not in batch.words
    with pytest.raises(DataError, match=r"page\.html: its format") as said:
        segment_several(cuts, others[1:2], request_of(CUTOUT, ["mask"], 0.5, False, ""), tmp_path)
    assert str(tmp_path) not in str(said.value)


def test_results_of_several_are_bounded(
    cuts: Cuts, photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(several, "_RESULTS", 10_000)
    with pytest.raises(DataError, match=r"take more than .* Choose fewer photographs"):
        segment_several(cuts, photographs, request_of(CUTOUT, ["cutout"], 0.5, False, ""), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    monkeypatch.setattr(several, "MOST", 2)
    with pytest.raises(DataError, match="There are 3 photographs, but the page takes 2 at a time"):
        segment_several(cuts, photographs, request_of(CUTOUT, ["cutout"], 0.5, False, ""), tmp_path)


@pytest.mark.parametrize(
    ("kinds", "fields", "parts", "why"),
    [
        ([], {}, False, "No kind of results is chosen"),
        (["soft", "mask"], {}, True, "A soft mask has no clear edge"),
        (["mask", "cutout"], {"form": "webp"}, False, "The mask is always a PNG file"),
    ],
)
def test_results_that_cannot_be_combined(
    cuts: Cuts, kinds: list[str], fields: dict[str, Any], parts: bool, why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        request_of(CutOut(**fields).request(cuts.ground), kinds, 0.5, parts, "")


def test_fields_of_cut_outs_do_not_hinder_labels(cuts: Cuts) -> None:
    look = CutOut(ground="white", frame=SQUARE, form="jpg").request(cuts.ground)
    request = request_of(look, ["coco", "yolo"], 0.5, True, "flower")
    assert (request.ground, request.square, request.form, request.label) == (None, 0, "png", "flower")


# -------------------------------------------------------------------------------------------------- corrections


def disc(size: tuple[int, int], middle: tuple[float, float], radius: float) -> np.ndarray:
    image = Image.new("L", size)
    (x, y), r = middle, radius
    ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), fill=255)
    return np.asarray(image) > 0


def test_paint_adds_an_eraser_removes_and_the_rest_stays() -> None:
    """At the photograph's size, from strokes on a copy a quarter as large."""
    mask = disc((400, 300), (200, 150), 80)
    mask[60, 390] = True  # a detail that the copy does not have
    small = disc((100, 75), (50, 37), 20)
    layer = corrections.painted(small)
    assert (corrections.corrected(mask, small, layer) == np.where(mask, OBJECT, BACKGROUND)).all()

    draw = ImageDraw.Draw(layer)
    draw.ellipse((5, 5, 25, 25), fill=(*corrections._rgb(OBJECT), 127))  # browsers round
    draw.ellipse((5, 50, 25, 70), fill=(*corrections._rgb(UNLABELLED), 128))
    draw.rectangle((50, 0, 99, 74), fill=(0, 0, 0, 0))
    result = corrections.corrected(mask, small, layer)
    assert result.shape == (300, 400)
    assert result[60, 60] == OBJECT
    assert result[240, 60] == UNLABELLED
    assert (result[:, 210:380] == BACKGROUND).all()
    assert result[60, 390] == OBJECT, "the detail is far from what has changed"
    left = np.zeros_like(mask)
    left[:, 130:190] = True
    assert (result[left] == np.where(mask, OBJECT, BACKGROUND)[left]).all(), "no edge moves where nobody painted"
    assert not corrections.corrected(mask, small, None).any(), "all rubbed out"


def test_only_the_editors_paint_is_read(tmp_path: Path) -> None:
    Image.new("RGBA", (30, 20)).save(tmp_path / "paint.png")
    assert corrections.read_layer(tmp_path / "paint.png", (30, 20)).mode == "RGBA"
    (tmp_path / "broken.png").write_bytes(b"garbage")
    for name, size, why in (
        ("paint.png", (31, 20), "another photograph"),
        ("broken.png", (30, 20), "cannot be read"),
        ("gone.png", (30, 20), "has been deleted"),
    ):
        with pytest.raises(DataError, match=why):
            corrections.read_layer(tmp_path / name, size)


def test_corrections_are_what_refine_reads(photographs: list[Path], tmp_path: Path) -> None:
    """Also of a photograph on its side, and of two with one name."""
    folder = tmp_path / "corrected"
    mask = np.full((200, 300), BACKGROUND, np.uint8)
    mask[50:150, 100:200] = OBJECT
    mask[:, 250:] = UNLABELLED
    assert [corrections.save(path, mask, folder) for path in photographs] == [1, 2, 3]
    again = np.full((200, 300), OBJECT, np.uint8)
    assert corrections.save(photographs[0], again, folder) == 3, "the mask of a photograph is replaced"
    packed = corrections.archive(folder, tmp_path / "corrected.zip")
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path / "unpacked")
    for where in (folder, tmp_path / "unpacked" / "corrected"):
        found = open_corrected(str(where), 20)
        assert sorted(found.images.names) == ["a", "a-2", "b"]
        assert not found.images.bad
        masks = dict(zip(found.images.names, np.asarray(found.images.masks), strict=True))
        assert (masks["a"] == OBJECT).all()
        assert masks["b"][10, 10] == OBJECT
        assert masks["b"][2, 2] == BACKGROUND
        assert (masks["a-2"] == masks["b"]).all()


@pytest.mark.parametrize("names", [("a.png", "a.png"), ("a.png", "A.jpg"), ("a.png", "b.png")])
def test_corrections_that_are_saved_at_once(
    names: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By two tabs, or two pages with one folder: each photograph keeps its mask."""
    paths = [tmp_path / str(number) / name for number, name in enumerate(names)]
    masks = [np.full((4, 4), value, np.uint8) for value in (BACKGROUND, OBJECT)]
    for path, mask in zip(paths, masks, strict=True):
        path.parent.mkdir()
        Image.fromarray(mask).save(path, quality=100)
    folder = tmp_path / "corrected"
    folder.mkdir()
    (folder / "images").mkdir()
    (folder / "images" / ".0123456789abcdef.tmp").touch()  # of a page that was killed
    real = corrections._target

    def slowly(*where: Path) -> Path:
        found = real(*where)
        time.sleep(0.05)
        return found

    monkeypatch.setattr(corrections, "_target", slowly)
    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(corrections.save, paths, masks, [folder, folder])) == [1, 2]
    for image in (folder / "images").iterdir():
        same = np.asarray(Image.open(image)) > 127
        assert ((np.asarray(Image.open(folder / "masks" / f"{image.stem}.png")) > 127) == same).all()
    assert len(list((folder / "images").iterdir())) == 2


def test_the_folder_of_corrections_is_bounded(
    photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corrections, "_MOST", 1000)
    with pytest.raises(DataError, match="at most"):
        corrections.save(photographs[0], np.zeros((200, 300), np.uint8), tmp_path)


def test_a_mask_is_opened_painted_over_and_saved(cuts: Cuts, photographs: list[Path], tmp_path: Path) -> None:
    """What the buttons of the page answer."""
    pytest.importorskip("gradio")
    from redoseg.web.answers import Answers

    for folder in (None, tmp_path / "chosen"):
        answers = Answers(cuts, None, (), tmp_path, lambda: None, corrected=folder)
        opened, _, words = answers.open_mask(str(photographs[1]), 0.5)
        assert words.startswith("b.png, at a threshold of 0.50.")
        picture, layer = answers.to_paint(opened)
        assert picture.size == layer.size
        layer.paste((*corrections._rgb(OBJECT), 128), (0, 0, 20, 20))
        layer.save(tmp_path / "layer.png")
        download, saved, words = answers.correct(str(tmp_path / "layer.png"), opened, None)
        where = Path(saved) if folder is None else folder
        with Image.open(where / "masks" / "b.png") as mask:
            assert mask.getpixel((10, 10)) == OBJECT
        assert open_corrected(str(where), 20).images.names == ("b",)
        assert ("redoseg refine RUN --corrected" in words) == (folder is not None)
        if folder is None:
            with zipfile.ZipFile(download.value["path"]) as packed:
                assert packed.namelist() == ["corrected/images/b.png", "corrected/masks/b.png"]
        with pytest.raises(DataError, match="no mask in the editor"):
            answers.correct(None, opened, None)


def test_a_choice_that_cannot_be_leaves_the_photograph(cuts: Cuts, photographs: list[Path], tmp_path: Path) -> None:
    gradio = pytest.importorskip("gradio")
    from redoseg.web.answers import Answers

    answers = Answers(cuts, None, (), tmp_path, lambda: None)
    wrong = ["transparent", "#ffffff", None, "the photograph", 1000, 0.02, "jpg"]
    photo, _, overlay, *_, words, _, _, _, _ = answers.show(str(photographs[0]), 0.5, "", *wrong)
    assert photo == overlay == gradio.skip()
    assert words == "**No cut-out.** JPEG has no transparency. Choose a ground, or WebP."
    assert answers.compare(str(photographs[0]), 0.5, *wrong) == gradio.skip()
    assert answers.save(str(photographs[0]), 0.5, *wrong) == [gradio.skip()] * 3
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"garbage")
    assert answers.show(str(broken), 0.5, "", *wrong)[0] is None
