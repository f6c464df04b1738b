"""The segmenter on pictures of any size, files and folders; its stand-in model finds what is bright."""

import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from redoseg import segmenter as segmenter_module
from redoseg.errors import DataError, ModelError, RedosegError
from redoseg.pictures import read_picture
from redoseg.segmenter import Kind, Segmenter, before_after, segment_paths

SIZE = 16
METADATA = {
    "redoseg_format": "1",
    "size": str(SIZE),
    "regions": "2",
    "object_region": "1",
    "picture_range": "-1 1",
    "name": "bright",
}


def write_model(path: Path, metadata: dict[str, str] = METADATA, output: str = "masks") -> Path:
    """Region 1 is the picture's brightness in the range -1 to 1, region 0 the rest."""
    nodes = [
        helper.make_node("ReduceMean", ["picture", "channels"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "half"], ["halved"]),
        helper.make_node("Add", ["halved", "half"], ["object"]),
        helper.make_node("Sub", ["one", "object"], ["background"]),
        helper.make_node("Concat", ["background", "object"], [output], axis=1),
    ]
    constants = [
        helper.make_tensor("channels", TensorProto.INT64, [1], [1]),
        helper.make_tensor("half", TensorProto.FLOAT, [1], [0.5]),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
    ]
    graph = helper.make_graph(
        nodes,
        "bright",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", 2, SIZE, SIZE])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_model(tmp_path / "run" / "mask.onnx").parent


@pytest.fixture
def segmenter(run: Path) -> Segmenter:
    return Segmenter(run, threads=1)


def bright_square(width: int = 96, height: int = 64) -> Image.Image:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 255
    return Image.fromarray(pixels)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("a.jpg", "a.png", "sub/a.png", "b.jpg"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        bright_square().save(path)
    return folder


def tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


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
    with pytest.raises(DataError, match=r"uint8 \(70, 16, 16\) seen, uint8 \(N, H, W, 3\) expected"):
        segmenter.batch(images[..., 0])


def test_batch_of_another_size_is_at_that_size(segmenter: Segmenter) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 24, 3)).astype(np.uint8)
    soft = segmenter.batch(images)
    assert soft.shape == (3, 2, 40, 24)
    assert np.allclose(soft[2, 1], segmenter.soft(images[2]), atol=1e-6)


def test_an_array_of_another_kind(segmenter: Segmenter) -> None:
    with pytest.raises(DataError, match=r"picture float64 \(4, 4, 3\) seen, uint8 \(H, W, 3\) expected"):
        segmenter(np.zeros((4, 4, 3)))  # type: ignore[arg-type]


def test_what_is_no_model(tmp_path: Path, run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def refused(model: str | Path) -> str:
        with pytest.raises(ModelError) as caught:
            Segmenter(model)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    accepted = "name a run folder, a model folder, an .onnx file or weights that come with redoseg ("
    assert f"model no-such-model does not exist: {accepted}" in refused("no-such-model")
    (tmp_path / "empty").mkdir()
    assert f"has no mask.onnx: {accepted}" in refused(tmp_path / "empty")
    text = tmp_path / "text.onnx"
    text.write_text("not a model")
    assert refused(text) == f"{text} is not an ONNX model: name a run folder, a model folder or an .onnx file"
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
    assert "has format 2, 1 expected: use the redoseg that wrote it" in refused(newer)
    assert capfd.readouterr() == ("", "")


def test_a_model_whose_size_is_a_lie_fails_in_one_line(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", METADATA | {"size": "8"})
    with pytest.raises(ModelError) as caught:
        Segmenter(model, threads=1)(bright_square())
    assert "\n" not in str(caught.value)


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
    with pytest.raises(RedosegError, match="kind 'svg' is not known, one of these expected: mask, soft"):
        segment_paths(segmenter, photos, tmp_path / "out", kind="svg")  # type: ignore[arg-type]


def test_one_picture_that_is_refused(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    def refused(source: Path, out: Path) -> str:
        with pytest.raises(RedosegError) as caught:
            segment_paths(segmenter, source, out)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    before = {p: (photos / p).read_bytes() for p in tree(photos)}
    assert "exists: name another place, or allow overwriting" in refused(photos / "b.jpg", photos / "a.png")
    with pytest.raises(RedosegError, match=r"a\.png is a picture to segment: name another folder"):
        segment_paths(segmenter, photos / "a.png", photos, overwrite=True)
    assert "name a file ending in .png, or a folder" in refused(photos / "b.jpg", tmp_path / "x.jpg")
    assert "no such file" in refused(photos / "z.jpg", tmp_path / "out")
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


def test_a_folder_goes_on_past_what_fails(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    (photos / "bad.jpg").write_text("x")
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.png").write_text("mine")
    report = segment_paths(segmenter, photos, out)
    assert report.done == 3
    assert dict(report.failed) == {
        photos / "b.jpg": f"{out / 'b.png'} exists: name another place, or allow overwriting",
        photos / "bad.jpg": "not a picture of a known format, a picture expected: replace or remove it",
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


@pytest.mark.parametrize("kind", ["mask", "soft", "cutout", "overlay"])
def test_a_folder_on_many_threads_is_the_same_as_one_by_one(run: Path, kind: Kind, tmp_path: Path) -> None:
    source = noisy_folder(tmp_path / "noisy", 20)
    (source / "07.png").write_text("x")
    results = {}
    for threads in (1, 4):
        out, seen = tmp_path / f"out{threads}", []
        report = segment_paths(
            Segmenter(run, threads=threads), source, out, kind, on_item=lambda *event, to=seen: to.append(event)
        )
        assert [path for path, *_ in seen] == sorted(source.iterdir())
        assert [done for _, done, *_ in seen] == list(range(1, 21))
        assert [path for path, *_, why in seen if why] == [path for path, _ in report.failed] == [source / "07.png"]
        assert list(report.written) == [out / path.name for path in sorted(source.iterdir()) if path.stem != "07"]
        results[threads] = {name: (out / name).read_bytes() for name in tree(out)}
    assert len(results[1]) == 19
    assert results[1] == results[4]
    for name in ("00.png", "05.png"):  # and as one picture alone
        segment_paths(Segmenter(run), source / name, tmp_path / "alone", kind)
        assert (tmp_path / "alone" / name).read_bytes() == results[4][name]


def test_threads_work_side_by_side_and_only_so_many_pictures_are_under_way(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter.threads = 2
    source = noisy_folder(tmp_path / "noisy", 30)
    meeting, lock = threading.Barrier(2), threading.Lock()
    read: list[str] = []

    def reads(path: Path) -> Image.Image:
        with lock:
            read.append(path.name)
        meeting.wait(timeout=30)  # one thread alone would never get past this
        return read_picture(path)

    monkeypatch.setattr(segmenter_module, "read_picture", reads)
    ahead, callers = [], set()

    def on_item(_path: Path, done: int, _total: int, _why: str | None) -> None:
        callers.add(threading.current_thread())
        time.sleep(0.005)
        ahead.append(len(read) - done)

    assert segment_paths(segmenter, source, tmp_path / "out", on_item=on_item).done == 30
    assert max(ahead) <= 4
    assert callers == {threading.main_thread()}


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
    lying = Segmenter(write_model(tmp_path / "m.onnx", METADATA | {"size": "8"}), threads=2)
    with pytest.raises(ModelError, match="export it again"):
        segment_paths(lying, photos, tmp_path / "out")
    with pytest.raises(ModelError, match="export it again"):
        lying.batch(np.zeros((40, 8, 8, 3), np.uint8))

    def broken(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(segmenter_module, "write_atomic", broken)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        segment_paths(segmenter, photos, tmp_path / "out")


def test_results_among_the_inputs(segmenter: Segmenter, photos: Path) -> None:
    before = {p: (photos / p).read_bytes() for p in tree(photos)}
    report = segment_paths(segmenter, photos, photos, overwrite=True)
    assert [p.relative_to(photos).as_posix() for p, _ in report.failed] == ["sub/a.png"]
    assert "is a picture to segment" in report.failed[0][1]
    assert {p: (photos / p).read_bytes() for p in before} == before
    # A folder of results inside the source is not segmented the next time.
    for path in tree(photos):
        if path not in before:
            (photos / path).unlink()
    for _ in range(2):
        assert segment_paths(segmenter, photos, photos / "masks", overwrite=True).done == 4
    assert len(tree(photos / "masks")) == 4
    # Nor does a folder of results above the source hide it.
    assert segment_paths(segmenter, photos / "sub", photos.parent).done == 1


def test_folders_that_are_refused(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no picture found in"):
        segment_paths(segmenter, tmp_path / "empty", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(RedosegError, match="is a file, a folder expected for the results: name another place"):
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


def test_segmenting_imports_neither_torch_nor_training() -> None:
    code = (
        "import sys, redoseg.segmenter;"
        "print([m for m in sys.modules if m.startswith(('torch', 'redoseg.train', 'redoseg.data', 'scipy'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
