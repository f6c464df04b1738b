"""Peak memory of the largest pictures of each kind that are read, in `segment`, the library, `prepare` and the page.

    python tools/measure_memory.py
    python tools/measure_memory.py --columns page --at-once 3

The pictures are made, of 127.7 million pixels or what their kind may have (WebP and AVIF 52). On the page they have 109
million, and a WebP 43.6. Each line
is a process of its own; the peak is VmHWM of /proc, in MB of 10^6 bytes, with the program itself (about 75 MB, the
page's 250 MB).
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE, SMALL = 11_300, 7_200
VERBS = {
    "segment": "segment_paths(s, path, out + '.png', overwrite=True)",
    "cut-out": "segment_paths(s, path, out + '.png', kind='cutout', overwrite=True)",
    "soft()": "s.soft(path)",
    "s()": "s(path)",
}
ALL_VERBS = ("JPEG",)  # of other kinds only decoding differs
PAGE = "page: "  # kinds that it alone is tried with
FEW_VERBS = ("segment",)
COLUMNS = (*VERBS, "prepare", "page")
PEAK = "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
START = (
    "import sys; path, out = sys.argv[1:]\n"
    "from redoseg.inference.segmenter import Segmenter\n"
    "from redoseg.inference.segment_files import segment_paths\n"
    "s = Segmenter('flowers')\n"
)
PREPARE = (
    "import sys; path, out = sys.argv[1:]\n"
    "from pathlib import Path\n"
    "from redoseg.data.decoding import decode_item\n"
    "from redoseg.data.listing import Item\n"
    "assert decode_item(Item('x', Path(path)), 128).image is not None\n"
)


def smooth(side: int) -> Image.Image:
    few = np.random.default_rng(0).integers(0, 255, (20, 20, 3)).astype(np.uint8)
    return Image.fromarray(few).resize((side, side), Image.Resampling.BICUBIC)


def tall(width: int, height: int) -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert("RGB")


def row(width: int) -> Image.Image:
    return Image.fromarray((np.arange(width, dtype=np.uint32) >> 14).astype(np.uint8)[None])


def transparent(side: int) -> Image.Image:
    image = smooth(side)
    image.putalpha(Image.radial_gradient("L").resize(image.size))
    return image


ON_ITS_SIDE = Image.Exif()
ON_ITS_SIDE[0x0112] = 6
KINDS: dict[str, tuple[Callable[[], Image.Image], str, dict[str, Any]]] = {
    "WebP, 7,200 px": (lambda: smooth(SMALL), "webp", {"quality": 20, "method": 0}),
    "WebP, transparent, 7,200 px": (lambda: transparent(SMALL), "webp", {"quality": 20, "method": 0}),
    "AVIF, 4:4:4, transparent, 7,200 px": (lambda: transparent(SMALL), "avif", {"speed": 10, "subsampling": "4:4:4"}),
    "PNG, transparent": (lambda: transparent(SIDE), "png", {"compress_level": 1}),
    "PNG, 16 bits": (
        lambda: Image.fromarray((np.arange(SIDE * SIDE, dtype=np.uint32) // 2000).astype("u2").reshape(SIDE, SIDE)),
        "png",
        {"compress_level": 1},
    ),
    "JPEG": (lambda: smooth(SIDE), "jpg", {}),
    "JPEG, turned by EXIF": (
        lambda: smooth(SIDE),
        "jpg",
        {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"},
    ),
    "JPEG, CMYK": (lambda: smooth(SIDE).convert("CMYK"), "jpg", {}),
    "JPEG, cut short": (lambda: smooth(SIDE), "jpg", {"subsampling": 0}),
    "JPEG, progressive, 4:2:0, 11,000 px a side": (lambda: smooth(11_000), "jpg", {"progressive": True}),
    "JPEG, progressive, 4:4:4, 9,200 px": (lambda: smooth(9_200), "jpg", {"progressive": True, "subsampling": 0}),
    "TIFF, packed": (lambda: smooth(SIDE), "tif", {"compression": "tiff_deflate"}),
    "GIF": (lambda: smooth(SIDE).convert("L").convert("P"), "gif", {}),
    "PNG, one row": (lambda: row(SIDE**2), "png", {"compress_level": 1}),
    "PNG, 127 px wide": (lambda: tall(127, 1_000_000), "png", {"compress_level": 1}),
    f"{PAGE}WebP, 6,600 px": (lambda: smooth(6_600), "webp", {"quality": 20, "method": 0}),
    f"{PAGE}JPEG": (lambda: smooth(10_480), "jpg", {}),
    f"{PAGE}PNG, 109 px wide": (lambda: tall(109, 1_000_000), "png", {"compress_level": 1}),
    f"{PAGE}PNG, one row": (lambda: row(109_000_000), "png", {"compress_level": 1}),
}


def main(kinds: list[str], columns: list[str], at_once: int) -> None:
    print(f"{'MB':44} {'  '.join(f'{verb:>8}' for verb in columns)}", flush=True)
    most = dict.fromkeys(columns, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        for name in kinds:
            some = [*VERBS, "prepare"] if name in ALL_VERBS else ["page"] if name.startswith(PAGE) else FEW_VERBS
            some = [verb for verb in some if verb in columns]
            if not some:
                continue
            make, suffix, settings = KINDS[name]
            path = Path(folder) / f"x.{suffix}"
            make().save(path, **settings)
            if "cut short" in name:
                path.write_bytes(path.read_bytes()[:-3000])
            found = {}
            for verb in some:
                if verb == "page":
                    found[verb] = peak_of_page(path, at_once)
                else:
                    found[verb] = peak((PREPARE if verb == "prepare" else START + VERBS[verb] + "\n") + PEAK, path)
            most = {verb: max(most[verb], found.get(verb, 0)) for verb in columns}
            print(
                f"{name:44} {'  '.join(f'{found[v]:8.0f}' if v in found else '       -' for v in columns)}", flush=True
            )
            path.unlink()
    print(f"{'most':44} {'  '.join(f'{value:8.0f}' for value in most.values())}")


def peak(code: str, path: Path) -> float:
    command = [sys.executable, "-c", code, str(path), str(path.with_suffix("")) + "-out"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{path}: {done.stderr[-500:]}")
    return int(done.stdout) * 1024 / 1e6


def peak_of_page(path: Path, at_once: int) -> float:
    """Of the page, after so many at once uploaded this photograph and had it segmented twice, at two thresholds."""
    command = [sys.executable, "-m", "redoseg", "serve", "--port", "0", "--max-mb", "1024", "--max-megapixels", "110"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http\S+/", process.stdout.readline())
            assert found is not None
            with ThreadPoolExecutor(at_once) as people:
                for used in [people.submit(page_uses, found[0], path) for _ in range(at_once)]:
                    used.result()
            status = Path(f"/proc/{process.pid}/status").read_text()
            return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) * 1024 / 1e6
        finally:
            process.terminate()


def page_uses(address: str, path: Path) -> None:
    def asked(route: str, body: bytes | None = None, kind: str = "application/json") -> str:
        request = urllib.request.Request(address + route, body, {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=600) as response:
            return response.read().decode()

    head = f'--e\r\nContent-Disposition: form-data; name="files"; filename="{path.name}"\r\n\r\n'.encode()
    place = json.loads(
        asked("gradio_api/upload", head + path.read_bytes() + b"\r\n--e--\r\n", "multipart/form-data; boundary=e")
    )[0]
    for threshold in (0.5, 0.7):
        data = {"data": [{"path": place, "meta": {"_type": "gradio.FileData"}}, threshold]}
        event = json.loads(asked("gradio_api/call/segment", json.dumps(data).encode()))["event_id"]
        events = asked(f"gradio_api/call/segment/{event}")
        assert "event: complete" in events, events


if __name__ == "__main__":
    os.environ.setdefault("no_proxy", "127.0.0.1,localhost")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--at-once", type=int, default=1, help="people who use the page")
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=list(COLUMNS))
    chosen = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None
    main(chosen.kinds, chosen.columns, chosen.at_once)
