"""Screenshots of the page for docs/pictures: a cut-out beside its photograph, and a mask that is corrected.

It needs playwright and Chromium:

    python tools/picture_of_page.py butterflies PHOTO docs/pictures/
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from redoseg.web.page import serving

_MOST = 80_000  # bytes of a picture


def main(model: str, photo: str, out: Path) -> None:
    """Serve a page with `model`, use it with `photo`, and write two pictures into the folder `out`."""
    from playwright.sync_api import sync_playwright

    browsers = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    with serving(model=model, port=0) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=next(filter(None, browsers), None), args=["--no-sandbox", "--disable-gpu"]
        )
        wide = _with_photo(browser, address, photo, width=1200)
        wide.get_by_role("button", name="Cut-out: ground, frame, format").click()
        wide.get_by_label("blurred").first.check()
        wide.wait_for_selector("#save-mask[disabled]")
        wide.get_by_role("button", name="Cut-out: ground, frame, format").click()
        _finished(wide)
        wide.evaluate("window.scrollTo(0, 0)")
        write_small(wide.screenshot(clip={"x": 0, "y": 0, "width": 1200, "height": 860}), out / "page.jpg")
        wide.close()
        narrow = _with_photo(browser, address, photo, width=390)
        narrow.get_by_role("tab", name="Correct").click()
        narrow.click("#open-mask")
        narrow.wait_for_selector("#editor canvas")
        narrow.wait_for_timeout(8000)
        box = narrow.locator("#editor canvas").first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        narrow.mouse.move(x - 50, y)
        narrow.mouse.down()
        narrow.mouse.move(x - 80, y + 10, steps=4)
        narrow.mouse.up()
        narrow.wait_for_timeout(2000)
        write_small(narrow.screenshot(full_page=True), out / "page-correct.jpg")
        browser.close()


def _with_photo(browser: Any, address: str, photo: str, width: int) -> Any:
    page = browser.new_page(viewport={"width": width, "height": 880})
    page.set_default_timeout(300_000)
    page.goto(address)
    page.wait_for_selector("#photo input[type=file]", state="attached")
    page.set_input_files("#photo input[type=file]", photo)
    _finished(page)
    return page


def _finished(page: Any) -> None:
    """Wait until the page shows what it was last asked for."""
    page.wait_for_timeout(2000)
    page.wait_for_selector("#save-mask:not([disabled])")
    page.wait_for_selector("#compare img")
    page.wait_for_timeout(2000)


def write_small(screenshot: bytes, path: Path) -> None:
    image = Image.open(io.BytesIO(screenshot)).convert("RGB")
    for quality in range(90, 20, -5):
        image.save(path, quality=quality, optimize=True)
        if path.stat().st_size < _MOST:
            return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("photo", metavar="PHOTO")
    parser.add_argument("out", metavar="FOLDER", type=Path)
    arguments = parser.parse_args()
    main(arguments.model, arguments.photo, arguments.out)
