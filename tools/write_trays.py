"""Write built-in trays as a folder with images/ and masks/, as a user has them.

python tools/write_trays.py OUT [--seed 0] [--count 300] [--size 64] [--held-out]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from redoseg.data.shapes import HELD_OUT_START, trays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="which table")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--size", type=int, default=64, help="side in pixels")
    parser.add_argument("--held-out", action="store_true", help="trays that no training sees")
    asked = parser.parse_args()
    write_trays(asked.out, asked.count, asked.size, seed=asked.seed, held_out=asked.held_out)


def write_trays(out: Path, count: int, size: int, *, seed: int, held_out: bool) -> None:
    """Write `count` trays of a seed as PNG files."""
    start = HELD_OUT_START if held_out else 0
    for kind in ("images", "masks"):
        (out / kind).mkdir(parents=True)
    images, numbers = trays(count, size, seed=seed, start=start)
    for i, (image, number) in enumerate(zip(images, numbers, strict=True)):
        name = f"tray-{start + i:07}.png"
        Image.fromarray(image).save(out / "images" / name)
        Image.fromarray((number > 0).astype("uint8") * 255).save(out / "masks" / name)


if __name__ == "__main__":
    main()
