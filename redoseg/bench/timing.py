"""What is timed takes turns in one run, and only ratios are claimed."""

from __future__ import annotations

import contextlib
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal

from redoseg import __version__
from redoseg.bench.results import Hardware, Ratio, Timed
from redoseg.system import cores

Package = Literal["numpy", "pillow", "torch", "onnxruntime"]


def side_by_side(ways: dict[str, Callable[[], object]], count: int, rounds: int) -> Timed:
    """Time each way of doing `count` pieces of work, in turns; the others are divided by the first, the reference."""
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        # back and forth, so that neither always runs on the warmer machine
        for name in list(ways) if number % 2 == 0 else list(ways)[::-1]:
            started = time.perf_counter()
            ways[name]()
            speeds[name].append(count / (time.perf_counter() - started))
    reference, *others = ways
    return {
        "per_second": {name: [digits(v) for v in values] for name, values in speeds.items()},
        "ratio": {name: ratios(speeds[name], speeds[reference]) for name in others},
    }


def ratios(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """The quotients of figures that were measured in the same rounds."""
    values = [a / b for a, b in zip(above, below, strict=True)]
    return {"median": digits(statistics.median(values)), "least": digits(min(values)), "most": digits(max(values))}


def digits(value: float) -> float:
    """The value to four digits, or whole."""
    return round(value) if value >= 1000 else float(f"{value:.4g}")


def hardware() -> Hardware:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    found: Hardware = {
        "processor": model,
        "cores": cores(),
        "python": platform.python_version(),
        "redoseg": __version__,
    }
    packages: tuple[Package, ...] = ("numpy", "pillow", "torch", "onnxruntime")
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):  # preparing needs neither of the last two
            found[name] = metadata.version(name)
    return found
