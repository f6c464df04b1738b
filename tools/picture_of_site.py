"""A screenshot of a page of `redoseg export --web`, opened as a file without a network.

    python tools/picture_of_site.py SITE PHOTO ... OUT.jpg

The first photograph is also redrawn, if the model can. It needs playwright and Chromium.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from picture_of_page import write_small


def main(site: Path, photos: list[Path], out: Path) -> None:
    """Cut out the photographs on the page and write what it shows."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport={"width": 900, "height": 700})
        context.set_offline(True)
        tab = context.new_page()
        tab.set_default_timeout(300_000)
        tab.goto((site / "index.html").resolve().as_uri())
        for number, photo in enumerate(reversed(photos), 1):  # the last one that came is above
            tab.set_input_files("#files", photo)
            tab.wait_for_selector(f"article:nth-of-type({number})")
        tab.wait_for_function(f"document.querySelectorAll('.about').length === {len(photos)}")
        draw = tab.locator("article .redraw").first
        if draw.count():
            draw.click()
            tab.wait_for_selector(".drawings a:nth-child(4)")
        write_small(tab.screenshot(full_page=True), out)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", metavar="SITE", type=Path)
    parser.add_argument("photos", metavar="PHOTO", nargs="+", type=Path)
    parser.add_argument("out", metavar="OUT.jpg", type=Path)
    arguments = parser.parse_args()
    main(arguments.site, arguments.photos, arguments.out)
