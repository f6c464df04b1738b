"""A stopped `segment` continues: what is up to date stays, what differs is named, shared files are completed."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bright import bright_square, tree, write_model
from PIL import Image

from redoseg.cli.main import run_command
from redoseg.errors import DataError, FullError, RedosegError
from redoseg.inference import shared_files
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter

NAMES = ["a.jpg", "a.png", "b.png", "c.png", "d.png", "sub/a.png"]
WAYS: dict[str, dict[str, Any]] = {
    "mask": {},
    "soft": {"kind": "soft"},
    "cut-out, cropped": {"kind": "cutout", "crop": True},
    "coco": {"kind": "coco"},
    "mask and review": {"review": True},
    "coco and review": {"kind": "coco", "review": True},
    "another threshold": {"threshold": 0.8},
    "yolo": {"kind": "yolo"},
    "labelme": {"kind": "labelme", "label": "lamp"},
    "several": {"kind": ["cutout", "coco", "yolo", "labelstudio"], "review": True, "polygons": True},
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        bright_square(60 + 4 * number, 40).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return Segmenter(write_model(tmp_path / "run" / "mask.onnx").parent, threads=1)


def stop_after(count: int) -> Callable[[Path, int, int, str | None], None]:
    def stop(_path: Path, done: int, _total: int, _why: str | None) -> None:
        if done == count:
            raise KeyboardInterrupt

    return stop


def times(folder: Path) -> dict[str, int]:
    return {
        name: (folder / name).stat().st_mtime_ns
        for name in tree(folder)
        if not name.startswith(("coco", "review", ".redoseg-keys"))
    }


def table(out: Path) -> list[dict[str, str]]:
    with open(out / "review.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_verdicts_stay_while_their_masks_do(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    """Also where a spreadsheet has sorted the table; a mask that is made again has no verdict."""
    out = tmp_path / "out"
    segment_paths(segmenter, photos, out, review=True)
    before = table(out)
    assert {row["verdict"] for row in before} == {""}
    assert all((out / row["file"]).samefile(photos / row["picture"]) for row in before)
    assert all((out / row["mask"]).is_file() for row in before)
    first, second = before[0], before[1]
    first["verdict"], second["verdict"] = "refuse", "accept"
    with open(out / "review.csv", "w", encoding="utf-8-sig", newline="") as file:
        rows = csv.DictWriter(file, before[0].keys())
        rows.writeheader()
        rows.writerows(reversed(before))
    with Image.open(photos / second["picture"]) as image:
        changed = Image.eval(image.convert("RGB"), lambda value: 255 - value)
    changed.save(photos / second["picture"])
    segment_paths(segmenter, photos, out, review=True, skip_existing=True, overwrite=True)
    after = {row["picture"]: row for row in table(out)}
    assert after[first["picture"]] == first
    assert {row["verdict"] for name, row in after.items() if name != first["picture"]} == {""}


@pytest.mark.every(3)
@pytest.mark.parametrize("way", WAYS)
def test_a_stopped_run_is_completed(way: str, segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    how, out, straight = WAYS[way], tmp_path / "out", tmp_path / "straight"
    if "yolo" in how.get("kind", "") and how["kind"] != "labelme":  # of a.jpg and a.png it has but one file
        (photos / "a.jpg").rename(photos / "e.jpg")
    segment_paths(segmenter, photos, straight, **how)
    with pytest.raises(KeyboardInterrupt):
        segment_paths(segmenter, photos, out, on_item=stop_after(3), **how)
    before = times(out)
    report = segment_paths(segmenter, photos, out, skip_existing=True, **how)
    assert (report.done + report.skipped, report.failed, report.differing) == (len(NAMES), (), ())
    assert report.skipped >= 3
    if "review" not in how:  # which may lack a picture that was under way
        assert before.items() <= times(out).items()  # nothing was written again
    assert tree(out) == tree(straight)
    for name in tree(straight):
        # the tiles of a page are packed again, and a picture may be noted twice
        if not name.endswith((".jpg", ".redoseg-keys")):
            assert (out / name).read_bytes() == (straight / name).read_bytes(), name
    again = segment_paths(segmenter, photos, out, skip_existing=True, **how)
    assert (again.done, again.skipped, again.written) == (0, len(NAMES), ())


def changed_photo(photos: Path, _: Path) -> dict[str, Any]:
    Image.new("RGB", (30, 30), (255, 255, 255)).save(photos / "b.png")
    return {}


def changed_photo_of_an_older_date(photos: Path, _: Path) -> dict[str, Any]:
    changed_photo(photos, _)
    os.utime(photos / "b.png", (0, 0))
    return {}


def result_of_someone_else(_: Path, out: Path) -> dict[str, Any]:
    Image.new("L", (68, 40)).save(out / "b.png")
    return {}


def not_a_picture(_: Path, out: Path) -> dict[str, Any]:
    (out / "b.png").write_text("mine")
    return {}


@pytest.mark.parametrize(
    "change", [changed_photo, changed_photo_of_an_older_date, result_of_someone_else, not_a_picture]
)
def test_what_differs_is_named_and_replaced_on_request(
    change: Callable[[Path, Path], dict[str, Any]], segmenter: Segmenter, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    segment_paths(segmenter, photos, out)
    change(photos, out)
    before = (out / "b.png").read_bytes()
    report = segment_paths(segmenter, photos, out, skip_existing=True)
    assert (report.done, report.skipped, report.differing) == (0, 5, (photos / "b.png",))
    assert (out / "b.png").read_bytes() == before
    report = segment_paths(segmenter, photos, out, skip_existing=True, overwrite=True)
    assert (report.done, report.skipped) == (1, 5)
    with Image.open(photos / "b.png") as photo, Image.open(out / "b.png") as mask:
        assert mask.size == photo.size


@pytest.mark.parametrize("kind", ["yolo", "labelme"])
def test_labels_that_a_person_corrected_stay(kind: Any, segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    out, name = tmp_path / "out", {"yolo": "labels/b.txt", "labelme": "b.json"}[kind]
    segment_paths(segmenter, photos / "b.png", out, kind=kind)
    assert segment_paths(segmenter, photos / "b.png", out, kind=kind, skip_existing=True).skipped == 1
    (out / name).write_text("mine")
    with pytest.raises(RedosegError, match="exists: choose another path"):
        segment_paths(segmenter, photos / "b.png", out, kind=kind)
    report = segment_paths(segmenter, photos / "b.png", out, kind=kind, skip_existing=True)
    assert (report.skipped, report.differing) == (0, (photos / "b.png",))
    assert (out / name).read_text() == "mine"
    segment_paths(segmenter, photos / "b.png", out, kind=kind, skip_existing=True, overwrite=True)
    assert segment_paths(segmenter, photos / "b.png", out, kind=kind, skip_existing=True, label="x").differing == (
        photos / "b.png",
    )


@pytest.mark.parametrize("how", [{"kind": "soft"}, {"crop": True}, {"threshold": 0.9}], ids=str)
def test_other_settings_differ(how: dict[str, Any], segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment_paths(segmenter, photos, out)
    assert len(segment_paths(segmenter, photos, out, skip_existing=True, **how).differing) == len(NAMES)
    assert segment_paths(segmenter, photos, out, skip_existing=True, overwrite=True, **how).done == len(NAMES)


def test_another_model_or_edges_differ(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment_paths(segmenter, photos / "b.png", out)
    for other in (Segmenter(tmp_path / "run", edges="plain"), Segmenter("flowers")):
        assert segment_paths(other, photos / "b.png", out, skip_existing=True).differing == (photos / "b.png",)
    os.utime(photos / "b.png")  # a newer date alone is no change
    assert segment_paths(segmenter, photos / "b.png", out, skip_existing=True).skipped == 1


@pytest.mark.parametrize("kind", ["mask", "coco"])
def test_new_pictures_join(kind: Any, segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segment_paths(segmenter, photos, out, kind=kind, review=True)
    bright_square(90, 50).save(photos / "e.png")
    report = segment_paths(segmenter, photos, out, kind=kind, review=True, skip_existing=True)
    assert (report.done, report.skipped) == (1, len(NAMES))
    assert sorted(row["picture"] for row in table(out)) == sorted([*NAMES, "e.png"])
    if kind == "coco":
        assert len(json.loads((out / "coco.json").read_text())["images"]) == len(NAMES) + 1


def test_a_review_is_made_of_results_that_have_none(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    segment_paths(segmenter, photos, tmp_path / "out")
    segment_paths(segmenter, photos, tmp_path / "out", review=True, skip_existing=True)
    assert len(table(tmp_path / "out")) == len(NAMES)


def test_the_tiles_of_an_earlier_page_are_the_same_pictures(
    segmenter: Segmenter, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_files, "_ROWS", 1)
    monkeypatch.setattr(shared_files, "_COLUMNS", 2)
    segment_paths(segmenter, photos, tmp_path / "straight", review=True)
    with pytest.raises(KeyboardInterrupt):
        segment_paths(segmenter, photos, tmp_path / "out", on_item=stop_after(3), review=True)
    segment_paths(segmenter, photos, tmp_path / "out", review=True, skip_existing=True)
    for page in ("review-1.jpg", "review-2.jpg", "review-3.jpg"):
        with Image.open(tmp_path / "straight" / page) as a, Image.open(tmp_path / "out" / page) as b:
            assert np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).mean() < 3


@pytest.mark.parametrize(
    "content", [b"", b"mine", b"[]", b'{"info": {}}', b'{"info": {"description": 3}}', b"[" * 10**5]
)
def test_a_foreign_coco_file_is_not_replaced(
    content: bytes, segmenter: Segmenter, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "coco.json").write_bytes(content)
    with pytest.raises(RedosegError, match=r"coco\.json exists"):
        segment_paths(segmenter, photos, tmp_path / "out", kind="coco", skip_existing=True)
    assert (tmp_path / "out" / "coco.json").read_bytes() == content


def test_now_and_then_all_is_written(
    segmenter: Segmenter, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a kill or a power cut costs no more than a minute."""
    monkeypatch.setattr(shared_files, "_EVERY", 0)
    seen = []

    def look(*_: object) -> None:
        path = tmp_path / "out" / "coco.json"
        seen.append(len(json.loads(path.read_text())["images"]) if path.exists() else 0)

    segment_paths(segmenter, photos, tmp_path / "out", kind="coco", on_item=look)
    assert seen[-1] >= 1


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EROFS", "EIO"])
@pytest.mark.parametrize("kind", ["mask", "coco"])
def test_a_full_disk_stops_at_the_first_picture(
    kind: Any, error: str, segmenter: Segmenter, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, fsync, tried = getattr(errno, error), os.fsync, []

    def full(descriptor: int) -> None:
        tried.append(1)
        if len(tried) > (2 if kind == "mask" else 0):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError) as caught:
        segment_paths(segmenter, photos, tmp_path / "out", kind=kind)
    assert isinstance(caught.value, FullError)
    assert "\n" not in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    if kind == "mask":
        assert len(tried) <= 3 + 2 * segmenter.threads
        assert "2 of 6 pictures are segmented, and --skip-existing continues" in str(caught.value)
        monkeypatch.setattr(os, "fsync", fsync)
        assert segment_paths(segmenter, photos, tmp_path / "out", skip_existing=True).skipped == 2
    assert [name for name in tree(tmp_path / "out") if name.endswith(".tmp")] == []


def test_the_command(segmenter: Segmenter, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["segment", str(tmp_path / "run"), str(photos), "-o", str(tmp_path / "out")]
    assert run_command([*command, "--threshold", "0.6"]) == 0
    (tmp_path / "out" / "c.png").unlink()
    capsys.readouterr()
    assert run_command([*command, "--threshold", "0.6", "--skip-existing"]) == 0
    assert capsys.readouterr().out.startswith(
        f"1 of 6 pictures segmented into {tmp_path / 'out'}; 5 were there already, "
        "whose confidence is not known now (--review shows it)\n"
    )
    assert run_command([*command, "--skip-existing"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"0 of 6 pictures segmented into {tmp_path / 'out'}"
    assert said[1].startswith("6 results were made with other settings, or their pictures have changed since")
    assert len(said) == 2
