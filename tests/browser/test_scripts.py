"""The page's scripts beside Pillow and the package, in Node: the same numbers without a browser."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from base64 import b64decode, b64encode
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from redoseg import Segmenter
from redoseg.browser.site import SCRIPTS
from redoseg.data.shapes import generate
from redoseg.images.clean import Cleaning, clean
from redoseg.images.guided import guided_upsample
from redoseg.images.photo import Photo, SoftMask, to_photo
from redoseg.inference.object_mask import CLEANING, cleaned, object_of
from redoseg.inference.results import drawn
from redoseg.own_results import is_result

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no Node on this machine")

RUNNER = """
const bytes = text => new Uint8Array(Buffer.from(text, "base64"));
const floats = text => new Float32Array(bytes(text).buffer);
const base64 = array => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");
const input = JSON.parse(require("fs").readFileSync(0, "utf8"));
(async () => { %s })().then(found => process.stdout.write(found));
"""


def script(name: str) -> str:
    return (resources.files("redoseg") / "browser" / "page" / f"{name}.js").read_text()


def node(code: str, **values: Any) -> bytes:
    """What `code`, which may use all functions of the page, returns: bytes."""
    assert NODE is not None
    packed = {
        key: b64encode(np.ascontiguousarray(value).tobytes()).decode() if isinstance(value, np.ndarray) else value
        for key, value in values.items()
    }
    source = "\n".join([*(script(name) for name in SCRIPTS if name != "page"), RUNNER % code])
    ran = subprocess.run(
        [NODE, "-e", source], input=json.dumps(packed), capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    return b64decode(ran.stdout)


def noise(height: int, width: int, *channels: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, *channels), np.uint8)


@pytest.mark.every(5)
@pytest.mark.parametrize("name", ["box", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("size", "new"), [((97, 61), (20, 33)), ((20, 33), (97, 61)), ((50, 40), (50, 8))])
def test_resizing_is_pillows_to_the_byte(name: str, size: tuple[int, int], new: tuple[int, int]) -> None:
    pixels = noise(size[1], size[0], 3)
    box = (1.5, 2.25, size[0] - 3.0, size[1] - 0.5)
    for part in (None, box):
        found = node(
            "return base64(resize(bytes(input.pixels), input.size, input.to, 3, input.name, input.box ?? undefined))",
            **{"pixels": pixels, "size": size, "to": new, "name": name, "box": part},
        )
        wanted = Image.fromarray(pixels).resize(new, Image.Resampling[name.upper()], box=part)
        assert np.array_equal(np.frombuffer(found, np.uint8), np.asarray(wanted).ravel()), part


def test_resizing_floats_is_pillows() -> None:
    plane = np.random.default_rng(1).standard_normal((12, 16)).astype(np.float32)
    for new in ((50, 41), (5, 7)):
        found = node(
            "return base64(resize(floats(input.plane), [16, 12], input.size, 1))", **{"plane": plane, "size": new}
        )
        wanted = np.asarray(Image.fromarray(plane).resize(new, Image.Resampling.BILINEAR))
        np.testing.assert_allclose(np.frombuffer(found, np.float32).reshape(wanted.shape), wanted, atol=1e-6)


@pytest.mark.parametrize("size", [(1003, 777), (400, 1200), (31, 29), (64, 64), (3000, 40)])
def test_what_the_network_sees_is_what_it_sees_on_the_command_line(size: tuple[int, int]) -> None:
    pixels = noise(size[1], size[0], 3)
    found = node(
        "return base64(shrink(bytes(input.pixels), input.size, [64, 64], 3))", **{"pixels": pixels, "size": size}
    )
    wanted = np.asarray(Photo(Image.fromarray(pixels)).resized((64, 64)))
    assert np.array_equal(np.frombuffer(found, np.uint8).reshape(64, 64, 3), wanted)


def scene(size: tuple[int, int]) -> tuple[Image.Image, NDArray[np.float32]]:
    """A photograph and a network's soft mask of it, 32 pixels a side."""
    images, labels = generate("shapes-hard", 1, 128, seed=5)
    photo = Image.fromarray(images[0]).resize(size, Image.Resampling.BICUBIC)
    grain = np.random.default_rng(2).integers(-9, 10, (size[1], size[0], 3))
    mask = Image.fromarray(labels[0].astype(np.float32)).resize((32, 32), Image.Resampling.BILINEAR)
    pixels = (np.asarray(photo, int) + grain).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels), np.asarray(mask).clip(0.02, 0.98)


GUIDED = "guidedMask(floats(input.mask), bytes(input.reduced), 32, bytes(input.photo), input.size)"


@pytest.mark.parametrize("size", [(300, 200), (45, 90), (32, 32), (20, 25)])
def test_guided_edges_are_those_of_the_command_line(size: tuple[int, int]) -> None:
    photo, mask = scene(size)
    reduced = np.asarray(Photo(photo).resized((32, 32)))
    found = node(
        f"return base64({GUIDED})", **{"mask": mask, "reduced": reduced, "photo": np.asarray(photo), "size": size}
    )
    wanted = guided_upsample(mask, reduced, photo)
    np.testing.assert_allclose(np.frombuffer(found, np.float32).reshape(wanted.shape), wanted, atol=2e-5)


@pytest.mark.parametrize("seed", range(6))
def test_cleaning_is_that_of_the_command_line(seed: int) -> None:
    random = np.random.default_rng(seed)
    rough = Image.fromarray(random.random((14, 18)).astype(np.float32)).resize((150, 110), Image.Resampling.BICUBIC)
    mask = np.asarray(rough) > 0.3 + 0.08 * seed
    mask ^= random.random(mask.shape) < 0.01  # crumbs and pinholes, some of them at a corner
    found = node(
        "const mask = bytes(input.mask); clean(mask, [150, 110]); return base64(mask)", mask=mask.astype(np.uint8)
    )
    wanted = clean(mask, Cleaning())
    assert not np.array_equal(mask, wanted)
    assert np.array_equal(np.frombuffer(found, np.uint8).reshape(mask.shape), wanted)


@pytest.mark.parametrize("transparent", [False, True])
def test_files_are_those_of_the_command_line(transparent: bool, tmp_path: Path) -> None:
    """Mask and cut-out of a soft mask, as PNG files that redoseg knows as its own."""
    size = (300, 200)
    image, mask = scene(size)
    if transparent:
        opacity = np.asarray(image.convert("L").resize((3, 2)).resize(size, Image.Resampling.NEAREST))
        image.putalpha(Image.fromarray(opacity // 100 * 120))
    photo = to_photo(image)
    reduced = np.asarray(photo.resized((32, 32)))
    rgba = np.asarray(image.convert("RGBA"))
    found = node(
        f"""
        const own = bytes(input.own);
        const photo = withShown({{ own, alpha: input.alpha && bytes(input.alpha) }}, input.size);
        input.photo = base64(photo.shown);
        const soft = {GUIDED};
        const mask = objectMask(photo, soft);
        const rows = (top, bottom) => mask.subarray(top * 300, bottom * 300);
        const files = [["mask/é.png", await pngFile(photo.size, 1, rows)],
            ["cutout/é.png", await pngFile(photo.size, 4, cutoutOf(photo, soft))]];
        return base64(new Uint8Array(await (await zipFile(files)).arrayBuffer()));
        """,
        **{"mask": mask, "reduced": reduced, "size": size, "own": rgba[..., :3]},
        alpha=rgba[..., 3] if transparent else None,
    )
    soft = cleaned(photo, SoftMask.of(guided_upsample(mask, reduced, photo.rgb)), cleaning=CLEANING)
    with zipfile.ZipFile(io.BytesIO(found)) as packed:
        assert packed.testzip() is None
        assert packed.namelist() == ["mask/é.png", "cutout/é.png"]
        packed.extractall(tmp_path)
    with Image.open(tmp_path / "mask" / "é.png") as opened:
        assert opened.mode == "L"
        assert np.array_equal(np.asarray(opened) == 255, object_of(photo, soft))
    with Image.open(tmp_path / "cutout" / "é.png") as opened:
        wanted = np.asarray(drawn(photo, soft, "cutout"), int)
        assert wanted[..., 3].any()
        assert np.abs(np.asarray(opened, int) - wanted).max() <= 1
    assert is_result(tmp_path / "mask" / "é.png")
    assert is_result(tmp_path / "cutout" / "é.png")


def test_draws_of_latents_are_normal() -> None:
    draws = np.frombuffer(node("return base64(randomNormals(20000, 3))"), np.float32)
    assert abs(draws.mean()) < 0.03
    assert abs(draws.std() - 1) < 0.03
    assert not np.array_equal(draws, np.frombuffer(node("return base64(randomNormals(20000, 4))"), np.float32))


def test_the_confidence_is_that_of_the_command_line() -> None:
    from redoseg.inference.segmenter import _confidence

    mask = scene((64, 64))[1]
    found = node("return base64(Float64Array.of(confidenceOf(floats(input.mask))))", mask=mask)
    assert np.frombuffer(found, np.float64)[0] == pytest.approx(_confidence(mask), abs=1e-6)


def test_the_models_numbers_are_those_of_the_command_line() -> None:
    segmenter = Segmenter("flowers")
    image = Image.fromarray(noise(segmenter.size, segmenter.size, 3))
    factor, offset = segmenter.value_range
    found = node(
        """const segmenter = new Segmenter();
        segmenter.about = { size: input.size, factor: input.factor, offset: input.offset };
        return base64(segmenter.values(bytes(input.pixels)))""",
        **{"size": segmenter.size, "factor": factor, "offset": offset, "pixels": np.asarray(image)},
    )
    wanted = segmenter.network_input([image])
    np.testing.assert_allclose(np.frombuffer(found, np.float32).reshape(wanted.shape), wanted, atol=1e-6)
