"""Shards in, shards out: several of them, one after the other or by an engine."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Sequence

from redoseg.config.kinds import DRAWN
from redoseg.errors import DataError, FullError
from redoseg.files import printable
from redoseg.images.shards import PARQUET
from redoseg.inference.one_shard import segment_shard
from redoseg.inference.report import OnItem, SegmentReport, Tally
from redoseg.inference.request import Engine, Request
from redoseg.inference.segmenter import Segmenter
from redoseg.inference.stores import store_of
from redoseg.storage import Place


def check_request(request: Request, shards: Sequence[Place]) -> None:
    """Raises DataError for results that do not go into shards, and for shards of one name."""
    shared = [kind for kind in request.kinds if kind not in DRAWN]
    if shared or request.review:
        what = f"--as {shared[0]}" if shared else "--review"
        raise DataError(
            f"{what} cannot be combined with {printable(shards[0])}, since shards take pictures alone; choose mask, "
            "soft, cutout or overlay, or unpack the shards into a folder"
        )
    if request.parts and any(shard.suffix.lower() == PARQUET for shard in shards):
        raise DataError("--parts gives a picture several results, but a row of Parquet has one; remove --parts")
    name, count = Counter(shard.name for shard in shards).most_common(1)[0]
    if count > 1:
        raise DataError(
            f"{count} shards are called {printable(name)}, and so would be their results; segment those of each folder "
            "in a call of its own"
        )


def segment_shards(
    segmenter: Segmenter,
    shards: Sequence[Place],
    out: Place,
    request: Request,
    on_item: OnItem | None = None,
    *,
    engine: Engine = "threads",
    workers: int = 0,
) -> SegmentReport:
    """Segment all pictures of several shards into shards of the same names in the folder `out`.

    A shard is written whole or not at all. With `skip_existing` results that are up to date are taken over from the
    shard that is there. Raises RedosegError; FullError where nothing can be written.
    """
    check_request(request, shards)
    store = store_of(out)
    whole = Tally()
    with contextlib.ExitStack() as stack:
        stack.enter_context(store.alone())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if engine == "ray":
            from redoseg.inference.by_ray import shards_by_ray

            run = shards_by_ray(segmenter, shards, out, request, workers)
        else:
            run = ((shard, segment_shard(segmenter, shard, store, request)) for shard in shards)
        seen = 0
        try:
            for seen, (shard, tally) in enumerate(stack.enter_context(contextlib.closing(run)), 1):
                whole.add(tally)
                if on_item is not None:
                    on_item(shard, seen, len(shards), dict(tally.failed).get(shard))
        except FullError as error:
            kept = f"{seen:,} of {len(shards):,} shards are segmented"
            raise FullError(f"{error}; {kept}, and --skip-existing continues") from None
    return whole.report()
