"""Pictures and results in Google's storage and on Hugging Face's hub, for which servers on this machine stand in."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bright import bright_square, tree, write_model
from hub_server import TOKEN, Hub, serving_hub

from redoseg.data import open_prepared, prepare
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter

PICTURES = 10


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return Segmenter(write_model(tmp_path / "run" / "mask.onnx").parent, threads=2)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Pictures by their names, which are also in the folder photos/."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = {}
    for number in range(PICTURES):
        buffer = io.BytesIO()
        bright_square(60 + number, 40).save(buffer, "PNG")
        found[f"part-{number % 2}/{number}.png"] = buffer.getvalue()
    for name, content in found.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(content)
    return found


def of_folder(segmenter: Segmenter, tmp_path: Path) -> dict[str, bytes]:
    """The masks of the folder photos/."""
    segment_paths(segmenter, tmp_path / "photos", tmp_path / "masks")
    return {name: (tmp_path / "masks" / name).read_bytes() for name in tree(tmp_path / "masks")}


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The file system of a server with the bucket `bucket`."""
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it would ask for the bucket's kind over gRPC
    gcsfs = pytest.importorskip("gcsfs", reason="gcsfs is not installed")
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="gcp-storage-emulator is not installed")
    started = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
    started.start()
    while started._api._httpd is None:
        time.sleep(0.01)
    address = f"http://127.0.0.1:{started._api._httpd.server_port}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    gcsfs.GCSFileSystem.clear_instance_cache()
    yield gcsfs.GCSFileSystem(endpoint_url=address, token="anon", use_listings_cache=False)
    gcsfs.GCSFileSystem.clear_instance_cache()
    started.stop()


@pytest.mark.slow
def test_google(google: Any, photos: dict[str, bytes], segmenter: Segmenter, tmp_path: Path) -> None:
    for name, content in photos.items():
        google.pipe_file(f"bucket/photos/{name}", content)
    assert segment_paths(segmenter, "gs://bucket/photos", "gs://bucket/masks").done == PICTURES
    again = segment_paths(segmenter, "gs://bucket/photos", "gs://bucket/masks", skip_existing=True)
    assert (again.done, again.skipped) == (0, PICTURES)
    assert segment_paths(segmenter, "gs://bucket/photos/*/[12].png", tmp_path / "some").done == 2
    names = [name.removeprefix("bucket/masks/") for name in google.find("bucket/masks")]
    assert {name: google.cat_file(f"bucket/masks/{name}") for name in names} == of_folder(segmenter, tmp_path)
    prepare("folder", "gs://bucket/photos", tmp_path / "prepared", 16)
    assert len(open_prepared(tmp_path / "prepared")) == PICTURES


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    system = pytest.importorskip("huggingface_hub").HfFileSystem
    pytest.importorskip("fsspec")
    with serving_hub(monkeypatch, tmp_path) as served:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        system.clear_instance_cache()
        yield served
        system.clear_instance_cache()


def test_a_data_set_on_the_hub(hub: Hub, photos: dict[str, bytes], segmenter: Segmenter, tmp_path: Path) -> None:
    hub.commits["datasets/me/set"] = [{f"photos/{name}": content for name, content in photos.items()}]
    hub.commits["datasets/me/masks"] = [{}]
    assert segment_paths(segmenter, "hf://datasets/me/set/photos", tmp_path / "here").failed == ()
    expected = of_folder(segmenter, tmp_path)
    assert {name: (tmp_path / "here" / name).read_bytes() for name in tree(tmp_path / "here")} == expected
    assert segment_paths(segmenter, "hf://datasets/me/set/photos", "hf://datasets/me/masks/all").done == PICTURES
    made = hub.commits["datasets/me/masks"][-1]
    assert {name.removeprefix("all/"): content for name, content in made.items()} == expected
    again = segment_paths(segmenter, "hf://datasets/me/set/photos", "hf://datasets/me/masks/all", skip_existing=True)
    assert (again.done, again.skipped) == (0, PICTURES)
    prepare("folder", "hf://datasets/me/set/photos", tmp_path / "prepared", 16)
    assert len(open_prepared(tmp_path / "prepared")) == PICTURES
