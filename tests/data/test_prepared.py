"""Prepared sets: what goes in, what comes out, what is refused; nothing half-written is taken for a set."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redoseg.data import ImageSet, contact_sheet, open_data, open_prepared, prepare, prepared
from redoseg.errors import DataError


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def picture(path: Path, value: int = 0, width: int = 40, height: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (value, 100, 50)).save(path)
    return path


def mask(path: Path, value: int = 255, width: int = 40, height: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((height, width), np.uint8)
    pixels[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = value
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Ten pictures, nine with masks."""
    for i in range(10):
        picture(tmp_path / "set" / "images" / f"p{i}.png", 20 * i)
        if i != 4:
            mask(tmp_path / "set" / "masks" / f"p{i}.png", 127 if i == 5 else 255)
    return tmp_path / "set"


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def refused(*args: object, **kwargs: object) -> str:
    with pytest.raises(DataError) as caught:
        prepare(*args, **kwargs)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip(labelled: Path, tmp_path: Path) -> None:
    seen = []
    report = prepare("folder", labelled, tmp_path / "out", 16, on_item=lambda i, n: seen.append((i, n)))
    assert (report.pictures, report.labelled, report.bad) == (10, 9, ())
    empty = "masks without an object: 1 (p5.png)"
    assert report.notes == ("1 of 10 pictures have no mask", empty)
    assert seen[-1] == (10, 10)
    data = open_prepared(tmp_path / "out")
    assert isinstance(data.pixels, np.memmap)
    assert (data.name, data.size, data.regions, len(data)) == ("set", 16, 2, 10)
    assert data.pixels.shape == (10, 16, 16, 3)
    assert data.pixels[:, 8, 8, 0].tolist() == [20 * i for i in range(10)]
    assert data.names == tuple(f"p{i}" for i in range(10))
    assert data.labelled.tolist() == [i != 4 for i in range(10)]
    labels = data.labels([0, 4, 5])
    assert labels.dtype == np.int8
    assert [np.unique(one).tolist() for one in labels] == [[0, 1], [-1], [-1, 0]]
    assert sorted(os.listdir(tmp_path / "out")) == ["dataset.json", "images.npy", "items.csv", "masks.npy"]
    about = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert about["source"] == str(labelled)
    assert (tmp_path / "out" / "items.csv").read_text().splitlines()[:2] == [
        "name,source,split,labelled",
        "p0,images/p0.png,,1",
    ]


def test_preparing_twice_gives_the_same_bytes(labelled: Path, tmp_path: Path) -> None:
    prepare("folder", labelled, tmp_path / "a", 16)
    prepare("folder", labelled, tmp_path / "b", 16)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_every_third_picture_is_for_choosing(labelled: Path, tmp_path: Path) -> None:
    prepare("flowers17", labelled, tmp_path / "out", 16)
    data = open_prepared(tmp_path / "out")
    assert data.subset("dev").names == ("p0", "p3", "p6", "p9")
    assert len(data.subset("test")) == 6
    assert isinstance(data.subset("dev").pixels, np.memmap)
    with pytest.raises(DataError, match=r"flowers17 has no split 'val'; choose one that it has: .*dev, test"):
        data.subset("val")


def test_without_masks_there_is_no_mask_file(tmp_path: Path) -> None:
    for i in range(8):
        picture(tmp_path / "set" / "deep" / "er" / f"{i}.jpg")
    prepare("folder", tmp_path / "set", tmp_path / "out", 16)
    data = open_prepared(tmp_path / "out")
    assert data.masks is None
    assert (data.labels() == -1).all()
    assert not (tmp_path / "out" / "masks.npy").exists()
    assert data.names[0] == "deep/er/0"


def test_pictures_are_the_same_with_the_masks_deleted(labelled: Path, tmp_path: Path) -> None:
    prepare("folder", labelled, tmp_path / "with", 16)
    shutil.rmtree(labelled / "masks")
    prepare("folder", labelled, tmp_path / "without", 16)
    assert (tmp_path / "with/images.npy").read_bytes() == (tmp_path / "without/images.npy").read_bytes()


def test_bad_files_among_good_ones_are_listed(labelled: Path, tmp_path: Path) -> None:
    (labelled / "images" / "p1.png").write_text("not a picture")
    (labelled / "masks" / "p2.png").write_bytes((labelled / "masks" / "p2.png").read_bytes()[:40])
    mask(labelled / "masks" / "p3.png", width=30, height=60)
    picture(labelled / "images" / "p6.jpg")
    mask(labelled / "masks" / "p7.bmp")
    report = prepare("folder", labelled, tmp_path / "out", 16)
    assert (report.pictures, report.labelled) == (10, 4)
    bad = dict(report.bad)
    assert bad["images/p1.png"] == "not a picture of a known format; replace or remove it"
    assert bad["masks/p2.png"].endswith("; its picture is kept as not labelled")
    assert "mask of 30x60 beside a picture of other proportions" in bad["masks/p3.png"]
    assert bad["images/p6.png"] == "shares the mask p6.png with p6.jpg, p6.png"
    assert bad["images/p7.png"] == "has more than one mask: p7.bmp, p7.png"
    assert open_prepared(tmp_path / "out").bad == report.bad
    names = open_prepared(tmp_path / "out").names
    assert {"p6.jpg", "p6.png"} <= set(names)
    assert len(set(names)) == len(names)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    for i in range(8):
        picture(tmp_path / "set" / f"{i}, \n{os.fsdecode(bytes([0xE9]))}.png")
    prepare("folder", tmp_path / "set", tmp_path / "out", 16)
    assert open_prepared(tmp_path / "out").names[0] == "0, \\n\\xe9"


def test_what_is_refused(labelled: Path, tmp_path: Path) -> None:
    three = tmp_path / "three"
    for i in range(3):
        picture(three / f"{i}.png")
    out = tmp_path / "out"
    assert refused("folder", three, out) == (
        f"pictures found in {three}: 3, but at least 8 are needed; add pictures or choose another folder"
    )
    assert "does not exist; expected a folder of pictures; choose another" in refused("folder", tmp_path / "x", out)
    assert "set 'cifar' is not known; expected one of flowers102" in refused("cifar", labelled, out)
    assert "the size is 1 px, but must be from 4 to 2048" in refused("folder", labelled, out, 1)
    assert "has no setid.mat; expected the layout of Flowers-102" in refused("flowers102", labelled, out)
    for i in range(4):
        (labelled / "images" / f"p{i}.png").write_text("broken")
    text = refused("folder", labelled, out)
    assert text.startswith(f"only 6 of 10 pictures in {labelled} can be read, but at least 8 are needed; replace the")
    assert "images/p0.png (not a picture" in text
    assert not out.exists()
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []
    out.mkdir()
    assert f"{out} exists and is not a prepared set; choose a new folder" == refused("folder", labelled, out)
    assert os.listdir(out) == []


def test_a_damaged_set_is_refused(labelled: Path, tmp_path: Path) -> None:
    good = tmp_path / "good"
    prepare("folder", labelled, good, 16)

    def opened(name: str, data: bytes | None) -> str:
        broken = tmp_path / "broken"
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(good, broken)
        if data is None:
            (broken / name).unlink()
        else:
            (broken / name).write_bytes(data)
        with pytest.raises(DataError) as caught:
            open_data(broken, 16)
        text = str(caught.value)
        assert "\n" not in text
        assert "prepare it again" in text
        return text

    # dataset.json is written last: without it, the set is half-written.
    assert "has no dataset.json, so it is not a whole prepared set" in opened("dataset.json", None)
    assert "has no masks.npy" in opened("masks.npy", None)
    assert "has no items.csv" in opened("items.csv", None)
    assert "is a damaged prepared set" in opened("images.npy", (good / "images.npy").read_bytes()[:-1])
    assert "is a damaged prepared set" in opened("images.npy", b"")
    assert "is a damaged prepared set" in opened("dataset.json", b"{}")
    assert "is a damaged prepared set" in opened("dataset.json", b"[1")
    about = json.loads((good / "dataset.json").read_text())
    labelled_there, items = about["labelled"], (good / "items.csv").read_bytes()
    assert f"lists 9 pictures and {labelled_there - 1} masks, but dataset.json 10 and {labelled_there}" in opened(
        "items.csv", b"\n".join(items.split(b"\n")[:-2]) + b"\n"
    )
    other = json.dumps(about | {"labelled": labelled_there - 1}).encode()
    assert f"lists 10 pictures and {labelled_there} masks, but dataset.json 10 and" in opened("dataset.json", other)
    assert "has format 9, but must have 1" in opened("dataset.json", json.dumps(about | {"format": 9}).encode())
    assert "has uint8" in opened("dataset.json", json.dumps(about | {"size": 8}).encode())
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    assert "is a damaged prepared set" in opened("images.npy", (tmp_path / "objects.npy").read_bytes())


def test_opening_at_another_size(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare("folder", labelled, tmp_path / "out", 16)
    small = open_data(tmp_path / "out", 8)
    assert small.pixels.shape == (10, 8, 8, 3)
    assert small.masks is not None
    assert small.masks.shape == (10, 8, 8)
    assert set(np.unique(small.labels([0]))) == {0, 1}
    with pytest.raises(DataError, match=r"at 16 px, but at least 32 px are needed; prepare it again with --size 32"):
        open_data(tmp_path / "out", 32)
    monkeypatch.setattr(prepared, "free_memory", lambda: 2 * 10 * 8 * 8 * 4 - 1)
    with pytest.raises(DataError, match=r"at 8 px needs 0 MB of memory, .* again with --size 8, and it is read from"):
        open_data(tmp_path / "out", 8)
    assert len(open_data(tmp_path / "out", 16)) == 10  # mapped: takes none


def test_a_folder_is_prepared_once_and_again_when_it_changes(labelled: Path) -> None:
    calls: list[int] = []

    def opened() -> tuple[ImageSet, int]:
        calls.clear()
        return open_data(labelled, 16, on_item=lambda i, n: calls.append(i)), len(calls)

    before = sorted(p for p in labelled.rglob("*"))
    assert opened()[1] == 10
    data, decoded = opened()
    assert (len(data), decoded) == (10, 0)
    assert sorted(p for p in labelled.rglob("*")) == before
    picture(labelled / "images" / "new.png")
    data, decoded = opened()
    assert (len(data), decoded) == (11, 11)
    mask(labelled / "masks" / "new.png")
    data, decoded = opened()
    assert (int(data.labelled.sum()), decoded) == (10, 11)
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "redoseg" / "prepared"
    assert len(list(cache.iterdir())) == 1
    next(cache.glob("*/images.npy")).write_bytes(b"")
    assert opened()[1] == 11


def test_a_folder_that_changes_while_it_is_prepared(labelled: Path) -> None:
    pytest.importorskip("fcntl")
    seen: list[int] = []

    def change(done: int, total: int) -> None:
        if done == 5:
            picture(labelled / "images" / "new.png")
            seen.append(len(open_data(labelled, 16)))

    assert len(open_data(labelled, 16, on_item=change)) == 10  # its work is not taken for what a stopped call left
    assert seen == [11]


def test_a_place_without_a_name(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(labelled)
    for out in (".", "/"):
        assert refused("folder", labelled, out) == f"{out} exists and is not a prepared set; choose a new folder"


def test_pictures_beside_images_are_counted(labelled: Path, tmp_path: Path) -> None:
    picture(labelled / "other.PNG")
    picture(labelled / ".hidden.png")
    without = ("1 of 10 pictures have no mask", "masks without an object: 1 (p5.png)")
    assert prepare("folder", labelled, tmp_path / "with", 16).notes == without
    shutil.rmtree(labelled / "masks")
    assert prepare("folder", labelled, tmp_path / "out", 16).notes == ("pictures beside images/, not used: 1",)


def test_masks_that_cannot_be_found(labelled: Path, tmp_path: Path) -> None:
    for path in list((labelled / "masks").iterdir()):
        path.with_suffix(".npy").write_bytes(b"\x93NUMPY")
        path.unlink()
    why = "has no mask that can be read; expected files ending in .png, .jpg, ...; repair or remove it"
    assert prepare("folder", labelled, tmp_path / "other", 16).bad == (("masks", why),)
    shutil.rmtree(labelled / "masks")
    (labelled / "masks").mkdir()
    report = prepare("folder", labelled, tmp_path / "empty", 16)
    assert (report.bad, report.notes) == ((), ("masks/ is empty",))


def test_a_folder_that_may_be_listed_but_not_entered(labelled: Path, tmp_path: Path) -> None:
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("nothing is forbidden")
    entered = tmp_path / "entered"
    shutil.copytree(labelled, entered)
    labelled.chmod(0o644)
    try:
        assert "no picture found in" in refused("folder", labelled, tmp_path / "out")
        assert "cannot be read" in refused("folder", entered, tmp_path / "out", splits=labelled / "list")
        with pytest.raises(DataError, match="no picture found in"):
            open_data(labelled, 16)
    finally:
        labelled.chmod(0o755)


def test_open_data_says_what_it_takes(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"x does not exist; expected a prepared set, a folder of pictures, shapes, .*, beetles or tray; name one",
    ):
        open_data(tmp_path / "x", 16)
    with pytest.raises(DataError, match=r"has no split 'val'; choose train or test"):
        open_data("shapes", 16, split="val")


def test_built_in_pictures() -> None:
    held_out = open_data("shapes", 16, count=4)
    again = open_data("shapes", 16, count=4)
    train = open_data("shapes", 16, split="train", count=4)
    assert np.array_equal(held_out.pixels, again.pixels)
    assert not np.array_equal(held_out.pixels, train.pixels)
    assert set(np.unique(held_out.labels())) == {0, 1}
    three = open_data("shapes", 32, regions=3, count=8)
    assert set(np.unique(three.labels())) == {0, 1, 2}


def test_contact_sheet(labelled: Path) -> None:
    sheet = contact_sheet(open_data(labelled, 16), count=5)
    assert sheet.mode == "RGB"
    assert sheet.size == (6 * 148 + 4, 2 * 148 + 4)


def test_nearest_takes_pixels_unchanged(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        stripes = np.repeat((rng.integers(0, 2, (96, 96, 1)) * 255).astype(np.uint8), 3, 2)
        Image.fromarray(stripes).save(tmp_path / "photos" / f"{i}.png")
    smooth = prepare("folder", tmp_path / "photos", tmp_path / "smooth", 32)
    sharp = prepare("folder", tmp_path / "photos", tmp_path / "sharp", 32, nearest=True)
    assert set(np.unique(open_prepared(sharp.out).pixels)) == {0, 255}
    assert len(np.unique(open_prepared(smooth.out).pixels)) > 2
    assert "nearest, masks" in (tmp_path / "sharp" / "dataset.json").read_text()


def test_folders_in_capitals_are_found(labelled: Path, tmp_path: Path) -> None:
    (labelled / "images").rename(labelled / "Images")
    (labelled / "masks").rename(labelled / "MASKS")
    assert prepare("folder", labelled, tmp_path / "out", 16).labelled == 9
    assert prepare("horses", labelled, tmp_path / "dev", 16).labelled == 9
