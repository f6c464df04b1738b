"""Has a region collapsed? Told from its soft size alone, without labels."""

from __future__ import annotations

from collections.abc import Sequence

from redoseg.config import WatchConfig


def looks_due(step: int, watch: WatchConfig) -> bool:
    """Whether collapse is looked for after this step."""
    return step <= watch.collapse_until and step % watch.collapse_every == 0


def collapsed_region(watch: WatchConfig, *sizes: Sequence[float]) -> int | None:
    """The region that is below the least share in every one of `sizes`, or None.

    `sizes` are the regions' mean soft sizes [share of the picture], on training pictures and, where there are
    any, on those that watch: one odd batch alone is no collapse.
    """
    for region, shares in enumerate(zip(*sizes, strict=True)):
        if max(shares) < watch.collapse_share:
            return region
    return None
