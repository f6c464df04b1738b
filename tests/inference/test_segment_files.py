"""Photographs in, masks out: files, folders, what all pictures share."""

import contextlib
import csv
import io
import json
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bright import bright_square, tree, write_model
from PIL import Image
from pycocotools.coco import COCO

from redoseg import files
from redoseg.config.kinds import DRAWN, Kind
from redoseg.errors import DataError, ModelError, RedosegError
from redoseg.images.draw import before_after
from redoseg.images.read import Photo, read_photo
from redoseg.inference import one_image, shared_files
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_model(tmp_path / "run" / "mask.onnx").parent


@pytest.fixture
def segmenter(run: Path) -> Segmenter:
    return Segmenter(run, threads=1)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("a.jpg", "a.png", "sub/a.png", "b.jpg"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        bright_square().save(path)
    return folder


def test_one_picture(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    photo = photos / "b.jpg"
    report = segment_paths(segmenter, photo, tmp_path / "new" / "x.png")
    assert (report.done, report.failed, report.written) == (1, (), (tmp_path / "new" / "x.png",))
    mask = Image.open(tmp_path / "new" / "x.png")
    assert (mask.mode, mask.size) == ("L", (96, 64))
    assert set(np.unique(np.asarray(mask))) == {0, 255}
    assert segment_paths(segmenter, photo, tmp_path / "out").written == (tmp_path / "out" / "b.png",)
    assert segment_paths(segmenter, photo, tmp_path / "new").written == (tmp_path / "new" / "b.png",)


def test_kinds(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    shapes = {}
    for kind in ("mask", "soft", "cutout", "overlay"):
        path = tmp_path / f"{kind}.png"
        segment_paths(segmenter, photos / "b.jpg", path, kind=kind)  # type: ignore[arg-type]
        with Image.open(path) as image:
            shapes[kind] = (image.mode, image.size)
    assert shapes == {
        "mask": ("L", (96, 64)),
        "soft": ("L", (96, 64)),
        "cutout": ("RGBA", (96, 64)),
        "overlay": ("RGB", (96, 64)),
    }
    alpha = np.asarray(Image.open(tmp_path / "cutout.png"))[..., 3]
    assert (alpha[32, 48], alpha[2, 2]) == (255, 0)
    with pytest.raises(RedosegError, match="kind 'svg' is not known; choose one of mask, soft"):
        segment_paths(segmenter, photos, tmp_path / "out", kind="svg")  # type: ignore[arg-type]


def test_one_picture_that_is_refused(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    def refused(source: Path, out: Path) -> str:
        with pytest.raises(RedosegError) as caught:
            segment_paths(segmenter, source, out)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    before = {p: (photos / p).read_bytes() for p in tree(photos)}
    assert "exists: choose another path, or allow overwriting" in refused(photos / "b.jpg", photos / "a.png")
    with pytest.raises(RedosegError, match=r"a\.png is a picture to segment: choose another folder"):
        segment_paths(segmenter, photos / "a.png", photos, overwrite=True)
    assert "choose a name that ends in .png, or a folder" in refused(photos / "b.jpg", tmp_path / "x.jpg")
    assert "does not exist; expected a picture or a folder of pictures" in refused(photos / "z.jpg", tmp_path / "out")
    (photos / "bad.jpg").write_text("x")
    assert "not a picture of a known format" in refused(photos / "bad.jpg", tmp_path / "out")
    (tmp_path / "file").touch()
    assert "cannot be made" in refused(photos / "b.jpg", tmp_path / "file" / "x.png")
    assert {p: (photos / p).read_bytes() for p in before} == before
    segment_paths(segmenter, photos / "b.jpg", photos / "sub" / "a.png", overwrite=True)


def test_a_folder_mirrors_sub_folders_and_no_two_results_collide(
    segmenter: Segmenter, photos: Path, tmp_path: Path
) -> None:
    seen = []
    report = segment_paths(segmenter, photos, tmp_path / "out", on_item=lambda *event: seen.append(event))
    assert (report.done, report.failed) == (4, ())
    assert tree(tmp_path / "out") == ["a.jpg.png", "a.png.png", "b.png", "sub/a.png"]
    assert seen[-1] == (photos / "sub" / "a.png", 4, 4, None)
    # A name that the longer names would run into.
    bright_square().save(photos / "a.jpg.png")
    segment_paths(segmenter, photos, tmp_path / "more")
    assert tree(tmp_path / "more") == ["a.jpg.png", "a.jpg.png.png", "a.png.png", "b.png", "sub/a.png"]


def test_a_folder_continues_after_what_fails(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    (photos / "bad.jpg").write_text("x")
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.png").write_text("mine")
    report = segment_paths(segmenter, photos, out)
    assert report.done == 3
    assert dict(report.failed) == {
        photos / "b.jpg": f"{out / 'b.png'} exists: choose another path, or allow overwriting (--overwrite)",
        photos / "bad.jpg": "not a picture of a known format; replace or remove it",
    }
    assert (out / "b.png").read_text() == "mine"
    assert segment_paths(segmenter, photos, out, overwrite=True).done == 4
    assert (out / "b.png").read_bytes()[1:4] == b"PNG"


def noisy_folder(folder: Path, pictures: int) -> Path:
    """Pictures that all differ, large and small in turns, so that later ones are often done first."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(pictures):
        height, width = (300, 400) if i % 3 == 0 else (30 + i, 40)
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8))
        small.resize((width, height)).save(folder / f"{i:02}.png")
    return folder


@pytest.mark.every(4)
@pytest.mark.parametrize("kind", ["mask", "soft", "cutout", "overlay"])
def test_a_folder_on_many_threads_is_the_same_as_one_by_one(run: Path, kind: Kind, tmp_path: Path) -> None:
    source = noisy_folder(tmp_path / "noisy", 20)
    (source / "07.png").write_text("x")
    results = {}
    for threads in (1, 4):
        out, seen = tmp_path / f"out{threads}", []
        report = segment_paths(
            Segmenter(run, threads=threads), source, out, kind=kind, on_item=lambda *event, to=seen: to.append(event)
        )
        assert [path for path, *_ in seen] == sorted(source.iterdir())
        assert [done for _, done, *_ in seen] == list(range(1, 21))
        assert [path for path, *_, why in seen if why] == [path for path, _ in report.failed] == [source / "07.png"]
        assert list(report.written) == [out / path.name for path in sorted(source.iterdir()) if path.stem != "07"]
        results[threads] = {name: (out / name).read_bytes() for name in tree(out)}
    assert len(results[1]) == 19
    assert results[1] == results[4]
    for name in ("00.png", "05.png"):  # and as one picture alone
        segment_paths(Segmenter(run), source / name, tmp_path / "alone", kind=kind)
        assert (tmp_path / "alone" / name).read_bytes() == results[4][name]


def test_threads_work_side_by_side_and_only_so_many_pictures_are_under_way(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter.threads = 2
    source = noisy_folder(tmp_path / "noisy", 30)
    meeting, lock = threading.Barrier(2), threading.Lock()
    read: list[str] = []

    def reads(path: Path, take: Callable[[int], None], **limits: Any) -> Photo:
        with lock:
            read.append(path.name)
        meeting.wait(timeout=30)  # one thread alone would never get past this
        return read_photo(path, take=take, **limits)

    monkeypatch.setattr(one_image, "read_photo", reads)
    ahead, callers = [], set()

    def on_item(_path: Path, done: int, _total: int, _why: str | None) -> None:
        callers.add(threading.current_thread())
        time.sleep(0.005)
        ahead.append(len(read) - done)

    assert segment_paths(segmenter, source, tmp_path / "out", on_item=on_item).done == 30
    assert max(ahead) <= 4
    assert callers == {threading.main_thread()}


@pytest.mark.slow
def test_a_picture_that_crashes_its_decoder_is_named_when_the_command_is_given_again(
    run: Path, photos: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]], crashing_file: bytes
) -> None:
    (photos / "crash.png").write_bytes(crashing_file)
    command = ["-m", "redoseg", "segment", run, photos, "-o", tmp_path / "out"]
    with start(*command) as process:
        assert process.wait() == -signal.SIGSEGV
    with start(*command, "--overwrite") as process:
        said = "".join(process.communicate())
    assert process.returncode == 1
    assert "crash.png: reading it crashed the decoder (signal 11), so it may be damaged; replace or remove it" in said
    note, *results = tree(tmp_path / "out")
    assert note.startswith(".decoding/")
    assert results == ["a.jpg.png", "a.png.png", "b.png", "sub/a.png"]
    bright_square().save(photos / "crash.png")  # what was repaired is segmented
    with start(*command, "--overwrite") as process:
        assert process.wait() == 0
    assert (tmp_path / "out" / "crash.png").exists()
    assert not (tmp_path / "out" / ".decoding").exists()


def test_ctrl_c_in_a_folder_leaves_whole_files_and_ends_at_once(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter.threads = 2
    source = noisy_folder(tmp_path / "noisy", 40)

    def stop(_path: Path, done: int, _total: int, _why: str | None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    before = threading.active_count()
    filters = list(warnings.filters)
    with pytest.raises(KeyboardInterrupt):
        segment_paths(segmenter, source, tmp_path / "out", on_item=stop)
    assert threading.active_count() == before
    assert warnings.filters == filters
    names = tree(tmp_path / "out")
    assert 3 <= len(names) <= 3 + 2 * segmenter.threads
    assert all(name.endswith(".png") for name in names)
    for name in names:
        with Image.open(tmp_path / "out" / name) as mask:
            mask.load()


def test_what_goes_wrong_in_a_thread_is_raised(
    segmenter: Segmenter, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying = Segmenter(write_model(tmp_path / "m.onnx"), threads=2)
    lying.size = 8  # which the network does not take
    with pytest.raises(ModelError, match="export it again"):
        segment_paths(lying, photos, tmp_path / "out")
    with pytest.raises(ModelError, match="export it again"):
        lying.batch(np.zeros((40, 8, 8, 3), np.uint8))

    def broken(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(files, "write_atomic", broken)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        segment_paths(segmenter, photos, tmp_path / "out")


def test_results_among_the_inputs(segmenter: Segmenter, photos: Path) -> None:
    before = {p: (photos / p).read_bytes() for p in tree(photos)}
    with pytest.raises(RedosegError, match="is the folder of the pictures; choose another folder for the results"):
        segment_paths(segmenter, photos, photos, overwrite=True)
    with pytest.raises(RedosegError, match="is a picture to segment"):
        segment_paths(segmenter, photos / "sub" / "a.png", photos / "sub", overwrite=True)
    # A folder of results inside the source is not segmented the next time.
    for _ in range(2):
        assert segment_paths(segmenter, photos, photos / "masks", overwrite=True).done == 4
    assert len(tree(photos / "masks")) == 4
    # Nor does a folder of results above the source hide it; what would be replaced is no picture of it.
    assert segment_paths(segmenter, photos / "sub", photos.parent).done == 1
    assert {p: (photos / p).read_bytes() for p in before} == before


def test_a_folder_does_not_go_into_a_files_name(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RedosegError, match=r"one\.png is the name of a file, but the results of a folder need a folder"
    ):
        segment_paths(segmenter, photos, tmp_path / "one.png")
    with pytest.raises(RedosegError, match=r"--label is for coco, .*but the kind is mask"):
        segment_paths(segmenter, photos, tmp_path / "out", label="lamp")


def test_a_picture_that_memory_cannot_hold_is_listed(
    segmenter: Segmenter, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reads(path: Path, take: Callable[[int], None], **limits: Any) -> Photo:
        if path.name == "b.jpg":
            raise MemoryError
        return read_photo(path, take=take, **limits)

    monkeypatch.setattr(one_image, "read_photo", reads)
    report = segment_paths(segmenter, photos, tmp_path / "out")
    assert (report.done, report.failed[0][1]) == (3, "does not fit the memory that is free: make it smaller")


def test_folders_that_are_refused(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no picture found in"):
        segment_paths(segmenter, tmp_path / "empty", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(RedosegError, match="is the name of a file, but the results of a folder need a folder"):
        segment_paths(segmenter, photos, tmp_path / "file")


def test_before_after() -> None:
    picture = bright_square(90, 60)
    mask = np.asarray(picture)[..., 0] > 0
    sheet = before_after([(picture, mask)] * 3, side=96)
    assert sheet.mode == "RGB"
    assert sheet.height > 3 * 96
    assert sheet.width > 3 * 96
    assert before_after([(picture, mask)] * 6, side=96).width > 6 * 96
    with pytest.raises(DataError, match="no picture for the before/after sheet"):
        before_after([])


# ----------------------------------------------------------------------------------- crops, COCO, reviews


def loaded(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(path)


def test_a_folder_as_one_coco_file(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    (photos / "bad.jpg").write_text("x")
    Image.new("RGB", (50, 30)).save(photos / "black.png")
    report = segment_paths(segmenter, photos, tmp_path / "out", kind="coco", label="lamp")
    assert (report.done, [path.name for path, _ in report.failed]) == (5, ["bad.jpg"])
    assert report.written == (tmp_path / "out" / "coco.json",)
    assert tree(tmp_path / "out") == ["coco.json"]
    coco = loaded(tmp_path / "out" / "coco.json")
    names = {entry["file_name"]: entry for entry in coco.loadImgs(coco.getImgIds())}
    assert sorted(names) == ["a.jpg", "a.png", "b.jpg", "black.png", "sub/a.png"]
    for name, entry in names.items():
        with Image.open(photos / name) as picture:
            assert (entry["width"], entry["height"]) == picture.size
        annotations = coco.loadAnns(coco.getAnnIds(entry["id"]))
        if name == "black.png":
            assert annotations == []
        else:
            assert np.array_equal(coco.annToMask(annotations[0]), segmenter(photos / name))
            assert 0 < annotations[0]["score"] <= 1
    assert [category["name"] for category in coco.dataset["categories"]] == ["lamp"]
    with pytest.raises(RedosegError, match=r"coco\.json exists: choose another path, or allow overwriting"):
        segment_paths(segmenter, photos, tmp_path / "out", kind="coco")
    segment_paths(segmenter, photos / "sub", tmp_path / "out", kind="coco", overwrite=True)
    assert len(loaded(tmp_path / "out" / "coco.json").getImgIds()) == 1


@pytest.mark.parametrize(
    "name", ["x.heic", "x.pdf", "X.PSD", "x.zip", "x.nef", "x.svg", "x.mkv", "x.npy", "x.JXL", "x.tga"]
)
def test_no_folder_is_called_like_a_file(name: str, segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RedosegError, match=r"the result is a \.png file; choose a name that ends in \.png, or a folder"
    ):
        segment_paths(segmenter, photos / "b.jpg", tmp_path / name)
    with pytest.raises(RedosegError, match="is the name of a file, but the results of a folder need a folder"):
        segment_paths(segmenter, photos, tmp_path / name)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["masks.v2", "2024.11", "x.", ".hidden", "mr. jones"])
def test_a_folder_may_have_a_dot(name: str, segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    segment_paths(segmenter, photos / "b.jpg", tmp_path / name)
    assert (tmp_path / name / "b.png").is_file()


def test_one_picture_as_coco(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    for out, there in ((tmp_path / "x.json", "x.json"), (tmp_path / "folder", "folder/coco.json")):
        segment_paths(segmenter, photos / "b.jpg", out, kind="coco")
        entry = json.loads((tmp_path / there).read_text())
        assert entry["images"][0]["file_name"] == "b.jpg"
        assert entry["categories"][0]["name"] == "bright"
    for kind, name in (("coco", "x.png"), ("mask", "y.json")):
        with pytest.raises(RedosegError, match="choose a name that ends in"):
            segment_paths(segmenter, photos / "b.jpg", tmp_path / name, kind=kind)  # type: ignore[arg-type]
    with pytest.raises(RedosegError, match="remove one of them"):
        segment_paths(segmenter, photos, tmp_path / "out", kind="coco", crop=True)


@pytest.mark.parametrize("kind", DRAWN)
def test_a_crop_is_the_box_around_the_object(segmenter: Segmenter, photos: Path, kind: Kind, tmp_path: Path) -> None:
    segment_paths(segmenter, photos / "b.jpg", tmp_path / "whole.png", kind=kind)
    segment_paths(segmenter, photos / "b.jpg", tmp_path / "crop.png", kind=kind, crop=True)
    rows, columns = np.nonzero(segmenter(photos / "b.jpg"))
    with Image.open(tmp_path / "whole.png") as whole, Image.open(tmp_path / "crop.png") as crop:
        assert crop.mode == whole.mode
        left, top, right, bottom = columns.min() - 1, rows.min() - 1, columns.max() + 2, rows.max() + 2  # 2 % of 48
        assert np.array_equal(np.asarray(crop), np.asarray(whole.crop((left, top, right, bottom))))


def test_a_crop_needs_an_object(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (50, 30)).save(photos / "black.png")
    with pytest.raises(DataError, match=r"black\.png: no object was found to crop to"):
        segment_paths(segmenter, photos / "black.png", tmp_path / "x.png", crop=True)
    report = segment_paths(segmenter, photos, tmp_path / "out", crop=True)
    assert report.done == 4
    assert report.failed[0][1].startswith("no object was found")


def test_a_review_goes_from_the_least_to_the_most_sure(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "greys"
    (source / "sub").mkdir(parents=True)
    for name, grey in {"sure.png": 255, "sub/half.png": 140, "rather.png": 220, "\u00e9\u6f22.png": 180}.items():
        Image.new("RGB", (40, 30), (grey,) * 3).save(source / name)
    (source / "bad.png").write_text("x")
    report = segment_paths(Segmenter(run, threads=2), source, tmp_path / "out", review=True)
    assert report.done == 4
    assert tree(tmp_path / "out") == sorted(
        ["rather.png", "review-1.jpg", "review.csv", "sub/half.png", "sure.png", "\u00e9\u6f22.png"]
    )
    with open(tmp_path / "out" / "review.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == ["sub/half.png", "\u00e9\u6f22.png", "rather.png", "sure.png"]
    sure = [float(row["confidence"]) for row in rows]
    assert sure == sorted(sure)
    assert (sure[0], sure[-1]) == (pytest.approx(0.01, abs=0.02), pytest.approx(1, abs=0.01))
    assert [row["object_share"] for row in rows] == ["1.0000"] * 4
    with Image.open(tmp_path / "out" / "review-1.jpg") as sheet:
        brightness = np.asarray(sheet.convert("L"))[40:90]
        middles = [brightness[:, 4 + 132 * i + 34 : 4 + 132 * i + 94].mean() for i in range(4)]
    assert middles == sorted(middles)  # the sheet is in the table's order


def test_a_review_has_pages_and_leaves_no_old_one(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_files, "_ROWS", 1)
    source = noisy_folder(tmp_path / "noisy", 20)
    segment_paths(segmenter, source, tmp_path / "out", kind="coco", review=True)
    pages = ["review-1.jpg", "review-2.jpg", "review-3.jpg"]
    assert tree(tmp_path / "out") == ["coco.json", *pages, "review.csv"]
    with pytest.raises(RedosegError, match=r"review\.csv exists"):
        segment_paths(segmenter, source, tmp_path / "out", review=True)
    assert tree(tmp_path / "out") == ["coco.json", *pages, "review.csv"]  # refused before the work
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "review-3.jpg").write_text("mine")
    with pytest.raises(RedosegError, match=r"review-3\.jpg exists"):
        segment_paths(segmenter, source, tmp_path / "other", review=True)
    assert tree(tmp_path / "other") == ["review-3.jpg"]
    for path in sorted(source.iterdir())[5:]:
        path.unlink()
    (tmp_path / "out" / "review-4.jpg").write_text("mine")
    segment_paths(segmenter, source, tmp_path / "out", kind="coco", overwrite=True, review=True)
    assert tree(tmp_path / "out") == ["coco.json", "review-1.jpg", "review-4.jpg", "review.csv"]
    with pytest.raises(RedosegError, match=r"a review sheet \(--review\) shows the pictures of a folder"):
        segment_paths(segmenter, source / "00.png", tmp_path / "alone", review=True)


def test_ctrl_c_leaves_what_all_pictures_share(segmenter: Segmenter, tmp_path: Path) -> None:
    source = noisy_folder(tmp_path / "noisy", 20)

    def stop(_path: Path, done: int, _total: int, _why: str | None) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_paths(segmenter, source, tmp_path / "out", kind="coco", on_item=stop, review=True)
    assert len(loaded(tmp_path / "out" / "coco.json").getImgIds()) == 6
    assert len((tmp_path / "out" / "review.csv").read_text().splitlines()) == 7
