"""The page in Chromium, off line, opened as a file: its masks are those of the command line."""

from __future__ import annotations

import functools
import io
import shutil
import subprocess
import threading
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from redoseg import RedrawModel
from redoseg.browser.runtime import NAME, VERSION
from redoseg.cli.main import run_command
from redoseg.data.shapes import generate
from redoseg.images.colour import matrix_profile

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
SHARED = Path(__file__).parents[3] / "shared" / "data"  # photographs, on machines that have them
SIZES = [(640, 480), (300, 400), (500, 500), (1000, 400), (130, 180), (901, 677)]
P3 = (0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX Runtime Web from the npm registry."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on this machine")
    folder = tmp_path_factory.mktemp("npm")
    command = [npm, "pack", f"onnxruntime-web@{VERSION}", "--pack-destination", str(folder)]
    if subprocess.run(command, capture_output=True, timeout=300, check=False).returncode:
        pytest.skip("the npm registry cannot be reached")
    return folder / f"{NAME}.tgz"


@pytest.fixture(scope="module")
def site(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sites") / "with space & ünïcode"
    assert run_command(["export", "flowers", "-o", str(folder), "--web", "--runtime", str(runtime)]) == 0
    return folder


def save(image: Image.Image, path: Path, number: int) -> None:
    """As files come: JPEG lying on its side, with a profile, grey, PNG with a palette or opacity, WebP."""
    exif = Image.Exif()
    match number % 8:
        case 0 | 1 | 2:
            exif[0x0112] = 1 + (number * 5) % 8
            image.save(path.with_suffix(".jpg"), quality=90, exif=exif)
        case 3:
            image.save(path.with_suffix(".jpg"), quality=95, icc_profile=matrix_profile(P3, 2.2))
        case 4:
            image.convert("L").save(path.with_suffix(".jpg"))
        case 5:
            ramp = Image.linear_gradient("L").resize(image.size).point(lambda value: min(255, 2 * value))
            image.putalpha(ramp)
            image.save(path.with_suffix(".png"))
        case 6:
            image.quantize(200).save(path.with_suffix(".png"))
        case _:
            image.save(path.with_suffix(".webp"), lossless=True)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 of them: built-in pictures, and photographs of flowers where there are some."""
    folder = tmp_path_factory.mktemp("photographs")
    real = sorted((SHARED / "flowers17").rglob("*.jpg"))[:10]
    for i, path in enumerate(real):
        shutil.copy(path, folder / f"real{i:02}.jpg")
    images, _ = generate("shapes", 20 - len(real), 128, seed=11)
    for i, pixels in enumerate(images):
        image = Image.fromarray(pixels).resize(SIZES[i % len(SIZES)], Image.Resampling.BICUBIC)
        save(image, folder / f"made {i:02}.png", i)
    return folder


@pytest.fixture(scope="module")
def expected(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command line makes of them: mask/ and cutout/."""
    out = tmp_path_factory.mktemp("expected") / "out"
    assert run_command(["segment", "flowers", str(photographs), "-o", str(out), "--as", "mask", "--as", "cutout"]) == 0
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    quiet = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Any, site: Path) -> Iterator[Any]:
    """The page, opened as a file without a network. Nothing else is loaded, and nothing goes wrong."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, accept_downloads=True)
    context.set_offline(True)
    context.set_default_timeout(300_000)
    tab = context.new_page()
    asked: list[str] = []
    wrong: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    address = (site / "index.html").as_uri()
    tab.goto(address)
    yield tab
    context.close()
    assert [url for url in asked if not url.startswith("blob:")] == [address]
    assert wrong == []


def done(tab: Any, count: int) -> None:
    """Wait until so many photographs are cut out."""
    words = "1 photograph is cut out." if count == 1 else f"{count} photographs are cut out."
    tab.get_by_text(words, exact=True).wait_for()
    assert tab.locator("article").count() == count


def saved(tab: Any, selector: str) -> tuple[str, bytes]:
    with tab.expect_download() as download:
        tab.locator(selector).first.click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def pixels(file: Path | bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
        return np.asarray(image)


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum()) if (one | other).any() else 1.0


def test_each_of_twenty_masks_is_that_of_the_command_line(tab: Any, photographs: Path, expected: Path) -> None:
    files = sorted(photographs.iterdir())
    assert len(files) == 20
    tab.set_input_files("#files", files)
    done(tab, 20)
    assert tab.inner_text("#failed") == ""
    with zipfile.ZipFile(io.BytesIO(saved(tab, "#zip")[1])) as packed:
        assert sorted(packed.namelist()) == sorted(f"{kind}/{f.stem}.png" for kind in ("mask", "cutout") for f in files)
        found = {name: pixels(packed.read(name)) for name in packed.namelist()}
    scores, covered = {}, 0
    for file in files:
        mask, wanted = found[f"mask/{file.stem}.png"], pixels(expected / "mask" / f"{file.stem}.png")
        assert mask.shape == wanted.shape, file.name  # upright
        scores[file.name] = iou(mask == 255, wanted == 255)
        covered += bool(wanted.any() and not wanted.all())
        cut, other = found[f"cutout/{file.stem}.png"], pixels(expected / "cutout" / f"{file.stem}.png")
        assert np.abs(cut[..., 3] - other[..., 3].astype(int)).mean() < 2, file.name
    print(scores)
    assert min(scores.values()) >= 0.99, scores
    assert covered >= 15


GIVE = """([files, how]) => {
    const data = new DataTransfer();
    for (const [content, name] of files)
        data.items.add(new File([Uint8Array.from(atob(content), c => c.charCodeAt(0))], name));
    if (how === "drop") {
        document.body.dispatchEvent(new DragEvent("dragover", {dataTransfer: data, bubbles: true}));
        document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
    } else {
        document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));
    }
}"""


def give(tab: Any, how: str, *paths: Path) -> None:
    tab.evaluate(GIVE, [[[b64encode(path.read_bytes()).decode(), path.name] for path in paths], how])


def test_drop_and_paste_and_redraw(tab: Any, photographs: Path, expected: Path, tmp_path: Path) -> None:
    (first, second) = photographs / "made 01.jpg", photographs / "made 06.png"
    give(tab, "paste", first)
    done(tab, 1)
    give(tab, "drop", second, first)
    done(tab, 3)
    name, mask = saved(tab, "article:nth-child(2) .save-mask")
    assert name == "made 06.png"
    assert iou(pixels(mask) == 255, pixels(expected / "mask" / name) == 255) >= 0.99
    assert saved(tab, ".save-mask")[0] == "made 01-2.png"  # the second of that name, and the last one that came
    tab.click("article:nth-child(1) .remove")
    done(tab, 2)

    # drawn from latents that are known here
    model = RedrawModel("flowers")
    latents = model.random_latents(1, seed=3)
    tab.evaluate(
        "latents => { globalThis.randomNormals = () => Float32Array.from(latents); }", latents.ravel().tolist()
    )
    tab.click("article:nth-child(1) .redraw")
    tab.wait_for_selector("article:nth-child(1) .drawings a:nth-child(4)")
    done(tab, 2)
    drawing = pixels(saved(tab, ".drawings a:nth-child(4)")[1]).astype(int)
    with Image.open(second) as image:
        wanted = np.asarray(model.draw(image, latents)[0], int)
        assert np.abs(wanted - np.asarray(image.convert("RGB"), int)).mean() > 1
    assert np.abs(drawing - wanted).max() <= 2

    (tmp_path / "notes.txt").write_text("no photograph")
    give(tab, "drop", tmp_path / "notes.txt")
    line = "notes.txt: this browser cannot read it as a photograph. Save it as JPEG or PNG."
    tab.get_by_text(line, exact=True).wait_for()
    done(tab, 2)
    tab.click("#clear")
    tab.get_by_text("0 photographs are cut out.").wait_for()
    assert tab.locator("article").count() == 0
    assert not tab.locator("#zip").is_visible()


def test_a_page_from_a_server_opens_without_it(browser: Any, site: Path, photographs: Path) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    context = browser.new_context()
    context.set_default_timeout(300_000)
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        tab = context.new_page()
        tab.goto(address)
        tab.evaluate("async () => { await navigator.serviceWorker.ready; }")
        server.shutdown()
    tab = context.new_page()
    tab.goto(address)
    tab.set_input_files("#files", photographs / "made 04.jpg")
    done(tab, 1)
    context.close()
