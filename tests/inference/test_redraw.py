"""Redrawing: what is drawn and what is kept, latents on the way from one to another, files, and killed runs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from redoseg import RedrawModel, Segmenter
from redoseg.config.schema import Config
from redoseg.errors import DataError, MissingError, ModelError, RedosegError
from redoseg.images.draw import outline
from redoseg.images.read import Photo, read_photo
from redoseg.inference import animations, redraw_files
from redoseg.inference.animations import Film
from redoseg.inference.redraw import around, between
from redoseg.inference.redraw_files import redraw_photo
from redoseg.onnx_export.generators import export_redrawer
from redoseg.onnx_export.mask_extractor import export_extractor
from redoseg.sharing.model_folder import export_run
from redoseg.train import losses
from redoseg.train.players import Redrawer
from redoseg.train.state import TrainState
from tests.inference.private import NOTED, SECRET, noted

Tiny = Callable[..., Config]
RNG = np.random.default_rng(0)


def networks(config: Config) -> Redrawer:
    """Networks whose masks are hard and whose drawings differ."""
    torch.manual_seed(0)
    redrawer = Redrawer(config)
    torch.nn.init.normal_(redrawer.extractor.head.weight, std=3.0)
    return redrawer.eval()


def folder_of(redrawer: Redrawer, config: Config, folder: Path, region: int = 0) -> Path:
    folder.mkdir()
    export_extractor(redrawer.extractor, config, folder / "mask.onnx", name="some", object_region=region)
    export_redrawer(
        redrawer.generators,
        redrawer.encoder,
        config,
        folder / "redraw.onnx",
        name="some",
        object_region=region,
        half=False,
    )
    return folder


@pytest.fixture(scope="module")
def three(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Redrawer, Config, Path]:
    """A model of three regions at 32 px, of which region 1 is the object."""
    config = tiny({"data.size": 32, "nets.regions": 3})
    redrawer = networks(config)
    return redrawer, config, folder_of(redrawer, config, tmp_path_factory.mktemp("models") / "three", 1)


@pytest.fixture(scope="module")
def model(three: tuple[Redrawer, Config, Path]) -> RedrawModel:
    return RedrawModel(three[2], threads=1, edges="plain")


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


# --------------------------------------------------------------------------------------------- what is drawn


@pytest.mark.parametrize("what", ["object", "background", "both"])
def test_at_the_networks_size_it_is_the_objectives_picture(
    what: Any, model: RedrawModel, three: tuple[Redrawer, Config, Path]
) -> None:
    """By PyTorch, with the compositing of training: regions drawn by their generators, the rest kept."""
    redrawer, photo, latents = three[0], picture(32, 32), model.random_latents(2, seed=3)
    drawn = {"object": [1], "background": [0, 2], "both": [0, 1, 2]}[what]
    with torch.no_grad():
        seen = torch.from_numpy(photo.transpose(2, 0, 1)[None] / np.float32(127.5) - 1)
        masks = redrawer.extractor(seen)
        expected = []
        for z in torch.from_numpy(latents):
            parts = redrawer.draw(z[None], masks) * masks.unsqueeze(2)
            rest = 1 - masks[:, drawn].sum(1, keepdim=True)
            expected.append(parts[:, drawn].sum(1) + rest * seen)
            if what == "object":  # the same as the objective's own
                assert torch.allclose(
                    expected[-1],
                    losses.compose(seen, parts[:, 1:], masks[:, 1:], "object", torch.zeros(1, dtype=torch.long)),
                    atol=1e-5,
                )
    got = model.draw(photo, latents, what)
    assert [p.mode for p in got] == ["RGB", "RGB"]
    for ours, theirs in zip(got, expected, strict=True):
        pixels = (theirs[0].permute(1, 2, 0).numpy() + 1) * 127.5
        assert np.abs(np.asarray(ours, np.float32) - pixels).max() < 1.6  # both roundings
    assert np.abs(np.asarray(got[0], int) - np.asarray(got[1], int)).mean() > 2


def test_the_unit_range_and_batch_norm(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny({"data.value_range": "unit", "nets.norm": "batch"})
    redrawer = networks(config)
    unit = RedrawModel(folder_of(redrawer, config, tmp_path / "unit"), edges="plain")
    photo, latents = picture(16, 16), unit.random_latents(1)
    with torch.no_grad():
        seen = torch.from_numpy(photo.transpose(2, 0, 1)[None] / np.float32(255))
        masks = redrawer.extractor(seen)
        expected = (redrawer.draw(torch.from_numpy(latents), masks) * masks.unsqueeze(2)).sum(1)
    got = np.asarray(unit.draw(photo, latents, "both")[0], np.float32)
    assert np.abs(got - expected[0].permute(1, 2, 0).numpy() * 255).max() < 1.6


def test_what_is_not_drawn_stays(model: RedrawModel) -> None:
    photo = picture(90, 120)
    soft = model.segmenter.soft(photo)
    assert (soft < 0.001).mean() > 0.05
    assert (soft > 0.999).mean() > 0.05
    for what, kept in (("object", soft < 0.001), ("background", soft > 0.999)):
        drawing = np.asarray(model.redraw(photo, 1, what)[0], int)  # type: ignore[arg-type]
        change = np.abs(drawing - photo).max(-1)
        assert change[kept].max() <= 1
        assert change[~kept].mean() > 10


def test_a_seed_is_a_drawing_and_more_drawings_begin_alike(model: RedrawModel) -> None:
    photo = picture(40, 40)
    few, many = model.redraw(photo, 2, seed=5), model.redraw(photo, 12, seed=5)
    assert [p.tobytes() for p in few] == [p.tobytes() for p in many[:2]]
    assert len({p.tobytes() for p in many}) == 12
    assert few[0].tobytes() != model.redraw(photo, 1, seed=6)[0].tobytes()
    latents = model.random_latents(4000)
    assert abs(latents.mean()) < 0.02
    assert latents.std() == pytest.approx(1, abs=0.02)


def test_the_size_is_the_photographs_but_at_most_1024(model: RedrawModel) -> None:
    for size, expected in (((50, 33), (50, 33)), ((1500, 700), (1024, 478)), ((700, 1500), (478, 1024))):
        photo = Image.fromarray(picture(size[1], size[0]))
        assert model.redraw(photo, 1)[0].size == expected
    assert model.redraw(Image.new("L", (3, 2000)), 1)[0].size == (2, 1024)


def test_latents_read_off_a_photograph(model: RedrawModel, three: tuple[Redrawer, Config, Path]) -> None:
    a, b = picture(32, 32, 1), picture(32, 32, 2)
    with torch.no_grad():
        seen = torch.from_numpy(b.transpose(2, 0, 1)[None] / np.float32(127.5) - 1)
        expected = three[0].encoder(seen).view(3, 4).numpy()
    read = model.read_latents(b)
    assert np.abs(read - expected).max() < 1e-3 * max(1, np.abs(expected).max())
    transferred = model.transfer(a, b)
    assert transferred.tobytes() == model.draw(a, read[None])[0].tobytes()
    assert transferred.tobytes() != model.transfer(a, a).tobytes()


def test_interpolating(model: RedrawModel) -> None:
    photo, (start, end) = picture(32, 32), model.random_latents(2, seed=1)
    way = model.interpolate(photo, start, end, 9)
    assert len(way) == 9
    ends = model.draw(photo, np.stack([start, end]))
    assert [way[0].tobytes(), way[-1].tobytes()] == [p.tobytes() for p in ends]
    steps = [
        np.abs(np.asarray(a, int) - np.asarray(b, int)).mean() for a, b in zip(way, way[1:] + way[:1], strict=True)
    ]
    assert max(steps[:-1]) < steps[-1]  # each is closer to the next than the ends are


def test_latents_that_do_not_fit(model: RedrawModel) -> None:
    with pytest.raises(DataError, match=r"the shape \(2, 2, 4\), but need \(any number, 3, 4\)"):
        model.draw(picture(32, 32), np.zeros((2, 2, 4), np.float32))
    with pytest.raises(RedosegError, match="the seed is -1, but must be 0 or more: choose another"):
        model.redraw(picture(32, 32), seed=-1)
    with pytest.raises(RedosegError, match="'sky' cannot be drawn: choose one of object, background, both"):
        model.redraw(picture(32, 32), 1, "sky")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------ on the way


ODD: dict[str, Callable[[RedrawModel, np.ndarray], object]] = {
    "not a number": lambda model, latents: model.draw(PHOTO, latents * np.nan),
    "infinite": lambda model, latents: model.draw(PHOTO, latents * np.inf),
    "text": lambda model, latents: model.draw(PHOTO, "latents"),  # type: ignore[arg-type]
    "lists of other lengths": lambda model, latents: model.draw(PHOTO, [[1], [1, 2]]),  # type: ignore[arg-type]
    "complex": lambda model, latents: model.draw(PHOTO, latents * 1j),
    "no start": lambda model, latents: model.interpolate(PHOTO, None, latents[0]),  # type: ignore[arg-type]
    "fewer regions": lambda model, latents: model.interpolate(PHOTO, latents[0, :1], latents[0]),
    "three axes": lambda model, latents: model.interpolate(PHOTO, latents, latents),
    "half a drawing": lambda model, latents: model.redraw(PHOTO, 2.5),  # type: ignore[arg-type]
    "a seed of text": lambda model, latents: model.redraw(PHOTO, 1, seed="2"),  # type: ignore[arg-type]
    "no count": lambda model, latents: model.interpolate(PHOTO, latents[0], latents[0], None),  # type: ignore[arg-type]
}
PHOTO = Image.new("RGB", (8, 8))


@pytest.mark.parametrize("kind", ODD)
def test_what_is_not_latents_is_one_line(kind: str, model: RedrawModel) -> None:
    latents = model.random_latents(1)
    with pytest.raises(DataError) as caught:
        ODD[kind](model, latents)
    assert "\n" not in str(caught.value)


def test_on_the_way_latents_are_as_long_as_their_ends() -> None:
    start, end = (RNG.standard_normal((2, 8)).astype(np.float32) for _ in range(2))
    way = between(start, end, np.linspace(0, 1, 11))
    assert way.shape == (11, 2, 8)
    assert np.allclose(way[0], start, atol=1e-6)
    assert np.allclose(way[-1], end, atol=1e-6)
    lengths = np.linalg.norm(way, axis=-1)
    assert np.allclose(lengths, np.linspace(lengths[0], lengths[-1], 11), rtol=1e-5)
    # turned evenly
    units = way / lengths[..., None]
    turns = (units[1:] * units[:-1]).sum(-1)
    assert np.allclose(turns, turns[:1], atol=1e-5)


@pytest.mark.parametrize(
    ("start", "end", "middle"),
    [
        ([1.0, 2.0], [1.0, 2.0], [1.0, 2.0]),
        ([1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]),  # opposite: no way round is the nearer
        ([0.0, 0.0], [2.0, 0.0], [1.0, 0.0]),
        ([3.0], [-1.0], [1.0]),  # a latent of one number has nowhere to turn
        ([1.0, 0.0], [0.0, 1.0], [0.5**0.5, 0.5**0.5]),
    ],
)
def test_ways_of_their_own(start: list[float], end: list[float], middle: list[float]) -> None:
    way = between(np.array([start], np.float32), np.array([end], np.float32), [0.5])
    assert np.allclose(way[0, 0], middle, atol=1e-6)


def test_around_and_back() -> None:
    latents = RNG.standard_normal((3, 2, 4)).astype(np.float32)
    circle = around(latents, 10)
    assert circle.shape == (30, 2, 4)
    assert np.allclose(circle[::10], latents, atol=1e-6)
    steps = np.linalg.norm(circle - np.roll(circle, 1, 0), axis=(1, 2))
    assert steps.min() > 0
    assert (
        steps.max() < np.linalg.norm(latents - np.roll(latents, 1, 0), axis=(1, 2)).min()
    )  # no jump, the last neither
    assert np.allclose(around(latents[:1], 4), latents[:1])


# -------------------------------------------------------------------------------------------------- files


def test_files_of_a_photograph(model: RedrawModel, tmp_path: Path) -> None:
    photo = tmp_path / "a photo.jpg"
    Image.fromarray(picture(60, 80)).save(photo)
    written = redraw_photo(model, photo, tmp_path / "out" / "deep", count=3, seed=2).files
    names = ["a photo-1.png", "a photo-2.png", "a photo-3.png", "a photo-redrawn.png"]
    assert written == [tmp_path / "out" / "deep" / name for name in names]
    assert sorted(p.name for p in (tmp_path / "out" / "deep").iterdir()) == names
    expected = model.redraw(photo, 3, seed=2)
    for path, drawing in zip(written, expected, strict=False):
        with Image.open(path) as file:
            assert (file.format, file.tobytes()) == ("PNG", drawing.tobytes())
    with Image.open(written[-1]) as sheet:
        assert sheet.size == (5 * 84 + 4, 64 + 4)  # photograph, mask, three drawings
        assert np.asarray(sheet.crop((4, 4, 84, 64))).tobytes() == np.asarray(Image.open(photo)).tobytes()
        assert sheet.crop((4 + 2 * 84, 4, 84 + 2 * 84, 64)).tobytes() == expected[0].tobytes()


def test_the_mask_on_the_sheet_is_at_most_as_opaque_as_the_photograph(model: RedrawModel, tmp_path: Path) -> None:
    photo = Image.fromarray(picture(60, 80)).convert("RGBA")
    photo.putalpha(100)  # of 255: nothing of it is more than half there
    photo.save(tmp_path / "pale.png")
    colours = read_photo(tmp_path / "pale.png").rgb
    assert model.segmenter(colours).any()  # the colours alone have an object
    with Image.open(redraw_photo(model, tmp_path / "pale.png", tmp_path / "out", count=2).files[-1]) as sheet:
        mask = sheet.crop((4 + 84, 4, 84 + 84, 64))
        assert mask.tobytes() == outline(colours, np.zeros((60, 80), bool)).tobytes()


def test_nothing_is_overwritten_unasked_and_inputs_never(model: RedrawModel, tmp_path: Path) -> None:
    photo, other = tmp_path / "a.png", tmp_path / "a-2.png"
    Image.fromarray(picture(30, 30)).save(photo)
    Image.fromarray(picture(30, 30, 1)).save(other)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(RedosegError, match=r"a-2\.png exists: choose another path, or allow overwriting"):
        redraw_photo(model, photo, tmp_path)
    with pytest.raises(RedosegError, match=r"a-2\.png is one of the photographs: choose another folder"):
        redraw_photo(model, photo, tmp_path, like=other, overwrite=True)
    with pytest.raises(RedosegError, match=r"a\.png is a file, but the results need a folder: choose a folder"):
        redraw_photo(model, photo, photo)
    for count in (0, 65):
        with pytest.raises(RedosegError, match=f"drawings is {count}, but must be from 1 to 64: choose another number"):
            redraw_photo(model, photo, tmp_path / "out", count=count)
    with pytest.raises(DataError, match="does not exist, but must be a photograph: choose one"):
        redraw_photo(model, tmp_path / "gone.png", tmp_path / "out")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    redraw_photo(model, photo, tmp_path, count=2, overwrite=True)
    assert other.read_bytes() != before["a-2.png"]


@pytest.mark.parametrize("film", [None, "gif", "mp4"])
@pytest.mark.parametrize("kind", NOTED)
def test_drawings_have_no_metadata_of_the_file(
    kind: str, film: Film | None, model: RedrawModel, tmp_path: Path
) -> None:
    if film == "mp4":
        pytest.importorskip("av")
    photo = noted(kind, tmp_path / "in", Image.fromarray(picture(40, 60)))
    for path in redraw_photo(model, photo, tmp_path / "out", count=2, like=photo, film=film).files:
        assert SECRET not in path.read_bytes()


def test_with_the_texture_of_another(model: RedrawModel, tmp_path: Path) -> None:
    photo, other = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(picture(32, 40)).save(photo)
    Image.fromarray(picture(50, 20, 1)).save(other)
    written = redraw_photo(model, photo, tmp_path / "out", count=4, like=other, what="both").files
    own, theirs = model.read_latents(photo), model.read_latents(other)
    expected = model.draw(photo, between(own, theirs, [0.25, 0.5, 0.75, 1]), "both")
    for path, drawing in zip(written, expected, strict=False):
        assert Image.open(path).tobytes() == drawing.tobytes()
    assert expected[-1].tobytes() == model.transfer(photo, other, "both").tobytes()
    assert len(redraw_photo(model, photo, tmp_path / "one", count=1, like=other, what="both").files) == 2
    assert Image.open(tmp_path / "one" / "a-1.png").tobytes() == expected[-1].tobytes()


def test_an_animation_loops_and_what_is_kept_stands_still(model: RedrawModel, tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    Image.fromarray(picture(300, 400)).save(photo)
    written = redraw_photo(model, photo, tmp_path / "out", count=3, film="gif").files
    assert written == [tmp_path / "out" / "a-redrawn.gif"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a-redrawn.gif"]
    with Image.open(written[0]) as animation:
        assert animation.size == (360, 270)
        assert animation.info["loop"] == 0
        frames = [np.asarray(frame.convert("RGB"), int) for frame in ImageSequence.Iterator(animation)]
        length = sum(frame.info["duration"] for frame in ImageSequence.Iterator(animation))
    assert length == 3 * redraw_files.STEPS * animations._FRAME_MS
    small = Image.fromarray(picture(300, 400)).resize((360, 270), Image.Resampling.LANCZOS, reducing_gap=3.0)
    soft = model.segmenter.soft(small)
    assert (np.ptp(frames, 0).max(-1)[soft < 0.0005]).max() == 0
    assert np.ptp(frames, 0)[soft > 0.9].mean() > 10
    steps = [np.abs(a - b).mean() for a, b in zip(frames, frames[1:] + frames[:1], strict=True)]
    assert max(steps) < 5 * np.mean(steps)  # no jump, at the end neither
    # as far as 256 colours go, the frames are the drawings
    expected = np.asarray(model.draw(small, around(model.random_latents(3))[:1])[0], int)
    assert np.abs(frames[0] - expected).mean() < 8


def test_a_film_has_the_frames(model: RedrawModel, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    photo = tmp_path / "a.png"
    Image.fromarray(picture(90, 121)).save(photo)
    written = redraw_photo(model, photo, tmp_path / "out", count=2, film="mp4").files
    assert written == [tmp_path / "out" / "a-redrawn.mp4"]
    with av.open(written[0]) as film:
        (stream,) = film.streams
        frames = [np.asarray(frame.to_image(), int) for frame in film.decode(video=0)]
    assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
    assert float(stream.duration * stream.time_base) == pytest.approx(2 * redraw_files.STEPS * 0.07)
    drawn = model.draw(Image.open(photo), around(model.random_latents(2)))
    assert len(frames) == len(drawn)
    for frame, drawing in zip(frames, drawn, strict=True):
        assert np.abs(frame - np.asarray(drawing, int)[:, :120]).mean() < 8  # its colours are coarser than its grey


def test_a_film_without_pyav_is_one_line(model: RedrawModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(picture(30, 40)).save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingError, match=r'MP4 needs PyAV, which .*pip install "redoseg\[video\]"'):
        redraw_photo(model, tmp_path / "a.png", tmp_path / "out", film="mp4")
    assert not (tmp_path / "out").exists()


def test_the_sheet_leaves_few_places_empty(model: RedrawModel) -> None:
    small = Image.new("RGB", (20, 20))
    for count, columns, rows in ((1, 6, 1), (8, 5, 2), (9, 6, 2), (10, 6, 2), (4, 6, 1)):
        sheet = redraw_files._sheet(model, Photo(small), None, [small] * count)
        expected = min(columns, count + 2)
        assert sheet.size == (expected * 24 + 4, rows * 24 + 4), count


# -------------------------------------------------------------------------------------------------- models


def test_a_run_writes_what_redrawing_needs(trained: Any) -> None:
    model = RedrawModel(trained.folder, edges="plain")
    assert (model.regions, model.latent, model.segmenter.size) == (2, 4, 32)
    state = TrainState.load(trained.folder / "state.safetensors", torch.device("cpu"))
    latents, photo = model.random_latents(1), picture(32, 32)
    with torch.no_grad():
        seen = torch.from_numpy(photo.transpose(2, 0, 1)[None] / np.float32(127.5) - 1)
        masks = state.average.nets["extractor"](seen)
        drawn = [
            g(torch.from_numpy(latents[:, k]), masks[:, k : k + 1])
            for k, g in enumerate(state.average.nets["generators"].children())
        ]
        expected = (torch.stack(drawn, 1) * masks.unsqueeze(2)).sum(1)
        read = state.redrawer.eval().encoder(seen).view(2, 4).numpy()
    got = np.asarray(model.draw(photo, latents, "both")[0], np.float32)
    assert np.abs(got - (expected[0].permute(1, 2, 0).numpy() + 1) * 127.5).max() < 3  # weights are float16
    assert np.abs(model.read_latents(photo) - read).max() < 0.01 * max(1, np.abs(read).max())


def test_a_run_that_was_killed_before_it_wrote_a_model(trained: Any, tmp_path: Path) -> None:
    run = tmp_path / trained.folder.name
    shutil.copytree(trained.folder, run)
    (run / "redraw.onnx").unlink()
    (run / "mask.onnx").unlink()
    for kind in (RedrawModel, Segmenter):
        with pytest.raises(ModelError, match=r"has not written its model yet: .*`redoseg export .* --out FOLDER`"):
            kind(run)
    export_run(run, tmp_path / "model")
    killed, whole = RedrawModel(tmp_path / "model", threads=1), RedrawModel(trained.folder, threads=1)
    assert killed.segmenter.object_region == whole.segmenter.object_region
    image = picture(40, 30)
    assert all(np.array_equal(a, b) for a, b in zip(killed.redraw(image, 2), whole.redraw(image, 2), strict=True))


def test_models_that_do_not_draw(trained: Any, three: tuple[Redrawer, Config, Path], tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    shutil.copy(trained.folder / "mask.onnx", tmp_path / "bare")
    accepted = r"choose a run folder, a model folder, hf://user/name or weights that come with redoseg"
    with pytest.raises(ModelError, match=f"bare has no redraw.onnx: {accepted}"):
        RedrawModel(tmp_path / "bare")
    with pytest.raises(ModelError, match=f"model flowers-int8 has no redraw.onnx: {accepted}"):
        RedrawModel("flowers-int8")
    with pytest.raises(ModelError, match=f"nothing does not exist: {accepted}"):
        RedrawModel(tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"mask.onnx is a file, but redraw.onnx must be in a folder: choose"):
        RedrawModel(tmp_path / "bare" / "mask.onnx")
    shutil.copy(three[2] / "redraw.onnx", tmp_path / "bare")
    with pytest.raises(ModelError, match="are of two different models: export them again"):
        RedrawModel(tmp_path / "bare")
    shutil.copy(trained.folder / "mask.onnx", tmp_path / "bare" / "redraw.onnx")
    with pytest.raises(ModelError, match=r"redraw.onnx is an ONNX file, but not one of redoseg"):
        RedrawModel(tmp_path / "bare")
    (tmp_path / "bare" / "redraw.onnx").write_bytes(b"junk")
    with pytest.raises(ModelError, match=r"redraw.onnx is not an ONNX model"):
        RedrawModel(tmp_path / "bare")


def test_the_weights_that_ship_and_draw() -> None:
    """At most 6 MB a model, and it draws; a build may have none."""
    from importlib import resources

    from redoseg.inference.model_file import weights

    for name in weights("redraw.onnx"):
        with resources.as_file(resources.files("redoseg") / "weights" / name / "redraw.onnx") as file:
            assert file.stat().st_size < 6e6
        first, second = RedrawModel(name).redraw(picture(100, 80), 2)
        assert np.abs(np.asarray(first, int) - np.asarray(second, int)).max() > 5


def test_only_the_object_of_reduced_images_is_redrawn(three: tuple[Redrawer, Config, Path]) -> None:
    model = RedrawModel(three[2])
    images = model.reduced([Image.fromarray(RNG.integers(0, 256, (64, 48, 3), np.uint8)) for _ in range(2)])
    assert np.array_equal(model.reduced([Image.fromarray(p) for p in model.pixels(images)]).seen, images.seen)
    latents = model.random_latents(2)
    redrawn = model.object_redrawn(images, latents)
    own = images.masks[:, model.segmenter.object_region, None]
    apart = np.abs(redrawn.seen - images.seen)
    assert (apart <= 4 * own + 1e-6).all()
    assert apart[np.broadcast_to(own > 0.9, apart.shape)].mean() > 0.05
    assert model.latents_of(redrawn).shape == latents.shape
    assert not np.array_equal(model.latents_of(redrawn), model.latents_of(images))


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK"])
def test_a_huge_photograph_gives_the_same(model: RedrawModel, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which no whole copy in RGB is made."""
    monkeypatch.setattr("redoseg.inference.redraw.LARGEST", 60)
    image = Image.effect_noise((150, 110), 60).convert(mode)
    before = np.asarray(model.redraw(image, 1)[0]).astype(int)
    monkeypatch.setattr("redoseg.images.photo.LARGE", 100)
    monkeypatch.setattr(Photo, "rgb", property(lambda _: pytest.fail("a whole copy")))
    assert np.abs(np.asarray(model.redraw(image, 1)[0]) - before).max() <= 2
