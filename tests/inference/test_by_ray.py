"""`--engine ray` on a cluster of two nodes on this machine: the results are those of threads, whatever is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bright import bright_square, tree, write_model
from test_shards import picture, write_tar

from redoseg.cli.main import run_command
from redoseg.errors import FullError, MissingError
from redoseg.inference import by_ray
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter

PICTURES = 96


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "photos").mkdir()
    bright_square().save(tmp_path / "photos" / "a.png")
    model, photos, out = write_model(tmp_path / "run" / "mask.onnx").parent, tmp_path / "photos", tmp_path / "out"
    with pytest.raises(MissingError, match=r"redoseg\[ray\]"):
        segment_paths(Segmenter(model, threads=1), photos, out, engine="ray")
    with pytest.raises(MissingError, match=r"redoseg\[ray\]"):
        run_command(["segment", str(model), str(photos), "-o", str(out), "--engine", "ray", "--workers", "1"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of a core each, on this machine."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    for number in range(PICTURES):
        path = folder / f"part-{number % 3}" / f"{number:03}.png"
        path.parent.mkdir(exist_ok=True)
        bright_square(300 + number, 200).save(path)
    return folder


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return Segmenter(write_model(tmp_path / "run" / "mask.onnx").parent, threads=2)


def workers_of(kind: str) -> list[int]:
    """The processes of Ray's actors of a kind, which their titles name."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                title = (process / "cmdline").read_bytes()
                if title.startswith(b"ray::") and kind.encode() in title:
                    found.append(int(process.name))
    return found


class Seen:
    """Counts each picture, and does something once, after some of them."""

    def __init__(self, after: int, then: Callable[[], None]) -> None:
        self.names: list[str] = []
        self.after, self.then = after, then

    def __call__(self, place: object, done: int, total: int, why: str | None) -> None:
        self.names.append(str(place))
        if done == self.after:
            self.then()


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in tree(folder)}


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["worker", "node"])
def test_a_lost_worker_costs_nothing(
    lost: str, cluster: Any, photos: Path, segmenter: Segmenter, tmp_path: Path
) -> None:
    killed: list[Any] = []
    left: list[int] = []  # pictures without a result when something was killed

    def count() -> None:
        left.append(PICTURES - len(list((tmp_path / "ray" / "mask").rglob("*.png"))))

    def kill_worker() -> None:
        count()
        killed.extend(workers_of("_Images")[:1])
        os.kill(killed[0], signal.SIGKILL)

    def remove_node() -> None:
        count()
        killed.append(next(iter(cluster.worker_nodes)))
        cluster.remove_node(killed[0], allow_graceful=False)

    kind: Any = ["mask", "cutout", "coco"]
    seen = Seen(8, kill_worker if lost == "worker" else remove_node)
    report = segment_paths(segmenter, photos, tmp_path / "ray", kind=kind, engine="ray", on_item=seen)
    assert killed
    assert left[0] > 0
    assert (report.done, report.failed) == (PICTURES, ())
    assert sorted(seen.names) == sorted(str(path) for path in photos.rglob("*.png"))
    segment_paths(segmenter, photos, tmp_path / "threads", kind=kind)
    assert contents(tmp_path / "ray") == contents(tmp_path / "threads")
    print(
        f"a {lost} was killed when {left[0]} of {PICTURES} pictures had no mask; {report.done} pictures done, "
        f"{len(report.failed)} failed, {len(contents(tmp_path / 'ray'))} files equal to those of threads"
    )
    again = segment_paths(
        segmenter, photos, tmp_path / "ray", kind=["mask", "cutout"], engine="ray", skip_existing=True
    )
    assert (again.done, again.skipped) == (0, PICTURES)
    if lost == "node":
        cluster.add_node(num_cpus=1)


@pytest.mark.slow
def test_what_fails_is_reported_as_by_threads(cluster: Any, photos: Path, segmenter: Segmenter, tmp_path: Path) -> None:
    broken = tmp_path / "photos"
    broken.mkdir()
    for path in list(photos.rglob("*.png"))[:5]:
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (broken / "y.png").write_bytes(b"")
    on_cluster = segment_paths(segmenter, broken, tmp_path / "ray", engine="ray", workers=1)
    on_threads = segment_paths(segmenter, broken, tmp_path / "threads")
    assert sorted(on_cluster.failed) == sorted(on_threads.failed)
    assert contents(tmp_path / "ray") == contents(tmp_path / "threads")


@pytest.mark.slow
def test_a_full_disk_ends_the_work(cluster: Any) -> None:
    """A worker's error is the one that it would be without Ray."""

    def full(_: Any) -> Any:
        raise FullError("out/a.png: cannot be written (No space left on device)")

    with pytest.raises(FullError, match=r"^out/a.png: cannot be written"), by_ray.cluster() as ray:
        list(ray.data.from_items([{"a": 1}]).map_batches(full).iter_rows())


@pytest.mark.slow
def test_shards(cluster: Any, segmenter: Segmenter, tmp_path: Path) -> None:
    for shard in range(4):
        members = {f"{shard}-{number}.png": picture(number) for number in range(12)}
        write_tar(tmp_path / "shards" / f"{shard}.tar", members)
    seen = Seen(1, lambda: os.kill(workers_of("_Shards")[0], signal.SIGKILL))
    report = segment_paths(segmenter, str(tmp_path / "shards/*.tar"), tmp_path / "ray", engine="ray", on_item=seen)
    assert report.done == 48
    assert len(set(seen.names)) == len(seen.names) == 4
    segment_paths(segmenter, str(tmp_path / "shards/*.tar"), tmp_path / "threads")
    assert contents(tmp_path / "ray") == contents(tmp_path / "threads")
