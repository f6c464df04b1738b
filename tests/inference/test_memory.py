"""Memory follows a large picture's pixels, not its shape, and of several no more than of one at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redoseg.images.read import MAX_PIXELS

if not Path("/proc/self/status").exists():  # where else the most is known, it is that of the parent too
    pytest.skip("needs Linux", allow_module_level=True)

FEW = 17_000_000  # above LARGE, in pixels; what is made whole of a picture that is not large is not seen here
BASE = 230  # MB: the program, and what is made of a part at a time
EACH = 10  # bytes a pixel; floats of the colours alone would be 12
MEASURED = """
import sys
from redoseg.inference.segmenter import Segmenter
from redoseg.inference.segment_files import segment_paths
source, out, kinds, edges, what = sys.argv[1:]
kinds = kinds.split()
segmenter = Segmenter("flowers", threads=2, edges=edges, tiles=1024 if what == "tiles" else 0)
if what == "tiles":
    assert not segment_paths(segmenter, source, out, kind=kinds, cleaning=None).failed
elif what == "segment":
    report = segment_paths(segmenter, source, out, kind=kinds, crop="cutout" in kinds, review=source.endswith("photos"))
    assert not report.failed, report.failed
elif what == "library":
    assert segmenter(source).any(axis=None) in (True, False)
else:
    from redoseg.data.folder import list_folder
    from redoseg.data.writing import write_prepared
    write_prepared(out, "large", list_folder(source), size=32, source=source, at_least=1)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def tall(pixels: int) -> Image.Image:
    return Image.new("RGB", (pixels // 1_000_000, 1_000_000), (200, 90, 40))


def square(pixels: int) -> Image.Image:
    side = int(pixels**0.5)
    return Image.radial_gradient("L").resize((side, side)).convert("RGB")


def transparent(pixels: int) -> Image.Image:
    image = square(pixels).convert("RGBA")
    image.putalpha(Image.radial_gradient("L").resize(image.size))
    return image


def row(pixels: int) -> Image.Image:
    return Image.fromarray((np.arange(pixels, dtype=np.uint32) >> 14).astype(np.uint8)[None])


def deep(pixels: int) -> Image.Image:
    side = int(pixels**0.5)
    return Image.fromarray((np.arange(side * side, dtype=np.uint32) // 500).astype(np.uint16).reshape(side, side))


def turned(pixels: int) -> Image.Image:
    return square(pixels)  # by its EXIF data


def saved(make: Callable[[int], Image.Image], pixels: int, folder: Path, count: int = 1) -> Path:
    folder.mkdir()
    image = make(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6 if make is turned else 1
    for number in range(count):
        image.save(folder / f"{number}.png", compress_level=1, exif=exif)
    return folder / "0.png" if count == 1 else folder


def peak(*arguments: str | Path) -> float:
    """Most memory that the process had [MB]."""
    command = [sys.executable, "-c", MEASURED, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) * 1024 / 1e6


CASES = [(square, "mask", "guided", "library")]
MORE_CASES = [
    (tall, "overlay", "plain", "segment"),
    (transparent, "cutout", "guided", "segment"),
    (turned, "coco", "guided", "segment"),
    (row, "soft", "guided", "segment"),
    (deep, "mask", "grabcut", "segment"),
]


@pytest.mark.parametrize(
    ("make", "kind", "edges", "what"), [*CASES, *(pytest.param(*c, marks=pytest.mark.slow) for c in MORE_CASES)]
)
def test_memory_follows_the_pixels(
    make: Callable[[int], Image.Image], kind: str, edges: str, what: str, tmp_path: Path
) -> None:
    if edges == "grabcut":
        pytest.importorskip("cv2")
    source = saved(make, FEW, tmp_path / "photos")
    assert peak(source, tmp_path / "out", kind, edges, what) < BASE + EACH * FEW / 1e6


@pytest.mark.slow
@pytest.mark.parametrize("what", ["segment", "prepare"])
@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (square, "mask soft cutout overlay coco"),
        (tall, "cutout mask"),
        (transparent, "cutout overlay"),
        (turned, "cutout coco"),
        (row, "cutout soft"),
        (deep, "cutout overlay"),
    ],
)
def test_a_picture_of_any_shape_takes_less_than_a_gigabyte(
    make: Callable[[int], Image.Image], kinds: str, what: str, tmp_path: Path
) -> None:
    """All kinds are made in one process, which decodes the picture once for them."""
    pixels = MAX_PIXELS - 2**22
    source = saved(make, pixels, tmp_path / "photos")
    found = source if what == "segment" else source.parent
    assert peak(found, tmp_path / "out", kinds, "guided", what) < 1000


@pytest.mark.slow
@pytest.mark.parametrize("what", ["segment", "prepare"])
def test_a_folder_of_them_takes_less_than_two(what: str, tmp_path: Path) -> None:
    source = saved(square, MAX_PIXELS - 2**22, tmp_path / "photos", count=5)
    assert peak(source, tmp_path / "out", "mask", "guided", what) < 2000


@pytest.mark.slow
def test_a_tiff_larger_than_what_is_decoded_takes_flat_memory(tmp_path: Path) -> None:
    """By tiles, and without cleaning, which takes a byte a pixel: no more for three times the rows."""
    tifffile = pytest.importorskip("tifffile")
    width, tile = 4096, np.repeat(np.add.outer(*[np.arange(512) // 4] * 2).astype(np.uint8)[..., None], 3, -1)
    peaks = []
    for height in (2**15 + 2**10, 3 * 2**15):
        assert width * height > MAX_PIXELS
        source, count = tmp_path / f"{height}.tif", (width // 512) * (height // 512)
        with tifffile.TiffWriter(source) as writer:
            tiles = (tile for _ in range(count))
            writer.write(tiles, shape=(height, width, 3), dtype=np.uint8, tile=(512, 512), compression="zlib")
        peaks.append(peak(source, tmp_path / "out", "mask", "plain", "tiles"))
        head = (tmp_path / "out" / f"{height}.png").read_bytes()[16:24]  # Pillow refuses to open so large a picture
        assert (int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")) == (width, height)
        source.unlink()
    assert peaks[1] < 800
    assert peaks[1] < peaks[0] + 100
