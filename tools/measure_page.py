"""Seconds that a page of `redoseg export --web` takes for photographs, and its masks beside the command line's:

    python tools/measure_page.py MODEL SITE PHOTO ... --megapixels 0.2 2 12

Needs playwright and Chromium. Prints a JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from redoseg import Segmenter

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def enlarged(photo: Path, megapixels: float, folder: Path) -> Path:
    """A JPEG of the photograph with so many pixels."""
    with Image.open(photo) as image:
        scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
        size = round(image.width * scale), round(image.height * scale)
        path = folder / f"{photo.stem}-{megapixels:g}.jpg"
        image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def processor_seconds(session: Any) -> float:
    """What all processes of the browser have computed so far; other work on the machine hardly changes it."""
    return sum(process["cpuTime"] for process in session.send("SystemInfo.getProcessInfo")["processInfo"])


def measured(tab: Any, session: Any, path: Path, segmenter: Segmenter) -> dict[str, Any]:
    """What the page says of one photograph, and what the browser computed for it."""
    before = processor_seconds(session)
    tab.set_input_files("#files", path)
    tab.wait_for_selector(".about")
    computed = round(processor_seconds(session) - before, 2)
    words = tab.inner_text(".about")
    with tab.expect_download() as download:
        tab.click(".save-mask")
    with Image.open(download.value.path()) as image:
        found = np.asarray(image) == 255
    tab.click(".remove")
    wanted = segmenter(path)
    iou = float((found & wanted).sum() / max(1, (found | wanted).sum()))
    seconds = float(words.split(" s.")[0].rsplit(" ", 1)[1])
    size = [found.shape[1], found.shape[0]]
    return {"size": size, "seconds": seconds, "processor_seconds": computed, "iou": round(iou, 5)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, usage="measure_page.py MODEL SITE PHOTO ... [--megapixels N ...]"
    )
    parser.add_argument("model")
    parser.add_argument("site", type=Path)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.2, 2, 12])
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    segmenter = Segmenter(given.model)
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with sync_playwright() as started, tempfile.TemporaryDirectory() as folder:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        print(
            json.dumps({"chromium": browser.version, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}),
            flush=True,
        )
        context = browser.new_context(accept_downloads=True)
        context.set_offline(True)
        context.set_default_timeout(600_000)
        tab = context.new_page()
        tab.goto((given.site / "index.html").absolute().as_uri())
        first = enlarged(given.photos[0], 0.2, Path(folder))
        session = browser.new_browser_cdp_session()
        print(json.dumps({"first, with starting": measured(tab, session, first, segmenter)}), flush=True)
        for megapixels in given.megapixels:
            for photo in given.photos:
                row = measured(tab, session, enlarged(photo, megapixels, Path(folder)), segmenter)
                print(json.dumps({"photo": photo.name, "megapixels": megapixels, **row}), flush=True)
        browser.close()


if __name__ == "__main__":
    main()
