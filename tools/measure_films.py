"""How steady the masks of films are, and how good, at several strengths of `--steady`.

    python tools/measure_films.py flowers prepared/flowers17 --split dev --films 24

Each film is a hand-held camera over one picture of a labelled set, with changing light, noise and H.264, so that the
true mask of every frame is known. Printed for each strength: mean IoU of neighbouring masks (1 is without flicker), and
mean IoU with the truth, over films.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean

import av
import numpy as np
from numpy.typing import NDArray

from redoseg.data import labelled_images

FRAMES, ENLARGE, SHOWN = 40, 2, 0.75  # of each film; the picture's size; the part of a side that the camera sees
NOISE, LIGHT = 8.0, 0.15  # grey levels; as a share of the brightness


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--films", type=int, default=24)
    parser.add_argument("--edges", choices=("plain", "guided"), default="guided")
    parser.add_argument("--strengths", type=int, nargs="+", default=[0, 1, 2, 3, 6])
    asked = parser.parse_args()
    images = labelled_images(asked.data, split=asked.split)
    assert images.masks is not None
    chosen = np.linspace(0, len(images) - 1, asked.films).round().astype(int)
    print(f"{asked.films} films of {FRAMES} frames, of {asked.data}, {asked.split}; {asked.edges} edges")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "films"
        folder.mkdir()
        truths = {f"{i:04d}": write_film(folder / f"{i:04d}.mp4", images.pixels[i], images.masks[i], i) for i in chosen}
        for steady in asked.strengths:
            out = Path(name) / str(steady)
            options = ["--film", "ffv1", "--steady", str(steady), "--edges", asked.edges, "--json"]
            command = [sys.executable, "-m", "redoseg", "segment", asked.model, str(folder), "-o", str(out), *options]
            said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            neighbours = mean(film["agreement"] for film in said["films"])
            iou = mean(iou_of(out / f"{film}.mkv", truth) for film, truth in truths.items())
            print(f"--steady {steady}: neighbouring masks {neighbours:.4f}, IoU with the truth {iou:.4f}", flush=True)


def write_film(path: Path, pixels: NDArray[np.uint8], mask: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Film a picture (h, w, 3) and return the true masks of the frames (FRAMES, side, side)."""
    rng = np.random.default_rng(seed)
    large, truth = (np.kron(a, np.ones((ENLARGE, ENLARGE, *[1] * (a.ndim - 2)), np.uint8)) for a in (pixels, mask))
    side = round(len(large) * SHOWN) // 2 * 2
    room = len(large) - side
    # a slow pan with the tremor of a hand
    pan = room / 2 * (1 + 0.8 * np.sin(np.arange(FRAMES)[:, None] / (9, 11) + rng.uniform(0, 6, 2)))
    places = (pan + rng.normal(0, 1, (FRAMES, 2))).round().clip(0, room).astype(int)
    light = 1 + LIGHT * np.sin(np.arange(FRAMES) / 4 + rng.uniform(0, 6))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        for (y, x), bright in zip(places, light, strict=True):
            seen = large[y : y + side, x : x + side] * bright + rng.normal(0, NOISE, (side, side, 3))
            frame = av.VideoFrame.from_ndarray(seen.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return np.stack([truth[y : y + side, x : x + side] for y, x in places])


def iou_of(path: Path, truths: NDArray[np.uint8]) -> float:
    """Mean IoU of a film of masks with the true ones; what is neither object nor ground is left out."""
    with av.open(str(path)) as container:
        masks = np.stack([np.asarray(frame.to_ndarray(format="gray"), np.uint8) for frame in container.decode(video=0)])
    known, truth = (truths == 0) | (truths == 255), truths == 255
    found = masks > 127
    both, either = (found & truth & known).sum((1, 2)), ((found | truth) & known).sum((1, 2))
    return float(np.mean(both / np.maximum(either, 1)))


if __name__ == "__main__":
    main()
