"""Whatever says what a file's colours are: the network sees sRGB, and results show what the file shows."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from redoseg.data import open_data, prepare
from redoseg.images.colour import matrix_profile
from redoseg.images.photo import Photo, SoftMask
from redoseg.inference.given import as_photo
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter
from redoseg.web.cuts import Cuts

SIDE = 16
DISPLAY_P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
PROPHOTO = (0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)
ADOBE_RGB = (0.3127, 0.3290, 0.640, 0.330, 0.210, 0.710, 0.150, 0.060)
SRGB = (0.3127, 0.3290, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
VALUES = np.array([(200, 100, 50), (60, 180, 90), (40, 60, 150), (128, 128, 128)], np.uint8)


def in_srgb(values: NDArray[Any], where: tuple[float, ...], gamma: float) -> NDArray[Any]:
    """8-bit sRGB of 8-bit values (..., 3), worked out from primaries alone; the white points are made equal."""

    def matrix(primaries: tuple[float, ...]) -> NDArray[Any]:
        xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in zip(primaries[::2], primaries[1::2], strict=True)])
        found = xyz[1:].T * np.linalg.solve(xyz[1:].T, xyz[0])
        cones = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
        d65 = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
        return np.linalg.inv(cones) @ np.diag((cones @ d65) / (cones @ xyz[0])) @ cones @ found

    light = (values / 255.0) ** gamma @ matrix(where).T @ np.linalg.inv(matrix(SRGB)).T
    light = light.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def patches(values: NDArray[Any] = VALUES) -> NDArray[Any]:
    """Bands of the values' colours, (SIDE, SIDE, ...)."""
    return np.repeat(np.repeat(values[:, None], SIDE, 1), SIDE // len(values), 0)


@cache  # it carries the second in which it was made
def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def grey_profile(gamma: float) -> bytes:
    """As a matrix profile, with the curve of grey instead of three of colours."""
    made = matrix_profile(SRGB, gamma)
    return made.replace(b"rTRC", b"kTRC").replace(b"mntrRGB ", b"mntrGRAY")


def cmyk_profile() -> bytes:
    """A table of two points for each ink: inks take away light, and black takes away all of it."""
    corners = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(-1, 4)
    light = (1 - 0.7 * corners[:, :3]) * (1 - corners[:, 3:])
    lab = np.concatenate([light.mean(1, keepdims=True) * 255, np.full((16, 2), 128)], 1)
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    table += np.array([1, 0, 0, 0, 1, 0, 0, 0, 1], ">i4").__mul__(65536).astype(">i4").tobytes()
    table += ramp * 4 + np.rint(lab).astype(np.uint8).tobytes() + ramp * 3
    size = 128 + 4 + 12 + len(table)
    head = size.to_bytes(4, "big") + bytes(4) + bytes.fromhex("02400000") + b"prtrCMYKLab " + bytes(12) + b"acsp"
    head = head.ljust(68, b"\0") + np.array([0.9642, 1, 0.8249]).__mul__(65536).astype(">i4").tobytes()
    entry = (1).to_bytes(4, "big") + b"A2B0" + (144).to_bytes(4, "big") + len(table).to_bytes(4, "big")
    return head.ljust(128, b"\0") + entry + table


@dataclass(frozen=True)
class Case:
    """A file, what it shows, and what its results carry."""

    name: str
    data: bytes
    shows: NDArray[Any]
    """(SIDE, SIDE, 3), sRGB."""
    own: NDArray[Any] | None = None
    """The file's own values, if they are red, green and blue."""
    profile: bytes | None = None
    """The file's profile, where the results carry it."""
    tolerance: float = 2.5


def saved(pixels: NDArray[Any] | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    body = name + content
    return png[:33] + len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big") + png[33:]


def managed(kind: str, where: tuple[float, ...], gamma: float, tolerance: float = 2.5, **options: Any) -> Case:
    """RGB with a profile of these primaries."""
    profile, pixels = matrix_profile(where, gamma), patches()
    own = pixels if kind in ("PNG", "TIFF") or options.get("lossless") else None
    data = saved(pixels, kind, icc_profile=profile, **options)
    suffix = {"JPEG": "jpg", "TIFF": "tif"}.get(kind, kind.lower())
    return Case(f"x.{suffix}", data, in_srgb(pixels, where, gamma), own, profile, tolerance)


def display_p3() -> Case:
    return managed("JPEG", DISPLAY_P3, 2.2, 6, quality=98, subsampling=0)


def prophoto() -> Case:
    return managed("TIFF", PROPHOTO, 1.8)


def adobe_rgb() -> Case:
    return managed("WEBP", ADOBE_RGB, 2.2, lossless=True)


def linear() -> Case:
    return managed("PNG", SRGB, 1.0)


def avif() -> Case:
    return managed("AVIF", DISPLAY_P3, 2.2, 12, quality=100, subsampling="4:4:4")


def palette() -> Case:
    profile = matrix_profile(DISPLAY_P3, 2.2)
    image = Image.fromarray(patches(np.arange(4, dtype=np.uint8)), "P")
    image.putpalette(VALUES.ravel().tolist())
    return Case("x.png", saved(image, icc_profile=profile), in_srgb(patches(), DISPLAY_P3, 2.2), patches(), profile)


def transparent() -> Case:
    """The lowest band is half transparent, over white."""
    profile = matrix_profile(DISPLAY_P3, 2.2)
    opacity = patches(np.array([255, 255, 255, 128], np.uint8))[..., None]
    pixels = np.concatenate([patches(), opacity], -1)
    over_white = 255 + (in_srgb(patches(), DISPLAY_P3, 2.2) - 255) * (opacity / 255)
    return Case("x.png", saved(pixels, icc_profile=profile), over_white, patches(), profile)


def sixteen_bits() -> Case:
    """Grey of 16 bits, with a curve of 1."""
    levels = patches(np.array([20, 100, 180, 250]))
    data = saved((levels * 257).astype(np.uint16), icc_profile=grey_profile(1.0))
    return Case("x.png", data, in_srgb(np.stack([levels] * 3, -1), SRGB, 1.0))


def grey() -> Case:
    levels = patches(np.array([20, 100, 180, 250], np.uint8))
    data = saved(levels, "JPEG", quality=98, icc_profile=grey_profile(1.0))
    return Case("x.jpg", data, in_srgb(np.stack([levels] * 3, -1), SRGB, 1.0))


def cmyk(kind: str = "TIFF") -> Case:
    inks = patches(np.array([0, 60, 120, 200], np.uint8))
    pixels = np.stack([np.zeros_like(inks)] * 3 + [inks], -1)
    data = saved(Image.fromarray(pixels, "CMYK"), kind, icc_profile=cmyk_profile())
    lightness = 100 * (1 - inks / 255)
    y = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    shows = 255 * np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055)
    return Case("x.jpg" if kind == "JPEG" else "x.tif", data, np.stack([shows] * 3, -1), tolerance=5)


def inverted_cmyk() -> Case:
    """JPEG, in which Adobe's inks are the other way round."""
    return cmyk("JPEG")


def lab() -> Case:
    lightness = patches(np.array([128, 200, 60, 255], np.uint8))
    pixels = np.stack([lightness, np.zeros_like(lightness), np.zeros_like(lightness)], -1)
    image = Image.frombytes("LAB", (SIDE, SIDE), pixels.tobytes())
    shows = patches(np.array([119, 193, 56, 255]))
    return Case("x.tif", saved(image, "TIFF"), np.stack([shows] * 3, -1))


def gamma_chunk() -> Case:
    data = with_chunk(saved(patches()), b"gAMA", (100_000).to_bytes(4, "big"))
    return Case("x.png", data, in_srgb(patches(), SRGB, 1.0), patches(), matrix_profile(SRGB, 1.0))


def chromaticity_chunk() -> Case:
    data = with_chunk(saved(patches()), b"gAMA", (45455).to_bytes(4, "big"))
    numbers = b"".join(round(100_000 * value).to_bytes(4, "big") for value in DISPLAY_P3)
    shows = in_srgb(patches(), DISPLAY_P3, 2.2)
    made = matrix_profile(DISPLAY_P3, 1 / 0.45455)
    return Case("x.png", with_chunk(data, b"cHRM", numbers), shows, patches(), made)


def srgb_chunk() -> Case:
    """sRGB counts before gAMA."""
    data = with_chunk(saved(patches()), b"gAMA", (100_000).to_bytes(4, "big"))
    return Case("x.png", with_chunk(data, b"sRGB", b"\0"), patches(), patches())


def exif_says_adobe() -> Case:
    tags = Image.Exif()
    tags[0x0112] = 1
    tags.get_ifd(0x8769)[0xA001] = 2
    shows = in_srgb(patches(), ADOBE_RGB, 563 / 256)
    return Case("x.png", saved(patches(), exif=tags), shows, patches(), matrix_profile(ADOBE_RGB, 563 / 256))


def exif_of_a_camera() -> Case:
    tags = Image.Exif()
    tags[0x0112] = 1
    tags.get_ifd(0x8769)[0xA001] = 65535
    tags.get_ifd(0x8769)[0xA005] = {1: "R03"}
    shows = in_srgb(patches(), ADOBE_RGB, 563 / 256)
    data = saved(patches(), "JPEG", quality=98, subsampling=0, exif=tags)
    return Case("x.jpg", data, shows, None, matrix_profile(ADOBE_RGB, 563 / 256), 6)


def exif_says_uncalibrated() -> Case:
    tags = Image.Exif()
    tags[0x0112] = 1
    tags.get_ifd(0x8769)[0xA001] = 65535
    return Case("x.png", saved(patches(), exif=tags), patches(), patches())


def srgb() -> Case:
    """Values stay, to the last digit."""
    return Case("x.png", saved(patches(), icc_profile=srgb_profile()), patches(), patches(), srgb_profile(), 0)


def unmanaged(profile: Callable[[], bytes]) -> Callable[[], Case]:
    """A profile that cannot be used: the values are sRGB, and no result carries it."""

    def case() -> Case:
        return Case("x.png", saved(patches(), icc_profile=profile()), patches(), patches(), tolerance=0)

    case.__name__ = profile.__name__
    return case


def noise() -> bytes:
    return np.random.default_rng(0).bytes(700)


def cut_short() -> bytes:
    return matrix_profile(DISPLAY_P3, 2.2)[:300]


def of_grey() -> bytes:
    return grey_profile(1.0)


def of_inks() -> bytes:
    return cmyk_profile()


def all_black() -> bytes:
    made = bytearray(matrix_profile(DISPLAY_P3, 2.2))
    for name in (b"rXYZ", b"gXYZ", b"bXYZ"):
        at = int.from_bytes(made[made.index(name) + 4 :][:4], "big")
        made[at + 8 : at + 20] = bytes(12)
    return bytes(made)


def too_steep() -> bytes:
    made = matrix_profile(DISPLAY_P3, 2.2)
    at = made.index(b"para") + 12
    return made[:at] + (1000 * 65536).to_bytes(4, "big") + made[at + 4 :]


def link_of_devices() -> bytes:
    return matrix_profile(DISPLAY_P3, 2.2).replace(b"mntr", b"link")


def endless_table() -> bytes:
    made = matrix_profile(DISPLAY_P3, 2.2)
    return made[:128] + b"\xff\xff\xff\xff" + made[132:]


CASES = [
    display_p3, prophoto, adobe_rgb, linear, avif, palette, transparent, sixteen_bits, grey, cmyk, inverted_cmyk, lab,
    gamma_chunk, chromaticity_chunk, srgb_chunk, exif_says_adobe, exif_of_a_camera,
    exif_says_uncalibrated, srgb,
    *map(unmanaged, (noise, cut_short, of_grey, of_inks, all_black, too_steep, link_of_devices, endless_table)),
]  # fmt: skip


class Seeing:
    """A segmenter that takes everything for the object and keeps what it sees."""

    name, threads = "seeing", 1
    saw: Image.Image

    def soft_mask(self, photo: Photo) -> tuple[SoftMask, float]:
        self.saw = photo.rgb
        return SoftMask.of(np.ones(photo.size[::-1], np.float32)), 1.0


def by_segment(path: Path, folder: Path) -> Image.Image:
    segmenter = Seeing()
    segment_paths(cast(Segmenter, segmenter), path, folder / "mask.png")
    with Image.open(folder / "mask.png") as mask:
        assert mask.mode == "L"
        assert "icc_profile" not in mask.info
    return segmenter.saw


def by_page(path: Path, folder: Path) -> Image.Image:
    segmenter = Seeing()
    Cuts(segmenter, 10**9).of(path)
    return segmenter.saw


def by_library(path: Path, folder: Path) -> Image.Image:
    with Image.open(path) as image:
        return as_photo(image).rgb


def eight(path: Path) -> Path:
    """A folder of as many pictures as a set needs."""
    for i in range(8):
        (path.parent / f"{i}{path.suffix}").write_bytes(path.read_bytes())
    return path.parent


def by_prepare(path: Path, folder: Path) -> Image.Image:
    prepare("folder", eight(path), folder / "set", SIDE)
    return Image.fromarray(open_data(folder / "set", SIDE).pixels[0])


def by_train(path: Path, folder: Path) -> Image.Image:
    return Image.fromarray(open_data(eight(path), SIDE).pixels[0])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    return tmp_path / "in", tmp_path / "out"


def difference(image: Image.Image, shows: NDArray[Any]) -> float:
    return float(np.abs(np.asarray(image.convert("RGB"), float) - shows).max())


@pytest.mark.every(4)
@pytest.mark.parametrize("verb", [by_segment, by_page, by_library, by_prepare, by_train])
@pytest.mark.parametrize("make", CASES, ids=lambda case: case.__name__)
def test_the_network_sees_srgb(
    make: Callable[[], Case], verb: Callable[[Path, Path], Image.Image], folders: tuple[Path, Path]
) -> None:
    case = make()
    (folders[0] / case.name).write_bytes(case.data)
    assert difference(verb(folders[0] / case.name, folders[1]), case.shows) <= case.tolerance


def on_disk(path: Path, folder: Path, kind: str) -> Path:
    segment_paths(cast(Segmenter, Seeing()), path, folder / "x.png", kind=cast(Any, kind))
    return folder / "x.png"


def in_folder(path: Path, folder: Path, kind: str) -> Path:
    segment_paths(cast(Segmenter, Seeing()), path.parent, folder, kind=cast(Any, kind))
    return folder / "x.png"


def on_page(path: Path, folder: Path, kind: str) -> Path:
    written = Cuts(Seeing(), 10**9).files(path, 0.5, folder)
    return next(file for file in written if file.stem.endswith(kind))


@pytest.mark.every(4)
@pytest.mark.parametrize(
    ("verb", "kind"),
    [(on_disk, "cutout"), (in_folder, "cutout"), (on_page, "cutout"), (on_disk, "overlay"), (in_folder, "overlay")],
)
@pytest.mark.parametrize("make", CASES, ids=lambda case: case.__name__)
def test_results_show_what_the_file_shows(
    make: Callable[[], Case], verb: Callable[[Path, Path, str], Path], kind: str, folders: tuple[Path, Path]
) -> None:
    """A cut-out of everything is the file: its own values where they are RGB, and then their profile too."""
    case = make()
    (folders[0] / case.name).write_bytes(case.data)
    with Image.open(verb(folders[0] / case.name, folders[1], kind)) as found:
        found.load()
    assert found.info.get("icc_profile") == case.profile
    shown = found.convert("RGBA")
    if case.own is not None and kind == "cutout":
        assert np.array_equal(np.asarray(shown)[..., :3], case.own)
    if case.profile:
        colours = shown.convert("RGB")
        profile = ImageCms.ImageCmsProfile(io.BytesIO(case.profile))
        colours = ImageCms.profileToProfile(colours, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        colours.putalpha(shown.getchannel("A"))
        shown = colours
    over_white = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    shows = case.shows
    if kind == "overlay":  # whose edge has a line
        over_white, shows = over_white.crop((5, 5, 11, 11)), shows[5:11, 5:11]
    assert difference(over_white, shows) <= case.tolerance + 2


def test_the_page_shows_srgb(folders: tuple[Path, Path]) -> None:
    """A preview has no profile."""
    case = prophoto()
    (folders[0] / case.name).write_bytes(case.data)
    cut = Cuts(Seeing(), 10**9).previews(folders[0] / case.name, 0.5)[0][2]
    assert difference(cut, case.shows) <= case.tolerance


@pytest.mark.parametrize("junk", ["text", 7, b"", [b"x"], None])
def test_an_image_in_memory_with_an_odd_profile(junk: object) -> None:
    image = Image.fromarray(patches())
    image.info["icc_profile"] = junk
    assert np.array_equal(np.asarray(as_photo(image).rgb), patches())
    assert as_photo(image).profile is None


def test_damaged_profiles_do_no_harm() -> None:
    rng = np.random.default_rng(0)
    good = [matrix_profile(DISPLAY_P3, 2.2), srgb_profile(), cmyk_profile()]
    for i in range(30):
        damaged = np.frombuffer(good[i % 3], np.uint8).copy()
        damaged[rng.integers(0, len(damaged), 6)] = rng.integers(0, 256, 6)
        image = Image.fromarray(patches()) if i % 3 < 2 else Image.new("CMYK", (4, 4))
        image.info["icc_profile"] = damaged.tobytes()
        assert as_photo(image).rgb.size == image.size


def test_every_mode_of_pillow_is_read() -> None:
    """None raises, with a profile of colours or of grey or none."""
    for mode in (
        "1",
        "L",
        "P",
        "RGB",
        "RGBA",
        "CMYK",
        "YCbCr",
        "LAB",
        "HSV",
        "I",
        "F",
        "LA",
        "PA",
        "RGBX",
        "RGBa",
        "La",
    ):
        for profile in (None, matrix_profile(DISPLAY_P3, 2.2), grey_profile(1.0), cmyk_profile()):
            image = Image.new(mode, (4, 4))
            if profile:
                image.info["icc_profile"] = profile
            assert as_photo(image).rgb.mode == "RGB"


GROUNDS: dict[str, Callable[[], tuple[str, bytes]]] = {
    "grey": lambda: ("L", grey_profile(1.8)),
    "sRGB": lambda: ("RGB", srgb_profile()),
    "cut off": lambda: ("RGB", matrix_profile(DISPLAY_P3, 2.2)[:300]),
    "of another kind": lambda: ("RGB", grey_profile(2.2)),
    "inks": lambda: ("CMYK", cmyk_profile()),
}


@pytest.mark.parametrize("look", [{"square": 32}, {"square": 32, "image_format": "jpg"}], ids=str)
@pytest.mark.parametrize("ground", GROUNDS)
def test_a_cut_out_has_nothing_of_the_file_of_its_ground(ground: str, look: dict[str, Any], tmp_path: Path) -> None:
    mode, profile = GROUNDS[ground]()
    Image.new(mode, (SIDE, SIDE), 90).save(tmp_path / "g.jpg", icc_profile=profile, comment=b"of the ground")
    Image.new("RGB", (SIDE, SIDE), (200, 100, 50)).save(tmp_path / "x.png")
    segment_paths(
        cast(Segmenter, Seeing()), [tmp_path / "x.png"], tmp_path / "out", ground=str(tmp_path / "g.jpg"),
        kind="cutout", **look,
    )  # fmt: skip
    (written,) = (path for path in (tmp_path / "out").iterdir() if path.suffix in (".png", ".jpg"))
    assert b"of the ground" not in written.read_bytes()
    with Image.open(written) as found:
        assert "icc_profile" not in found.info
