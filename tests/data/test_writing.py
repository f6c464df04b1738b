"""Writing a prepared set: on all cores, stopped at any moment, on a full disk; the bytes never depend on it."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redoseg.data import Item, Listing, open_prepared, prepare, write_prepared, writing
from redoseg.data.decoding import decode
from redoseg.data.folder import list_folder
from redoseg.data.writing import Prepared
from redoseg.errors import DataError

Start = Callable[..., subprocess.Popen[str]]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 pictures of 90x60 in sub-folders, two of them broken, most with masks, one of those broken."""
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    for i in range(120):
        picture = folder / "images" / f"{i % 3}" / f"{i:03}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        small = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
        Image.fromarray(small).resize((90, 60), Image.Resampling.BICUBIC).save(picture, compress_level=1)
        if i % 4:
            mask = folder / "masks" / f"{i % 3}" / f"{i:03}.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(((small[..., 0] > 128) * 255).astype(np.uint8)).resize((90, 60), 0).save(mask)
    (folder / "images" / "0" / "060.png").write_bytes(b"not a picture")
    whole = (folder / "images" / "1" / "061.png").read_bytes()
    (folder / "images" / "1" / "061.png").write_bytes(whole[: len(whole) // 2])
    (folder / "masks" / "2" / "062.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one thread makes of it in one go."""
    out = tmp_path_factory.mktemp("whole") / "out"
    report = prepare("folder", source, out, 24, workers=1)
    assert (report.pictures, report.labelled, report.found) == (118, 88, 0)
    assert [path for path, _ in report.bad] == ["images/0/060.png", "images/1/061.png", "masks/2/062.png"]
    return bytes_of(out)


def test_many_threads_give_the_bytes_of_one(source: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    seen: list[int] = []
    prepare("folder", source, tmp_path / "out", 24, workers=3, on_item=lambda done, total: seen.append(done))
    assert bytes_of(tmp_path / "out") == undisturbed
    assert seen == list(range(1, 121))
    assert os.listdir(tmp_path) == ["out"]


def test_pictures_come_in_their_order_from_all_threads(source: Path) -> None:
    items = list_folder(source).items
    for one, many in zip(decode(items, 16), decode(items, 16, threads=2), strict=True):
        assert one.problems == many.problems
        for a, b in ((one.image, many.image), (one.mask, many.mask)):
            assert (a is None and b is None) or np.array_equal(a, b)  # type: ignore[arg-type]


@pytest.mark.parametrize("broken", ["image", pytest.param("mask", marks=pytest.mark.slow)])
def test_a_file_that_crashes_its_decoder_is_named_when_the_call_is_made_again(
    broken: str, start: Start, crashing_file: bytes, source: Path, tmp_path: Path
) -> None:
    damaged, out = tmp_path / "damaged", tmp_path / "out"
    shutil.copytree(source, damaged)
    name = "images/2/065.png" if broken == "image" else "masks/2/065.png"
    (damaged / name).write_bytes(crashing_file)
    with preparing(start, damaged, out) as process:
        assert process.wait() == -signal.SIGSEGV
    assert not out.exists()
    with preparing(start, damaged, out) as process:
        assert process.wait() == 0
    report = open_prepared(out)
    assert len(report) == (117 if broken == "image" else 118)
    assert [why for path, why in report.bad if path == name] == [
        "reading it crashed the decoder (signal 11), so it may be damaged; replace or remove it"
        + ("" if broken == "image" else "; its picture is kept as not labelled")
    ]
    assert len(report.bad) == 4
    assert sorted(os.listdir(tmp_path)) == ["damaged", "out"]


def test_a_number_of_workers_below_0_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^the number of workers is -1, but must be 1 or more, or 0"):
        prepare("folder", source, tmp_path / "out", 24, workers=-1)


# ------------------------------------------------------------------------------------------------- stopped


def preparing(start: Start, source: Path, out: Path, first: str = "") -> subprocess.Popen[str]:
    """`prepare` in a process of its own, which notes what is done every seven pictures."""
    code = f"""
from redoseg.data import prepare, writing
writing.COMMIT_ITEMS = 7
{first}
print(prepare("folder", {str(source)!r}, {str(out)!r}, 24, workers=2).found)
"""
    return start("-c", code)


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_continues(
    times: int, start: Start, source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    started = time.monotonic()
    with preparing(start, source, out) as process:
        assert process.wait() == 0
    seconds = time.monotonic() - started
    assert bytes_of(out) == undisturbed
    shutil.rmtree(out)

    moments = random.Random(0)
    kills, went_on = 0, 0
    while kills < times:
        with preparing(start, source, out) as process:
            try:
                process.wait(moments.uniform(0.2 * seconds, seconds))
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
            else:
                assert process.returncode == 0
                assert process.stdout is not None
                went_on += int(process.stdout.read()) > 0
        if out.exists():  # whole, however it ended
            assert bytes_of(out) == undisturbed
            shutil.rmtree(out)
        else:
            with pytest.raises(DataError):
                open_prepared(out)
    with preparing(start, source, out) as process:
        assert process.wait() == 0
    assert bytes_of(out) == undisturbed
    assert os.listdir(tmp_path) == ["out"]


def stop_at(number: int, source: Path, out: Path) -> None:
    """Prepare and stop by hand after so many items."""

    def stop(done: int, total: int) -> None:
        if done == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("folder", source, out, 24, workers=1, on_item=stop)
    assert not out.exists()


@pytest.fixture
def commit_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "COMMIT_ITEMS", 7)


@pytest.mark.usefixtures("commit_often")
def test_what_is_done_is_not_done_again(source: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    stop_at(65, source, out)
    assert prepare("folder", source, out, 24).found == 65
    assert bytes_of(out) == undisturbed


@pytest.mark.every(4)
@pytest.mark.usefixtures("commit_often")
@pytest.mark.parametrize("damage", ["torn line", "short pixels", "no pixels", "garbage"])
def test_a_power_cut_costs_work_but_no_bytes(
    damage: str, source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    stop_at(100, source, out)
    partial = tmp_path / ".out.partial"
    journal, images = partial / "done.jsonl", partial / "set" / "images.npy"
    if damage == "torn line":
        journal.write_bytes(journal.read_bytes()[:-3])
    elif damage == "short pixels":
        os.truncate(images, 20_000)
    elif damage == "no pixels":
        images.unlink()
    else:
        journal.write_bytes(b"\0" * 100 + b"\n")
    assert prepare("folder", source, out, 24).found == (98 if damage == "torn line" else 0)
    assert bytes_of(out) == undisturbed


@pytest.mark.usefixtures("commit_often")
def test_other_pictures_or_settings_start_again(source: Path, tmp_path: Path) -> None:
    changing = tmp_path / "changing"
    shutil.copytree(source, changing)
    out = tmp_path / "out"
    stop_at(50, changing, out)
    shutil.copy(source / "images" / "1" / "001.png", changing / "images" / "0" / "000.png")
    assert prepare("folder", changing, out, 24).found == 0
    shutil.rmtree(out)
    stop_at(50, changing, out)
    assert prepare("folder", changing, out, 16).found == 0
    assert open_prepared(out).size == 16


def test_stopped_around_the_last_moment(
    source: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # all is written but the set is not in its place
        patch.setattr(os, "rename", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare("folder", source, out, 24)
    assert not out.exists()
    assert prepare("folder", source, out, 24).found == 120
    assert bytes_of(out) == undisturbed
    (tmp_path / ".out.partial").mkdir()  # it is, but the rest has not been swept up
    assert prepare("folder", source, out, 24) == Prepared(
        out=out, pictures=118, labelled=88, bad=open_prepared(out).bad, notes=open_prepared(out).notes, found=118
    )
    assert bytes_of(out) == undisturbed
    assert os.listdir(tmp_path) == ["out"]


def test_the_very_same_set_is_not_made_again_and_another_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert prepare("folder", source, out, 24).found == 0
    assert prepare("folder", source, out, 24).found == 118
    with pytest.raises(DataError, match=r"other pictures or settings \(118 pictures, 24 px\); choose a new folder"):
        prepare("folder", source, out, 16)
    assert open_prepared(out).size == 24


def test_two_at_once(start: Start, source: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    out = tmp_path / "out"
    listing = list_folder(source)
    refused: list[str] = []

    def second(done: int, total: int) -> None:
        if done == 60:
            with pytest.raises(DataError) as caught:
                prepare("folder", source, out, 24)
            refused.append(str(caught.value))

    prepare("folder", source, out, 24, workers=1, on_item=second)
    assert refused == [f"{out} is being written by another process; wait for it, or choose another folder"]
    assert bytes_of(out) == undisturbed
    # one that waits finds the set made
    shutil.rmtree(out)
    with preparing(start, source, out, SLOWLY + "writing.decode = slowly"):
        while not (tmp_path / ".out.partial" / "plan").exists():
            time.sleep(0.01)
        name = source.name
        assert write_prepared(out, name, listing, size=24, source=source, wait=True).found == 118
    assert bytes_of(out) == undisturbed


SLOWLY = """
import time
from redoseg.data.decoding import decode
from redoseg.data.folder import list_folder
def slowly(*a, **k):
    for one in decode(*a, **k):
        time.sleep(0.005)
        yield one
"""


def test_ctrl_c_ends_it_in_one_traceback(start: Start, source: Path, tmp_path: Path) -> None:
    with preparing(start, source, tmp_path / "out", SLOWLY + "writing.decode = slowly") as process:
        while not (tmp_path / ".out.partial" / "plan").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    # where it comes while Python lets go of a lock, Python's own exception stands above it
    assert said.count("Traceback") == 1 + said.count("During handling of the above exception")
    assert said.endswith("KeyboardInterrupt\n")


def test_a_file_system_without_locks(
    source: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def missing(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", missing)
    prepare("folder", source, tmp_path / "out", 24)
    assert bytes_of(tmp_path / "out") == undisturbed


# --------------------------------------------------------------------------------------------- full, and flat


def test_a_full_disk_ends_in_one_line_and_loses_nothing(
    source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, {resource.RLIM_INFINITY}))"
    code = f"from redoseg.data import writing; writing.COMMIT_ITEMS = 7; {limit}; from redoseg.cli.main import main"
    code += "; main()"
    command = [sys.executable, "-c", code, "prepare", "folder", "--source", source, "--out", out, "--size", "24"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        f"redoseg: {out}: cannot be written (File too large): free space or choose another path; what is done is "
        "kept, and the same command continues from there\n"
    )
    assert not out.exists()
    assert 84 <= prepare("folder", source, out, 24).found <= 86  # whole sevens, or what is written at the end
    assert bytes_of(out) == undisturbed


def test_too_little_space_is_seen_before_the_work(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 2**40, 10**6))
    with pytest.raises(DataError) as caught:
        prepare("folder", source, tmp_path / "out", 256)
    assert str(caught.value) == (
        f"120 pictures need 31 MB, but {tmp_path} has 1 MB free; free space, or choose another path or a smaller size"
    )


def test_memory_stays_flat(tmp_path: Path) -> None:
    one = tmp_path / "x.png"
    Image.new("RGB", (40, 30)).save(one)
    listing = Listing(tuple(Item(str(i), one) for i in range(300)))
    tracemalloc.start()
    write_prepared(tmp_path / "out", "x", listing, size=64, source=tmp_path, workers=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "out/images.npy").stat().st_size > 3_600_000
    assert peak < 1_000_000


def test_the_set_says_how_it_was_made(source: Path, tmp_path: Path) -> None:
    prepare("folder", source, tmp_path / "out", 24)
    about = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert about["source"] == str(source)
    assert about["pictures"] == 118
    assert set(about["made_with"]) == {"redoseg", "pillow", "numpy"}
    assert about["bad"][0] == [
        "images/0/060.png",
        "not a picture of a known format; replace or remove it",
    ]
