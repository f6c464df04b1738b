"""Films: as many frames at the same times, the same sound, whole or not at all, and steady masks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from bright import bright_square, tree, write_model
from numpy.typing import NDArray
from PIL import Image

from redoseg.cli.main import run_command
from redoseg.config.kinds import Kind
from redoseg.errors import DataError, MissingError, RedosegError
from redoseg.inference.film_writing import FilmFormat
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter

av = pytest.importorskip("av")

BASE = Fraction(1, 15360)
STEP = 1024  # a fifteenth of a second


class Read(NamedTuple):
    """What is in a film."""

    frames: list[NDArray[np.uint8]]
    times: list[Fraction]
    """Seconds."""
    sound: list[bytes]
    heard: list[Fraction]
    """When each packet of the sound begins [s]."""
    duration: Fraction
    pixels: str


def read(path: Path, form: str = "rgb24", decoder: str = "") -> Read:
    """All of a film; `decoder` names one that sees the opacity."""
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        context = av.CodecContext.create(decoder, "r") if decoder else video.codec_context
        frames, times, sound, heard = [], [], [], []
        for packet in file.demux():
            if packet.stream.type == "audio":
                if packet.size:
                    sound.append(bytes(packet))
                    heard.append(packet.pts * packet.time_base)
                continue
            for frame in context.decode(packet if packet.size else None):
                frames.append(frame.to_ndarray(format=form))
                times.append(frame.pts * (frame.time_base or video.time_base))
        length = video.duration * video.time_base if video.duration else Fraction(file.duration, 1_000_000)
        return Read(frames, times, sound, heard, length, video.codec_context.pix_fmt)


def scene(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A bright square that moves to the right over dark ground."""
    image = np.full((size[1], size[0], 3), 30, np.uint8)
    left = size[0] // 6 + number
    image[size[1] // 4 : 3 * size[1] // 4, left : left + size[0] // 2] = (230, 220, 200)
    return image


def write_film(
    path: Path,
    *,
    count: int = 10,
    size: tuple[int, int] = (96, 64),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    sound: str = "aac",
    times: Sequence[int] = (),
    turned: int = 0,
    images: Sequence[NDArray[np.uint8]] = (),
    options: dict[str, str] | None = None,
) -> Path:
    """A small film, with a tone of its length if `sound` names a codec."""
    times = times or [number * STEP for number in range(count)]
    with av.open(str(path), "w", options=options or {}) as file:
        video = file.add_stream(codec, rate=15)
        video.width, video.height, video.pix_fmt = *size, pixels
        video.time_base = video.codec_context.time_base = BASE
        if turned:
            video.set_display_rotation(turned)
        heard = file.add_stream(sound, rate=48_000, layout="stereo") if sound else None
        for number, shown in enumerate(times):
            image = images[number] if len(images) else scene(number, size)
            frame = av.VideoFrame.from_ndarray(image, format="rgba" if image.shape[2] == 4 else "rgb24")
            frame.pts, frame.time_base = shown, BASE
            file.mux(video.encode(frame))
        file.mux(video.encode())
        if heard is not None:
            wave = (np.sin(np.arange(times[-1] * 48_000 // BASE.denominator // 960 * 960) / 20) * 8000).astype(np.int16)
            for start in range(0, len(wave), 960):
                samples = np.repeat(wave[start : start + 960], 2)[None]
                part = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
                part.sample_rate, part.pts, part.time_base = 48_000, start, Fraction(1, 48_000)
                file.mux(heard.encode(part))
            file.mux(heard.encode())
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finds what is bright."""
    return write_model(tmp_path_factory.mktemp("model") / "mask.onnx")


@pytest.fixture(scope="module")
def segmenter(model: Path) -> Segmenter:
    return Segmenter(model, threads=2)


def refused(segmenter: Segmenter, *sources: Path, out: Path, **settings: Any) -> str:
    """The one line that says why nothing was done; and nothing was."""
    before = tree(out.parent)
    with pytest.raises(RedosegError) as caught:
        segment_paths(segmenter, sources, out, **settings)
    assert "\n" not in str(caught.value)
    assert tree(out.parent) == before
    return str(caught.value)


# ------------------------------------------------------------------------------------------- frames, times, sound


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("kind", "film", "suffix", "same_sound"),
    [
        ("mask", "auto", ".mp4", True),
        ("overlay", "auto", ".mp4", True),
        ("mask", "ffv1", ".mkv", True),
        ("cutout", "prores", ".mov", True),
        ("cutout", "auto", ".webm", False),
    ],
)
def test_frames_times_and_sound_stay(
    kind: Kind, film: FilmFormat, suffix: str, same_sound: bool, segmenter: Segmenter, tmp_path: Path
) -> None:
    times = [STEP * number + 100 * (number % 3) for number in range(10)]  # a rate that varies, as of phones
    given = read(write_film(tmp_path / "a.mp4", times=times))
    report = segment_paths(segmenter, tmp_path / "a.mp4", tmp_path / "out", kind=kind, film=film)
    made = read(tmp_path / "out" / f"a{suffix}")
    assert len(made.frames) == len(given.frames) == report.films[0].frames == 10
    assert made.frames[0].shape == given.frames[0].shape
    # from the first frame on: the others cannot begin below 0, where the tone begins, so there all is a little later
    off = [abs(float(a - made.times[0] - b)) for a, b in zip(made.times, given.times, strict=True)]
    assert max(off) <= (0.0005 if suffix in (".webm", ".mkv") else 0)  # whose times are milliseconds
    assert abs(float(made.duration - given.duration)) < (0.1 if suffix in (".webm", ".mkv") else 0.002)
    assert (made.sound == given.sound) == same_sound
    assert len(made.sound) > 10
    late = [float(a - made.times[0] - b + given.times[0]) for a, b in zip(made.heard, given.heard, strict=same_sound)]
    assert max(map(abs, late)) <= (0.0005 if same_sound else 0.03)  # lips and voice stay together
    if not same_sound:
        assert "packed again as Opus" in " ".join(report.notes)


def test_webm_keeps_its_own_sound(segmenter: Segmenter, tmp_path: Path) -> None:
    given = read(write_film(tmp_path / "a.webm", codec="libvpx-vp9", sound="libopus"))
    report = segment_paths(segmenter, tmp_path / "a.webm", tmp_path / "out", kind="cutout")
    assert read(tmp_path / "out" / "a.webm").sound == given.sound
    assert report.notes == ()


def test_several_kinds_have_a_folder_each_and_the_same_sound(segmenter: Segmenter, tmp_path: Path) -> None:
    given = read(write_film(tmp_path / "a.mp4"))
    segment_paths(segmenter, tmp_path / "a.mp4", tmp_path / "out", kind=("mask", "overlay", "cutout"))
    assert tree(tmp_path / "out") == ["cutout/a.webm", "mask/a.mp4", "overlay/a.mp4"]
    assert read(tmp_path / "out" / "overlay" / "a.mp4").sound == given.sound
    assert read(tmp_path / "out" / "mask" / "a.mp4").sound == given.sound


def test_a_mask_is_that_of_the_frame_as_a_photograph(segmenter: Segmenter, tmp_path: Path) -> None:
    for number, frame in enumerate(read(write_film(tmp_path / "a.mp4", sound="")).frames):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    for film, name, pixels in (("ffv1", "exact", "gray"), ("auto", "close", "rgb24")):
        segment_paths(segmenter, tmp_path / "a.mp4", tmp_path / name, film=film, steady=0)  # type: ignore[arg-type]
        made = read(next((tmp_path / name).iterdir()), pixels).frames
        for number, mask in enumerate(made):
            alone = segmenter(tmp_path / f"{number}.png")
            grey = mask if film == "ffv1" else mask[..., 1]
            assert ((grey > 127) == alone).all()
            assert film != "ffv1" or set(np.unique(grey)) == {0, 255}


@pytest.mark.parametrize("film", ["webm", "prores", "ffv1"])
def test_a_cutout_is_transparent_where_there_is_no_object(
    film: FilmFormat, segmenter: Segmenter, tmp_path: Path
) -> None:
    write_film(tmp_path / "a.mp4", sound="")
    segment_paths(segmenter, tmp_path / "a.mp4", tmp_path / "out", kind="cutout", film=film)
    made = read(next((tmp_path / "out").iterdir()), "rgba", "libvpx-vp9" if film == "webm" else "")
    for frame in made.frames:
        assert frame.shape == (64, 96, 4)
        assert frame[32, 48, 3] > 250
        assert frame[4, 4, 3] < 5
        assert np.abs(frame[32, 48, :3].astype(int) - (230, 220, 200)).max() < 12


def test_a_film_of_frames_that_is_transparent_is_masked_there(segmenter: Segmenter, tmp_path: Path) -> None:
    images = [np.dstack([scene(n, (96, 64)), np.full((64, 96), 255, np.uint8)]) for n in range(4)]
    for image in images:
        image[:, :48, 3] = 0
    for name, codec, pixels in (("a.mov", "qtrle", "argb"), ("a.webm", "libvpx-vp9", "yuva420p")):
        write_film(tmp_path / name, codec=codec, pixels=pixels, sound="", images=images, count=4)
        segment_paths(segmenter, tmp_path / name, tmp_path / codec, film="ffv1")
        for mask in read(tmp_path / codec / "a.mkv", "gray").frames:
            assert not mask[:, :44].any()
            assert mask[32, 56] == 255


def test_frames_are_a_folder_of_pictures(segmenter: Segmenter, tmp_path: Path) -> None:
    write_film(tmp_path / "a.mp4")
    segment_paths(segmenter, tmp_path / "a.mp4", tmp_path / "out", kind="cutout", film="frames")
    assert tree(tmp_path / "out") == [f"a/{number:06}.png" for number in range(1, 11)]
    with Image.open(tmp_path / "out" / "a" / "000001.png") as image:
        assert (image.mode, image.size) == ("RGBA", (96, 64))
    report = segment_paths(
        segmenter, tmp_path / "a.mp4", tmp_path / "out", kind="cutout", film="frames", skip_existing=True
    )
    assert report.films[0].skipped


def test_frames_are_replaced_when_all_new_ones_are_there(segmenter: Segmenter, tmp_path: Path) -> None:
    path, out = write_film(tmp_path / "a.mp4"), tmp_path / "out"
    segment_paths(segmenter, path, out, film="frames")
    before = {file: file.read_bytes() for file in (out / "a").iterdir()}

    def stops(film: Path, done: int, total: int | None) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_paths(segmenter, path, out, film="frames", kind="overlay", overwrite=True, on_frame=stops)
    assert {file: file.read_bytes() for file in (out / "a").iterdir()} == before
    segment_paths(segmenter, path, out, film="frames", kind="overlay", overwrite=True)
    assert {file for file in (out / "a").iterdir()} == set(before)
    assert all(file.read_bytes() != content for file, content in before.items())
    assert [file.name for file in out.iterdir()] == ["a"]


@pytest.mark.parametrize("has_name", [True, False])
def test_what_a_kill_leaves_while_frames_are_replaced(has_name: bool, segmenter: Segmenter, tmp_path: Path) -> None:
    """Killed when the new ones had the name already, or when nothing had it."""
    path, out = write_film(tmp_path / "a.mp4", count=3), tmp_path / "out"
    segment_paths(segmenter, path, out, film="frames")
    before = (out / "a" / "000001.png").read_bytes()
    (shutil.copytree if has_name else os.rename)(out / "a", out / ".a.0123abcd.old")

    def stops(film: Path, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_paths(segmenter, path, out, film="frames", kind="overlay", overwrite=True, on_frame=stops)
    assert [file.name for file in out.iterdir()] == ["a"]
    assert (out / "a" / "000001.png").read_bytes() == before


@pytest.mark.parametrize("kind", ["mask", "overlay"])
def test_odd_sides_stay_odd(kind: Kind, segmenter: Segmenter, tmp_path: Path) -> None:
    write_film(tmp_path / "a.mkv", codec="ffv1", pixels="bgr0", size=(97, 63), sound="")
    segment_paths(segmenter, tmp_path / "a.mkv", tmp_path / "out", kind=kind)
    assert read(tmp_path / "out" / "a.mp4").frames[0].shape == (63, 97, 3)


def test_a_film_of_a_phone_held_upright_is_turned(segmenter: Segmenter, tmp_path: Path) -> None:
    lying = np.full((64, 96, 3), 30, np.uint8)
    lying[:20, :40] = 240  # above, on the left
    for degrees in (90, 180, 270):
        path = write_film(tmp_path / f"{degrees}.mp4", turned=degrees, images=[lying] * 3, count=3, sound="")
        with av.open(str(path)) as file:
            turn = next(file.decode(video=0)).rotation
        segment_paths(segmenter, path, tmp_path / "out", film="ffv1")
        mask = read(tmp_path / "out" / f"{degrees}.mkv", "gray").frames[0]
        expected = np.rot90(lying[..., 0] > 128, turn // 90)  # rotation is counted against the clock
        assert mask.shape == expected.shape
        assert ((mask > 127) == expected).mean() > 0.97


def test_ten_bits_are_read(segmenter: Segmenter, tmp_path: Path) -> None:
    write_film(tmp_path / "a.mp4", pixels="yuv420p10le", sound="")
    segment_paths(segmenter, tmp_path / "a.mp4", tmp_path / "out")
    assert len(read(tmp_path / "out" / "a.mp4").frames) == 10


def test_grounds(segmenter: Segmenter, tmp_path: Path) -> None:
    write_film(tmp_path / "a.mp4")
    segment_paths(segmenter, tmp_path / "a.mp4", tmp_path / "out", kind="cutout", ground="#ff0000")
    made = read(tmp_path / "out" / "a.mp4")
    assert len(made.sound) > 10
    assert np.abs(made.frames[5][4, 4].astype(int) - (255, 0, 0)).max() < 12
    segment_paths(segmenter, tmp_path / "a.mp4", tmp_path / "blurred", kind="cutout", ground="blur")
    assert np.abs(read(tmp_path / "blurred" / "a.mp4").frames[5][4, 4].astype(int) - 30).max() < 12


# --------------------------------------------------------------------------------------------- which, and where


def test_films_beside_photographs(segmenter: Segmenter, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    bright_square().save(folder / "b.png")
    write_film(folder / "a.mp4", count=3)
    write_film(folder / "deep" / "a.mkv", count=3)
    write_film(folder / "deep" / "a.mov", count=3)
    report = segment_paths(segmenter, folder, folder / "out")
    assert (report.done, [film.frames for film in report.films]) == (1, [3, 3, 3])
    made = ["a.mp4", "b.png", "deep/a.mkv.mp4", "deep/a.mov.mp4"]
    assert tree(folder / "out") == made
    report = segment_paths(segmenter, folder, folder / "again")  # what redoseg made is no film to segment
    assert tree(folder / "again") == made
    report = segment_paths(segmenter, folder, folder / "labels", kind="coco")
    assert tree(folder / "labels") == ["coco.json"]
    assert any("films not segmented: 3" in note and "--as coco" in note for note in report.notes)


def test_one_file_by_its_name(segmenter: Segmenter, tmp_path: Path) -> None:
    write_film(tmp_path / "a.mp4", count=3)
    segment_paths(segmenter, tmp_path / "a.mp4", tmp_path / "cut.mov", kind="cutout")
    assert read(tmp_path / "cut.mov").pixels.startswith("yuva444p")


def test_mistakes_are_one_line(segmenter: Segmenter, tmp_path: Path) -> None:
    film, out = write_film(tmp_path / "a.mp4", count=3), tmp_path / "out"
    said = refused(segmenter, film, out=out, kind="coco")
    assert "--as coco is for pictures; choose mask" in said
    assert "--crop" in refused(segmenter, film, out=out, crop=True)
    assert "--steady is 99" in refused(segmenter, film, out=out, steady=99)
    assert "no transparency" in refused(segmenter, film, out=out, kind="cutout", film="mp4")
    assert "choose another folder" in refused(segmenter, film, out=tmp_path)
    assert "does not go with" in refused(segmenter, film, out=tmp_path / "b.mkv", film="mp4")
    assert "name of" in refused(segmenter, film, out=tmp_path / "b.png")
    (tmp_path / "text.mp4").write_text("no film")
    assert "cannot be read as a film" in refused(segmenter, tmp_path / "text.mp4", out=tmp_path / "c.mp4")
    with av.open(str(tmp_path / "song.mp4"), "w") as file:
        heard = file.add_stream("aac", rate=48_000, layout="mono")
        file.mux(heard.encode(_silence()))
        file.mux(heard.encode())
    assert "no pictures" in refused(segmenter, tmp_path / "song.mp4", out=tmp_path / "c.mp4")


def _silence() -> Any:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
    frame.sample_rate = 48_000
    return frame


def test_without_pyav_there_is_one_line(segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_film(tmp_path / "a.mp4", count=3)
    bright_square().save(tmp_path / "b.png")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingError, match=r"films need PyAV.*redoseg\[video\]"):
        segment_paths(segmenter, tmp_path / "a.mp4", tmp_path / "out")
    report = segment_paths(segmenter, tmp_path, tmp_path / "out")  # the photographs are segmented
    assert tree(tmp_path / "out") == ["b.png"]
    assert any("redoseg[video]" in note for note in report.notes)


def test_a_film_that_breaks_off_is_segmented_up_to_there(segmenter: Segmenter, tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", count=40, options={"movflags": "+faststart"}, sound="")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    report = segment_paths(segmenter, path, tmp_path / "out")
    assert 0 < report.films[0].frames < 40
    assert len(read(tmp_path / "out" / "a.mp4").frames) == report.films[0].frames
    assert any("a.mp4: ends" in note for note in report.notes)
    path.write_bytes(whole[:200])
    assert "no pictures" in refused(segmenter, path, out=tmp_path / "other")


def test_what_is_there_is_skipped(segmenter: Segmenter, tmp_path: Path) -> None:
    write_film(tmp_path / "a.mp4", count=3)
    call = {"source": tmp_path / "a.mp4", "out": tmp_path / "out", "skip_existing": True}
    assert segment_paths(segmenter, **call).films[0].frames == 3
    before = (tmp_path / "out" / "a.mp4").stat().st_mtime_ns
    assert segment_paths(segmenter, **call).films[0].skipped
    report = segment_paths(segmenter, **call, steady=0)
    assert (report.films[0].differs, len(report.differing)) == (True, 1)
    assert (tmp_path / "out" / "a.mp4").stat().st_mtime_ns == before
    assert segment_paths(segmenter, **call, steady=0, overwrite=True).films[0].frames == 3
    with pytest.raises(DataError, match="exists"):
        segment_paths(segmenter, tmp_path / "a.mp4", tmp_path / "out")


def test_the_command_says_how_steady_it_is(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_film(tmp_path / "a.mp4", count=5)
    words = ["segment", str(model), str(tmp_path / "a.mp4"), "-o", str(tmp_path / "out")]
    assert run_command(words) == 0
    said = capsys.readouterr().out
    assert "a.mp4: 5 frames segmented" in said
    assert "neighbouring masks overlap by 0.9" in said or "overlap by 1.000" in said
    assert run_command([*words, "--json", "--overwrite"]) == 0
    (film,) = json.loads(capsys.readouterr().out)["films"]
    assert film["frames"] == 5
    assert film["agreement"] > 0.9


@pytest.mark.every(2)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_kill_leaves_nothing_half(number: int, model: Path, tmp_path: Path, start: Any) -> None:
    write_film(tmp_path / "a.mp4", count=200)
    out = tmp_path / "out"
    process = start("-m", "redoseg", "segment", model, tmp_path / "a.mp4", "-o", out)
    until = time.monotonic() + 60
    while not (out.is_dir() and any(path.stat().st_size for path in out.glob(".*.tmp"))):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(process.pid, number)
    said = process.communicate()[1]
    assert not list(out.glob("[!.]*"))
    if number == signal.SIGINT:
        assert said.startswith("redoseg: stopped")
        assert said.count("\n") == 1
        assert list(out.iterdir()) == []
    write_film(tmp_path / "a.mp4", count=3)
    assert run_command(["segment", str(model), str(tmp_path / "a.mp4"), "-o", str(out), "--skip-existing"]) == 0
    assert [path.name for path in out.iterdir()] == ["a.mp4"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_memory_does_not_grow_with_the_film(model: Path, tmp_path: Path, start: Any) -> None:
    peaks = []
    for count in (60, 600):
        write_film(tmp_path / f"{count}.mp4", count=count, size=(480, 320), sound="")
        words = ["segment", str(model), str(tmp_path / f"{count}.mp4"), "-o", str(tmp_path / "out"), "--threads", "2"]
        code = (
            "import re, sys; from redoseg.cli.main import run_command; run_command(sys.argv[1:]); "
            "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
        )
        process = start("-c", code, *words)
        peaks.append(int(process.communicate()[0].split()[-1]))
    assert peaks[1] < peaks[0] + 40_000  # kB; 540 frames more would be 250 MB
