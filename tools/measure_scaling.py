"""Photographs a second of `segment` with 1 and 2 threads, and with 1 and 2 workers on Ray, side by side.

    python tools/measure_scaling.py photos/ --model flowers --few 60 --many 600 --rounds 3

Each way segments a few and then many copies of the folder's photographs, in turn with the others. The many less the few
give the rate while it runs; what the few take beyond that is the start: Python, the model and, with Ray, its cluster.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median

WAYS = {f"{engine}, {n}": (engine, n) for n in (1, 2) for engine in ("threads", "ray")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="flowers")
    parser.add_argument("--few", type=int, default=60)
    parser.add_argument("--many", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folders = [copied(asked.photos, Path(name) / str(n), n) for n in (asked.few, asked.many)]
        seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for _ in range(asked.rounds):
            for way, (engine, n) in WAYS.items():
                few, many = (timed(asked.model, folder, Path(name) / "out", engine, n) for folder in folders)
                seconds[way].append((few, many))
    for way, taken in seconds.items():
        rates = [(asked.many - asked.few) / (many - few) for few, many in taken]
        starts = [few - asked.few / rate for (few, _), rate in zip(taken, rates, strict=True)]
        found = {"way": way, "pictures_per_second": spread(rates), "start_seconds": spread(starts)}
        print(json.dumps({**found, "seconds_of_many": spread([many for _, many in taken])}))


def copied(photos: Path, into: Path, n: int) -> Path:
    """A folder of n photographs: those of the first, as often as it takes."""
    into.mkdir()
    files = sorted(path for path in photos.iterdir() if path.is_file())
    for at, path in enumerate(islice(cycle(files), n)):
        shutil.copy(path, into / f"{at:05d}{path.suffix}")
    return into


def timed(model: str, folder: Path, out: Path, engine: str, n: int) -> float:
    """Seconds of one command from its start to its end; the results are removed."""
    amount = ["--workers", str(n)] if engine == "ray" else ["--threads", str(n)]
    command = [
        sys.executable,
        "-m",
        "redoseg",
        "segment",
        model,
        str(folder),
        "-o",
        str(out),
        "--engine",
        engine,
        *amount,
    ]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    taken = time.perf_counter() - start
    written = sum(1 for path in out.rglob("*.png"))
    if written != (expected := sum(1 for _ in folder.iterdir())):
        raise SystemExit(f"{written} masks of {expected} photographs")
    shutil.rmtree(out)
    return taken


def spread(values: list[float]) -> list[float]:
    """Smallest, median and greatest."""
    return [round(value, 2) for value in (min(values), median(values), max(values))]


if __name__ == "__main__":
    main()
