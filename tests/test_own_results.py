"""What redoseg writes is not taken for photographs by a later run, wherever it was written."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redoseg.cli.main import run_command
from redoseg.data import open_data, originals, prepare
from redoseg.errors import DataError
from redoseg.files import write_atomic
from redoseg.images.read import list_images
from redoseg.inference.redraw import RedrawModel
from redoseg.inference.redraw_files import redraw_photo
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter
from redoseg.own_results import is_own_folder, is_result
from redoseg.run_folder import RunFolder
from redoseg.study.run import StudyFolder
from redoseg.web.cuts import Cuts
from tests.bright import bright_square, write_model
from tests.conftest import Trained

PICTURES = 8
Write = Callable[[Path, Path], None]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "bright.onnx")


@pytest.fixture
def own_photos(tmp_path: Path) -> Path:
    folder = tmp_path / "p"
    folder.mkdir()
    for number in range(PICTURES):
        bright_square(40 + number, 32).save(folder / f"{number}.jpg")
    return folder


def segmented(*options: str) -> Write:
    def write(model: Path, folder: Path) -> None:
        out = "masks" if "--as" not in options else options[1]
        assert run_command(["segment", str(model), str(folder), "-o", str(folder / out), *options]) == 0

    return write


def one_beside(model: Path, folder: Path) -> None:
    run_command(["segment", str(model), str(folder / "0.jpg"), "-o", str(folder / "cut.png"), "--as", "cutout"])


def sheet_of_data(model: Path, folder: Path) -> None:
    run_command(["prepare", "folder", "--source", str(folder), "--out", str(folder / "prepared"), "--size", "16"])
    run_command(["data", str(folder / "prepared")])
    run_command(["data", str(folder / "prepared"), "--sheet", str(folder / "sheet.png")])


def sheet_of_evaluate(model: Path, folder: Path) -> None:
    run_command(["evaluate", str(model), "shapes", "--picture", str(folder / "e.png"), "--methods", "square"])


def grid_of_compare(model: Path, folder: Path) -> None:
    command = ["compare", str(folder.parent / "set"), str(model), "--methods", "square", "--edges", "plain"]
    shutil.copytree(folder, folder.parent / "set" / "images")
    segment_paths(Segmenter(model), folder.parent / "set" / "images", folder.parent / "set" / "masks")
    run_command([*command, "-o", str(folder / "compared")])


def old_run(model: Path, folder: Path) -> None:
    """A run folder whose pictures have no mark, as earlier versions wrote them."""
    (folder / "run" / "samples").mkdir(parents=True)
    for name in ("config.json", "log.jsonl"):
        (folder / "run" / name).write_text("{}")
    for name in ("curves.png", "samples/last.png"):
        bright_square().save(folder / "run" / name)


def old_set(model: Path, folder: Path) -> None:
    (folder / "set").mkdir()
    for name in ("dataset.json", "images.npy"):
        (folder / "set" / name).write_text("{}")
    bright_square().save(folder / "set" / "contact-sheet.png")


def animation(model: Path, folder: Path) -> None:
    buffer = io.BytesIO()
    frames = [bright_square(40, 32).quantize(n) for n in (16, 200)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    write_atomic(folder / "x-redrawn.gif", buffer.getvalue())


WRITERS: dict[str, Write] = {
    "masks": segmented(),
    "cut-outs": segmented("--as", "cutout"),
    "overlays and review": segmented("--as", "overlay", "--review"),
    "measures and histograms": segmented("--as", "measures", "--review"),
    "soft": segmented("--as", "soft", "--crop"),
    "cut-outs in WebP": segmented("--as", "cutout", "--format", "webp"),
    "overlays in JPEG": segmented("--as", "overlay", "--format", "jpg"),
    "one cut-out": one_beside,
    "contact sheets": sheet_of_data,
    "evaluate": sheet_of_evaluate,
    "compare": grid_of_compare,
    "animation": animation,
    "old run": old_run,
    "old set": old_set,
}
NOTE = "pictures not used, since redoseg made them (masks, cut-outs, sheets): "


def seen_by(reader: str, model: Path, folder: Path, out: Path) -> tuple[int, tuple[str, ...]]:
    """How many pictures a verb takes from the folder, and its notes."""
    if reader == "segment":
        report = segment_paths(Segmenter(model), folder, out / "segmented")
        return report.done + len(report.failed), report.notes
    if reader == "prepare":
        made = prepare("folder", folder, out / "prepared", 16)
        return made.pictures, made.notes
    images = open_data(folder, 16)
    return len(images), images.notes


@pytest.mark.every(3)
@pytest.mark.parametrize("writer", WRITERS)
def test_results_are_left_out_with_a_line(writer: str, model: Path, own_photos: Path, tmp_path: Path) -> None:
    WRITERS[writer](model, own_photos)
    there = sum(path.suffix in (".png", ".gif", ".jpg", ".webp") for path in own_photos.rglob("*")) - PICTURES
    assert there
    for reader in ("segment", "prepare", "train"):
        pictures, notes = seen_by(reader, model, own_photos, tmp_path)
        assert pictures == PICTURES, reader
        assert f"{NOTE}{there}" in notes, reader


def pictures_of_a_run(folder: Path, trained: Trained, model: Path) -> None:
    """Those of a run, moved to photographs."""
    for path in trained.folder.rglob("*.png"):
        shutil.copy(path, folder / f"run-{path.name}")


def drawings(folder: Path, trained: Trained, model: Path) -> None:
    redraw_photo(RedrawModel(trained.folder), folder.parent / "photo.png", folder, count=2)
    redraw_photo(RedrawModel(trained.folder), folder.parent / "photo.png", folder, count=2, film="gif", overwrite=True)


def page_files(folder: Path, trained: Trained, model: Path) -> None:
    Cuts(Segmenter(model), 10**6).files(folder.parent / "photo.png", 0.5, folder)


def reviews(folder: Path, trained: Trained, model: Path) -> None:
    (folder.parent / "some").mkdir()
    for name in "ab":
        shutil.copy(folder.parent / "photo.png", folder.parent / "some" / f"{name}.png")
    segment_paths(Segmenter(model), folder.parent / "some", folder / "out", kind="coco", review=True)


def large_ones(folder: Path, trained: Trained, model: Path) -> None:
    """Which are packed in pieces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("redoseg.inference.results.LARGE", 100)
        for kind in ("mask", "cutout", "overlay", "soft"):
            segment_paths(Segmenter(model), folder.parent / "photo.png", folder / f"{kind}.png", kind=kind)


def other_forms(folder: Path, trained: Trained, model: Path) -> None:
    """Other formats, on other grounds, as squares and part by part."""
    ways = ("--ground white --format jpg", "--ground blur --format webp", "--square 32", "--parts --format webp")
    for number, way in enumerate(ways):
        out = ["-o", str(folder / str(number)), "--as", "cutout"]
        assert run_command(["segment", str(model), str(folder.parent / "photo.png"), *out, *way.split()]) == 0


@pytest.mark.parametrize("write", [pictures_of_a_run, drawings, page_files, reviews, large_ones, other_forms])
def test_every_picture_that_is_written_has_the_mark(
    write: Callable[[Path, Trained, Path], None], trained: Trained, model: Path, tmp_path: Path
) -> None:
    bright_square().save(tmp_path / "photo.png")
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", trained, model)
    pictures = [p for p in (tmp_path / "out").rglob("*") if p.suffix in (".png", ".jpg", ".gif", ".webp")]
    assert pictures
    assert [p.name for p in pictures if not is_result(p)] == []


def test_training_again_learns_from_the_same_pictures(own_photos: Path, model: Path) -> None:
    first = open_data(own_photos, 16)
    old_run(model, own_photos)
    segmented()(model, own_photos)
    again = open_data(own_photos, 16)
    assert again.names == first.names
    assert np.array_equal(again.pixels, first.pixels)


def test_a_folder_of_results_alone_is_refused(own_photos: Path, model: Path) -> None:
    segmented()(model, own_photos)
    with pytest.raises(DataError, match=f"no picture found in .* except {PICTURES} that redoseg made"):
        list_images(own_photos / "masks")


def test_masks_that_redoseg_made_are_masks(own_photos: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(own_photos, tmp_path / "set" / "images")
    segment_paths(Segmenter(model), tmp_path / "set" / "images", tmp_path / "set" / "masks")
    assert len(originals(tmp_path / "set").items) == PICTURES


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_the_mark_changes_no_pixel(kind: str, mode: str, tmp_path: Path) -> None:
    if (kind, mode) == ("JPEG", "P"):
        mode = "CMYK"
    buffer = io.BytesIO()
    image = Image.fromarray(np.arange(48 * 16).reshape(16, 48).astype(np.uint8)).convert(mode)
    image.save(buffer, kind, **({"icc_profile": b"x" * 5000} if kind != "GIF" else {}))
    path = tmp_path / f"x.{kind.lower()}"
    path.write_bytes(buffer.getvalue())
    assert not is_result(path)
    with Image.open(path) as plain:
        before = np.asarray(plain)
    write_atomic(path, buffer.getvalue())
    assert is_result(path)
    with Image.open(path) as marked:
        marked.verify()
    with Image.open(path) as marked:
        assert np.array_equal(np.asarray(marked), before)


@pytest.mark.parametrize("name", ["x.jfif", "x.PNG", "x", "x.bin", "x.webp"])
def test_a_result_is_known_under_any_name(name: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 255).save(buffer, "PNG")
    write_atomic(tmp_path / "x.png", buffer.getvalue())
    (tmp_path / "x.png").rename(tmp_path / name)
    assert is_result(tmp_path / name)


def test_folders_of_runs_and_studies_are_known_by_their_own_names_of_files() -> None:
    run, study = RunFolder(Path()), StudyFolder(Path())
    assert is_own_folder({run.config.name, run.log.path.name})
    assert is_own_folder({run.config.name, run.state.name})
    assert is_own_folder({study.results.name, study.runs.name})
    assert not is_own_folder({run.config.name, run.mask.name})
