"""Pictures and results in S3, for which moto's server stands in; a process is killed in the middle."""

from __future__ import annotations

import io
import os
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bright import bright_square, tree, write_model
from conftest import Start
from PIL import Image

from redoseg.data import open_prepared, prepare
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter

pytestmark = pytest.mark.slow
PICTURES = 24


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The file system of a server with the bucket `bucket`."""
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    started = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", b"")).close()
    system = s3fs.S3FileSystem(use_listings_cache=False)
    system.mkdir("bucket")
    for number in range(PICTURES):
        buffer = io.BytesIO()
        bright_square(300 + number, 200).save(buffer, "PNG")
        system.pipe_file(f"bucket/photos/part-{number % 2}/{number}.png", buffer.getvalue())
    yield system
    started.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def stored(system: Any, folder: str) -> dict[str, bytes]:
    system.invalidate_cache()
    return {name.removeprefix(f"bucket/{folder}/"): system.cat_file(name) for name in system.find(f"bucket/{folder}")}


def test_a_killed_process_leaves_whole_objects_and_is_continued(s3: Any, start: Start, tmp_path: Path) -> None:
    segmenter = Segmenter(write_model(tmp_path / "run" / "mask.onnx").parent, threads=1)
    command = ["-m", "redoseg", "segment", str(tmp_path / "run"), "s3://bucket/photos", "-o", "s3://bucket/masks"]
    process = start(*command, "--threads", "1", env=dict(os.environ))
    while process.poll() is None and not s3.find("bucket/masks"):
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = stored(s3, "masks")
    assert 0 < len(before) < PICTURES
    for content in before.values():
        with Image.open(io.BytesIO(content)) as mask:
            mask.load()
    report = segment_paths(segmenter, "s3://bucket/photos", "s3://bucket/masks", skip_existing=True)
    assert (report.skipped, report.done) == (len(before), PICTURES - len(before))
    s3.get("bucket/photos", str(tmp_path / "photos"), recursive=True)
    segment_paths(segmenter, tmp_path / "photos", tmp_path / "masks")
    assert stored(s3, "masks") == {name: (tmp_path / "masks" / name).read_bytes() for name in tree(tmp_path / "masks")}


def test_patterns_and_sets(s3: Any, tmp_path: Path) -> None:
    segmenter = Segmenter(write_model(tmp_path / "run" / "mask.onnx").parent, threads=2)
    report = segment_paths(segmenter, "s3://bucket/photos/*/1*.png", "s3://bucket/some", kind=["cutout", "coco"])
    assert report.done == 11
    assert "coco/coco.json" in stored(s3, "some")
    prepare("folder", "s3://bucket/photos", tmp_path / "prepared", 16)
    assert len(open_prepared(tmp_path / "prepared")) == PICTURES


def test_on_a_cluster(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    segmenter = Segmenter(write_model(tmp_path / "run" / "mask.onnx").parent, threads=1)
    report = segment_paths(segmenter, "s3://bucket/photos", "s3://bucket/ray", engine="ray", workers=1)
    assert (report.done, report.failed) == (PICTURES, ())
    segment_paths(segmenter, "s3://bucket/photos", "s3://bucket/threads")
    assert stored(s3, "ray") == stored(s3, "threads")
    again = segment_paths(segmenter, "s3://bucket/photos", "s3://bucket/ray", engine="ray", skip_existing=True)
    assert (again.done, again.skipped) == (0, PICTURES)


def test_nobody_may_write_there(s3: Any, tmp_path: Path) -> None:
    segmenter = Segmenter(write_model(tmp_path / "run" / "mask.onnx").parent, threads=1)
    with pytest.raises(
        Exception, match=r"s3://nowhere/masks/.* cannot be written .*--skip-existing continues"
    ) as raised:
        segment_paths(segmenter, "s3://bucket/photos", "s3://nowhere/masks")
    assert "\n" not in str(raised.value)
