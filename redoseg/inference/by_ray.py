"""The steps of many pictures on a cluster, by Ray Data: read, segment in actors, write.

Ray holds back readers while segmenting is slow, starts lost workers again and repeats what they had under way. What is
repeated gives the same bytes under the same name, and each result appears whole. So nothing is lost or there twice.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from redoseg.errors import DataError, MissingError, RedosegError
from redoseg.files import describe_error, printable
from redoseg.images.read import MAX_BYTES
from redoseg.inference.one_image import Job, Places, Work
from redoseg.inference.one_shard import segment_shard
from redoseg.inference.report import Tally
from redoseg.inference.request import Request
from redoseg.inference.segmenter import Origin, Segmenter
from redoseg.inference.steps import Done, Steps
from redoseg.inference.stores import store_of
from redoseg.storage import Place, place_of

_BATCH = 8  # pictures that an actor gets at a time
_BLOCK, _MOST_BLOCKS = 64, 20_000  # pictures that are read, and done again after a loss, together; at most so many
_ACTOR, _TASK = 0.9, 0.05  # of a core, so that readers and writers find room beside an actor on each core


class Plans(NamedTuple):
    """All that a worker needs to know. It is sent to each, so it has no list of all pictures."""

    origin: Origin | None
    """Of the segmenter; None for those that only write."""
    request: Request
    places: Places
    root: str
    most: int

    def work(self, segmenter: Segmenter | None) -> Work:
        """The work as a worker does it; only writing needs no model."""
        return Work(cast(Segmenter, segmenter), self.request, self.places, set(), root=self.root)


def by_ray(steps: Steps, jobs: Sequence[Job], workers: int) -> Generator[Done, None, None]:
    """All steps of each picture on a Ray cluster, in any order, on so many workers; 0 takes all cores.

    The cluster is that of RAY_ADDRESS or one that was started on this machine; else one is started for this call.
    Raises MissingError without Ray, RedosegError.
    """
    work = steps.work
    places = Places(_absolute(work.places.out), work.request)
    plans = Plans(work.segmenter.origin, work.request, places, work.root, steps.most)
    safe: list[dict[str, str]] = []
    for job in jobs:
        refused = _refused(work, job)
        if refused:
            yield Done(job, refused)
        else:
            safe.append({"image": str(_absolute(job.image)), "name": job.name, "stem": job.stem})
    if not safe:
        return
    with cluster() as ray:
        blocks = min(len(safe), max(-(-len(safe) // _BLOCK), min(4 * _cores(ray), len(safe))), _MOST_BLOCKS)
        read = ray.data.from_items(safe, override_num_blocks=blocks).map_batches(
            _read, batch_size=_BATCH, num_cpus=_TASK
        )
        # As an object of this process, in a list so that Ray does not open it: a worker that starts again finds it.
        sent = ray.put(plans)
        made = read.map_batches(
            _Images,
            fn_constructor_args=([sent],),
            batch_size=_BATCH,
            num_cpus=_ACTOR,
            compute=ray.data.ActorPoolStrategy(size=_size(ray, workers, len(safe))),
        )
        written = made.map_batches(_Writer(plans._replace(origin=None)), batch_size=_BATCH, num_cpus=_TASK)
        for row in written.iter_rows():
            yield row["done"]


def shards_by_ray(
    segmenter: Segmenter, shards: Sequence[Place], out: Place, request: Request, workers: int
) -> Generator[tuple[Place, Tally], None, None]:
    """What became of each shard, in any order. A worker has one shard at a time. Raises as `by_ray`."""
    plans = Plans(segmenter.origin, request, Places(_absolute(out), request), "", 0)
    with cluster() as ray:
        rows = ray.data.from_items(
            [{"shard": str(_absolute(shard))} for shard in shards], override_num_blocks=len(shards)
        )
        sent = ray.put(plans)
        done = rows.map_batches(
            _Shards,
            fn_constructor_args=([sent],),
            batch_size=1,
            num_cpus=_ACTOR,
            compute=ray.data.ActorPoolStrategy(size=_size(ray, workers, len(shards))),
        )
        for row in done.iter_rows():
            yield place_of(row["shard"]), row["tally"]


def _absolute(place: Place) -> Place:
    """The same for a process that works in another folder."""
    return place.absolute() if isinstance(place, Path) else place


def _refused(work: Work, job: Job) -> str:
    """Why a result may not be written since a picture to segment is there, which workers do not know."""
    for kind in work.request.kinds:
        target = work.places.first(kind, job.stem)
        if isinstance(target, Path) and os.path.realpath(target) in work.inputs:
            return f"{printable(target)} is a picture to segment: choose another folder for the results"
    return ""


def _read(batch: dict[str, Any]) -> dict[str, Any]:
    """The pictures of a batch with their content, or why they cannot be read."""
    contents, problems = [], []
    for image in batch["image"]:
        content, problem, place = b"", "", place_of(str(image))
        try:
            if isinstance(place, Path) and place.stat().st_size > MAX_BYTES:
                problem = f"it has more than {MAX_BYTES // 10**6} MB, the most that are read; make it smaller"
            else:
                content = place.read_bytes()
        except DataError as error:
            problem = str(error).removeprefix(f"{printable(place)}: ")
        except OSError as error:
            problem = f"cannot be read ({describe_error(error)}); change its permissions, or remove it"
        contents.append(content)
        problems.append(problem)
    return {**batch, "content": contents, "problem": problems}


class _Images:
    """An actor with a segmenter, for the pictures of one batch after the other."""

    def __init__(self, sent: list[Any]) -> None:
        plans = _received(sent)
        self.steps = Steps(plans.work(_one_thread(plans)), plans.most)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        rows = zip(*(batch[name] for name in ("image", "name", "stem", "content", "problem")), strict=True)
        done = []
        for image, name, stem, content, problem in rows:
            job = Job(place_of(str(image)), str(name), str(stem), bytes(content))
            done.append(Done(job._replace(content=None), str(problem)) if problem else self.steps.make(job))
        return {"done": done}


class _Shards:
    """An actor with a segmenter, for one shard after the other."""

    def __init__(self, sent: list[Any]) -> None:
        self.plans = plans = _received(sent)
        self.segmenter = _one_thread(plans)
        self.store = store_of(plans.places.out)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        shard = str(batch["shard"][0])
        tally = segment_shard(self.segmenter, place_of(shard), self.store, self.plans.request)
        return {"shard": [shard], "tally": [tally]}


@dataclass
class _Writer:
    """Writes the results of a batch."""

    plans: Plans

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        steps = Steps(self.plans.work(None), self.plans.most)
        return {"done": [steps.write(one) for one in batch["done"]]}


def _received(sent: list[Any]) -> Plans:
    import ray

    return cast(Plans, ray.get(sent[0]))


def _one_thread(plans: Plans) -> Segmenter:
    origin = plans.origin
    assert origin is not None
    return Segmenter(origin.model, 1, origin.edges, trust=origin.trust, device=origin.device, tiles=origin.tiles)


def _cores(ray: Any) -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _size(ray: Any, workers: int, most: int) -> int:
    """How many actors there are: no more than cores, for which they would wait for ever, nor than there is work."""
    return max(1, min(workers or _cores(ray), _cores(ray), most))


@contextlib.contextmanager
def cluster() -> Iterator[Any]:
    """The module ray, connected to a cluster. Errors of its workers within the block are RedosegErrors."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it reports to its makers
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingError.of("Ray, which --engine ray needs,", "ray") from None
    mine = not ray.is_initialized()
    try:
        if mine:
            ray.init(log_to_driver=False, logging_level="ERROR", configure_logging=False)
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what goes wrong is said in a line, not twice
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.print_on_execution_start = False, False
        context.raise_original_map_exception = True  # else an error loses what it was caused by on its way here
        yield ray
    except ray.exceptions.RayError as error:
        raise _of_worker(error) from error
    except ConnectionError as error:
        raise RedosegError(
            f"the Ray cluster cannot be reached ({describe_error(error)}); check RAY_ADDRESS, or remove it to use this "
            "machine alone"
        ) from error
    finally:
        if mine:
            ray.shutdown()


def _of_worker(error: BaseException) -> RedosegError:
    """The error of redoseg for which a worker stopped, or what Ray said in one line."""
    seen: BaseException | None = error
    while seen is not None:
        for one in (seen, getattr(seen, "cause", None)):
            if isinstance(one, RedosegError):
                kinds = [kind for kind in type(one).__mro__ if kind.__module__ == "redoseg.errors"]
                return cast(RedosegError, kinds[0](str(one.args[0] if one.args else one)))
        seen = seen.__cause__
    return RedosegError(f"Ray gave up ({describe_error(error)}); --skip-existing continues")
