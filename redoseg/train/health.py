"""Has a region collapsed? Told from its soft size alone, without labels."""

from __future__ import annotations

from collections.abc import Sequence

from redoseg.config import WatchConfig


def looks_due(step: int, watch: WatchConfig) -> bool:
    """Whether collapse is looked for after this step."""
    return step <= watch.collapse_until and step % watch.collapse_every == 0


def least_share(watch: WatchConfig, regions: int) -> float:
    """The size below which one of n regions has collapsed: the setting is for two, more regions have less each."""
    return watch.collapse_share * 2 / regions


def collapsed_region(watch: WatchConfig, *sizes: Sequence[float]) -> int | None:
    """The region that is below the least share in every one of `sizes`, or None.

    `sizes` are the regions' mean soft sizes [share of the picture], on training pictures and, where there are
    any, on those that watch: one odd batch alone is no collapse.
    """
    for region, shares in enumerate(zip(*sizes, strict=True)):
        if max(shares) < least_share(watch, len(sizes[0])):
            return region
    return None
