"""Shards of pictures, as tar and as Parquet: their results are in shards of the same names, under the same keys."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from bright import bright_square, tree, write_model
from PIL import Image

from redoseg.errors import DataError, MissingError
from redoseg.images.shards import samples_of
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter

KEYS = ["000", "001", "sub/002", "003"]


def picture(number: int, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    bright_square(60 + 4 * number, 40).save(buffer, form)
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return path


def members_of(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return Segmenter(write_model(tmp_path / "run" / "mask.onnx").parent, threads=2)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    members: dict[str, bytes] = {}
    for number, key in enumerate(KEYS):
        members |= {f"{key}.jpg": picture(number, "JPEG"), f"{key}.json": b"{}", f"{key}.cls": b"1"}
    write_tar(tmp_path / "shards" / "a.tar", members)
    write_tar(tmp_path / "shards" / "b.tar", {"100.png": picture(7), "101.jpg": b"\xff\xd8\xff no more"})
    return tmp_path / "shards"


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def test_tar_in_tar_out(segmenter: Segmenter, shards: Path, tmp_path: Path) -> None:
    """The masks are those of the pictures as files, and the tar is the same each time."""
    report = segment_paths(segmenter, str(shards / "*.tar"), tmp_path / "out", kind=["mask", "cutout"])
    assert (report.done, [place.name for place, _ in report.failed]) == (5, ["101.jpg"])
    members = members_of((tmp_path / "out" / "a.tar").read_bytes())
    assert list(members) == [f"{key}.{kind}.png" for key in KEYS for kind in ("mask", "cutout")]
    (tmp_path / "photo.jpg").write_bytes(picture(2, "JPEG"))
    segment_paths(segmenter, tmp_path / "photo.jpg", tmp_path / "photo.png")
    assert members["sub/002.mask.png"] == (tmp_path / "photo.png").read_bytes()
    segment_paths(segmenter, sorted(shards.glob("*.tar")), tmp_path / "again", kind=["mask", "cutout"])
    assert (tmp_path / "again" / "a.tar").read_bytes() == (tmp_path / "out" / "a.tar").read_bytes()


def test_a_stop_leaves_whole_shards_alone(
    segmenter: Segmenter, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_paths(segmenter, str(shards / "*.tar"), tmp_path / "out", on_item=stop)
    assert tree(tmp_path / "out") == ["a.tar"]
    one = Segmenter(tmp_path / "run", threads=1)
    monkeypatch.setattr(type(one), "soft_mask", stop)
    with pytest.raises(KeyboardInterrupt):
        segment_paths(one, shards / "b.tar", tmp_path / "out")
    monkeypatch.undo()
    assert tree(tmp_path / "out") == ["a.tar"]
    report = segment_paths(segmenter, str(shards / "*.tar"), tmp_path / "out", skip_existing=True)
    assert (report.done, report.skipped, len(report.failed)) == (1, 4, 1)
    before = (tmp_path / "out" / "b.tar").stat().st_mtime_ns
    again = segment_paths(segmenter, str(shards / "*.tar"), tmp_path / "out", skip_existing=True)
    assert (again.done, again.skipped, len(again.failed)) == (0, 5, 1)
    assert (tmp_path / "out" / "b.tar").stat().st_mtime_ns == before


def test_what_is_up_to_date_is_taken_over(segmenter: Segmenter, shards: Path, tmp_path: Path) -> None:
    segment_paths(segmenter, shards / "b.tar", tmp_path / "out")
    first = members_of((tmp_path / "out" / "b.tar").read_bytes())
    write_tar(shards / "b.tar", {"100.png": picture(7), "101.jpg": picture(8, "JPEG")})
    report = segment_paths(segmenter, shards / "b.tar", tmp_path / "out", skip_existing=True, kind=["mask", "soft"])
    assert report.done == 2
    members = members_of((tmp_path / "out" / "b.tar").read_bytes())
    assert sorted(members) == ["100.mask.png", "100.soft.png", "101.mask.png", "101.soft.png"]
    assert members["100.mask.png"] == first["100.mask.png"]
    report = segment_paths(segmenter, shards / "b.tar", tmp_path / "out", skip_existing=True, threshold=0.9)
    assert len(report.differing) == 2
    report = segment_paths(segmenter, shards / "b.tar", tmp_path / "out", threshold=0.9)
    assert "exists: choose another path" in report.failed[0][1]


def test_shards_in_storage(segmenter: Segmenter, shards: Path, tmp_path: Path, memory: Any) -> None:
    for path in shards.iterdir():
        memory.pipe_file(f"/shards/{path.name}", path.read_bytes())
    segment_paths(segmenter, str(shards / "*.tar"), tmp_path / "out")
    segment_paths(segmenter, "memory://shards/*.tar", "memory://out")
    assert memory.cat_file("/out/a.tar") == (tmp_path / "out" / "a.tar").read_bytes()
    report = segment_paths(segmenter, "memory://shards/*.tar", "memory://out", skip_existing=True)
    assert (report.done, report.skipped) == (0, 5)


def test_results_are_no_pictures_and_png_beside_jpg_is_a_mask(shards: Path) -> None:
    path = write_tar(shards / "c.tar", {"a.mask.png": b"m", "b.png": b"m", "b.jpg": b"p", "c.png": b"p"})
    assert [(s.key, s.name, s.content, s.mask) for s in samples_of(path)] == [
        ("b", "b.jpg", b"p", b"m"),
        ("c", "c.png", b"p", None),
    ]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"kind": "coco"}, "--as coco cannot be combined with .*a.tar"),
        ({"review": True}, "--review cannot be combined with"),
        ({"out": "out.tar"}, "is the name of a file"),
    ],
)
def test_what_shards_cannot_have(
    how: dict[str, Any], said: str, segmenter: Segmenter, shards: Path, tmp_path: Path
) -> None:
    how = {"out": "out"} | how
    with pytest.raises(Exception, match=said):
        segment_paths(segmenter, shards / "a.tar", tmp_path / how.pop("out"), **how)


def test_names_that_clash_and_other_sources(segmenter: Segmenter, shards: Path, tmp_path: Path) -> None:
    write_tar(tmp_path / "more" / "a.tar", {"1.png": picture(1)})
    with pytest.raises(DataError, match=r"2 shards are called a.tar"):
        segment_paths(segmenter, [shards / "a.tar", tmp_path / "more" / "a.tar"], tmp_path / "out")
    (tmp_path / "b.png").write_bytes(picture(1))
    with pytest.raises(DataError, match=r"a.tar is a shard and .*b.png is not"):
        segment_paths(segmenter, [shards / "a.tar", tmp_path / "b.png"], tmp_path / "out")


def test_a_shard_cut_short_leaves_no_result(segmenter: Segmenter, shards: Path, tmp_path: Path) -> None:
    (shards / "a.tar").write_bytes((shards / "a.tar").read_bytes()[:2000])
    (shards / "none.tar").write_bytes(write_tar(tmp_path / "x" / "x.tar", {"a.txt": b""}).read_bytes())
    report = segment_paths(segmenter, str(shards / "*.tar"), tmp_path / "out")
    assert tree(tmp_path / "out") == ["b.tar"]
    said = {place.name: why for place, why in report.failed}
    assert "cannot be read to its end" in said["a.tar"]
    assert "no picture found in it" in said["none.tar"]


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    import pyarrow as pa
    import pyarrow.parquet

    rows = [{"bytes": picture(n), "path": f"{n}.png"} for n in range(70)] + [None, {"bytes": b"no", "path": None}]
    (tmp_path / "tables").mkdir()
    table = pa.table({"id": [f"id-{n}" for n in range(72)], "image": rows, "label": list(range(72))})
    pyarrow.parquet.write_table(table, tmp_path / "tables" / "a.parquet")
    return tmp_path / "tables" / "a.parquet"


def test_parquet_in_parquet_out(segmenter: Segmenter, parquet: Path, tmp_path: Path) -> None:
    """The rows and columns stay, with a column of masks instead of the pictures, empty where there is none."""
    import pyarrow.parquet

    report = segment_paths(segmenter, parquet, tmp_path / "out")
    assert (report.done, len(report.failed)) == (70, 2)
    table = pyarrow.parquet.read_table(tmp_path / "out" / "a.parquet")
    assert table.column_names == ["id", "label", "mask"]
    assert table.column("id").to_pylist() == [f"id-{n}" for n in range(72)]
    masks = table.column("mask").to_pylist()
    assert masks[70:] == [None, None]
    (tmp_path / "photo.png").write_bytes(picture(3))
    segment_paths(segmenter, tmp_path / "photo.png", tmp_path / "mask.png")
    assert masks[3]["bytes"] == (tmp_path / "mask.png").read_bytes()
    with Image.open(io.BytesIO(masks[69]["bytes"])) as mask:
        assert mask.size == (60 + 4 * 69, 40)
    again = segment_paths(segmenter, parquet, tmp_path / "out", skip_existing=True)
    assert (again.done, again.skipped) == (0, 70)
    segment_paths(segmenter, parquet, tmp_path / "out", skip_existing=True, kind="soft")
    table = pyarrow.parquet.read_table(tmp_path / "out" / "a.parquet")
    assert table.column_names == ["id", "label", "mask", "soft"]
    assert table.column("mask").to_pylist() == masks


def test_without_pyarrow(segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingError, match=r"redoseg\[parquet\]"):
        segment_paths(segmenter, tmp_path / "a.parquet", tmp_path / "out")
