"""Cut-outs have the file's own colours, its opacity times the mask's, and nothing below what is transparent."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image, ImageOps

from redoseg.config.kinds import KINDS
from redoseg.errors import DataError
from redoseg.images.photo import Photo, SoftMask, to_photo
from redoseg.images.read import read_photo
from redoseg.inference.results import Look, drawn, image_of
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter
from redoseg.web.cuts import Cuts
from tests.inference.private import NOTED, SECRET, noted

SIDE = 16
COLOUR = (227, 34, 70)


def rgba(folder: Path) -> Path:
    pixels = np.full((SIDE, SIDE, 4), (*COLOUR, 160), np.uint8)
    pixels[:4, :, 3], pixels[4:8, :, 3] = 255, 20
    Image.fromarray(pixels).save(folder / "x.png")
    return folder / "x.png"


def grey(folder: Path) -> Path:
    pixels = np.full((SIDE, SIDE, 2), (90, 160), np.uint8)
    pixels[:4, :, 1], pixels[4:8, :, 1] = 255, 20
    Image.fromarray(pixels, "LA").save(folder / "x.png")
    return folder / "x.png"


def webp(folder: Path) -> Path:
    with Image.open(rgba(folder)) as image:
        image.save(folder / "x.webp", lossless=True, exact=True)
    (folder / "x.png").unlink()
    return folder / "x.webp"


def tiff(folder: Path) -> Path:
    with Image.open(rgba(folder)) as image:
        image.save(folder / "x.tif")
    (folder / "x.png").unlink()
    return folder / "x.tif"


def palette(folder: Path) -> Path:
    """Each of three entries with an opacity of its own."""
    image = Image.new("P", (SIDE, SIDE), 0)
    image.putpalette([*COLOUR] * 3)
    places = np.zeros((SIDE, SIDE), np.uint8)
    places[:4], places[4:8] = 1, 2
    image.putdata(places.ravel().tolist())
    image.save(folder / "x.png", transparency=bytes([160, 255, 20]))
    return folder / "x.png"


def one_colour(folder: Path) -> Path:
    """One colour is transparent, all else is not."""
    pixels = np.full((SIDE, SIDE, 3), COLOUR, np.uint8)
    pixels[8:] = (1, 2, 3)
    Image.fromarray(pixels).save(folder / "x.png", transparency=(1, 2, 3))
    return folder / "x.png"


def sixteen_bits(folder: Path) -> Path:
    """RGBA of 16 bits, which Pillow cannot write."""
    with Image.open(rgba(folder)) as image:
        values = np.asarray(image).astype(">u2") * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 6, 0, 0, 0)
    blocks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    packed = (struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in blocks)
    (folder / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    return folder / "x.png"


def gif(folder: Path) -> Path:
    image = Image.new("P", (SIDE, SIDE), 0)
    image.putpalette([*COLOUR, 1, 2, 3])
    image.paste(1, (0, 8, SIDE, SIDE))
    image.save(folder / "x.gif", transparency=1)
    return folder / "x.gif"


def premultiplied(folder: Path) -> Path:
    """A TIFF whose colours are stored times their opacity."""
    with Image.open(rgba(folder)) as image:
        shares = np.array(image).astype(float)
    shares[..., :3] = np.rint(shares[..., :3] * shares[..., 3:] / 255)
    Image.fromarray(shares.astype(np.uint8)).save(folder / "x.tif")
    saved, extra_samples = (folder / "x.tif").read_bytes(), b"\x52\x01\3\0\1\0\0\0"
    assert saved.count(extra_samples + b"\2") == 1
    (folder / "x.tif").write_bytes(saved.replace(extra_samples + b"\2", extra_samples + b"\1"))
    (folder / "x.png").unlink()
    return folder / "x.tif"


def turned(folder: Path) -> Path:
    """Stored on its side."""
    with Image.open(rgba(folder)) as image:
        lying = image.transpose(Image.Transpose.ROTATE_90)
    exif = lying.getexif()
    exif[274] = 6
    lying.save(folder / "x.png", exif=exif)
    return folder / "x.png"


def avif(folder: Path) -> Path:
    with Image.open(rgba(folder)) as image:
        image.save(folder / "x.avif", quality=100, subsampling="4:4:4")
    (folder / "x.png").unlink()
    return folder / "x.avif"


def one_bit(folder: Path) -> Path:
    image = Image.new("1", (SIDE, SIDE), 1)
    image.paste(0, (0, 8, SIDE, SIDE))
    image.save(folder / "x.png", transparency=0)
    return folder / "x.png"


CASES = [rgba, grey, webp, tiff, palette, one_colour, sixteen_bits, gif, premultiplied, turned, avif, one_bit]


class Sure:
    """A segmenter that takes the left half for the object, whatever it sees."""

    name, threads = "sure", 1

    def soft_mask(self, photo: Photo) -> tuple[SoftMask, float]:
        return left_half(photo), 1.0


def left_half(photo: Photo) -> SoftMask:
    width, height = photo.size
    soft = np.zeros((height, width), np.float32)
    soft[:, : width // 2] = 1
    return SoftMask.of(soft)


def by_file(source: Path, folder: Path) -> np.ndarray:
    segment_paths(cast(Segmenter, Sure()), source, folder / "out.png", kind="cutout")
    with Image.open(folder / "out.png") as found:
        return np.asarray(found)


def by_folder(source: Path, folder: Path) -> np.ndarray:
    segment_paths(cast(Segmenter, Sure()), source.parent, folder / "out", kind="cutout")
    with Image.open(folder / "out" / "x.png") as found:
        return np.asarray(found)


def by_page(source: Path, folder: Path) -> np.ndarray:
    for path in Cuts(Sure(), 10**9).files(source, 0.5, folder):
        if path.stem.endswith("cutout"):
            with Image.open(path) as found:
                return np.asarray(found)
    raise AssertionError("the page saves no cut-out")


@pytest.mark.every(5)
@pytest.mark.parametrize("entrance", [by_file, by_folder, by_page])
@pytest.mark.parametrize("kind", CASES)
def test_a_cut_out_is_the_file_where_the_object_is(
    kind: Callable[[Path], Path], entrance: Callable[[Path, Path], np.ndarray], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "result").mkdir()
    source = kind(tmp_path / "in")
    with Image.open(source) as image:
        own = np.array(ImageOps.exif_transpose(image).convert("RGBA"))
    found = entrance(source, tmp_path / "result")
    near = 2 if kind is premultiplied else 1  # a colour below a low opacity has few values
    object_there, shown = np.zeros((SIDE, SIDE), bool), own[..., 3] > 0
    object_there[:, : SIDE // 2] = True
    own[:, SIDE // 2 - 1, 3] = np.rint(0.75 * own[:, SIDE // 2 - 1, 3].astype(float))  # the mask's edge is smooth
    assert np.abs(found.astype(int) - own)[object_there & shown].max() <= near
    assert not found[~(object_there & shown)].any()


def empty_opacity(folder: Path) -> Path:
    """A BMP file of 32 bits whose program left the last 8 empty."""
    pixels = np.full((SIDE, SIDE, 4), (*COLOUR[::-1], 0), np.uint8).tobytes()
    head = struct.pack("<IiiHHIIiiII", 108, SIDE, SIDE, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    head = (head + struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)).ljust(108, b"\0")
    (folder / "x.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + head + pixels)
    return folder / "x.bmp"


def long_key(folder: Path) -> Path:
    """A PNG file with opacities of more colours than it may have."""
    image = Image.new("P", (SIDE, SIDE))
    image.putpalette([*COLOUR, 1, 2, 3])
    image.save(folder / "x.png")
    content = (folder / "x.png").read_bytes()
    body, at = b"tRNS" + bytes(300), content.index(b"IDAT") - 4
    (folder / "x.png").write_bytes(
        content[:at] + struct.pack(">I", 300) + body + struct.pack(">I", zlib.crc32(body)) + content[at:]
    )
    return folder / "x.png"


@pytest.mark.parametrize("kind", [empty_opacity, long_key])
def test_an_opacity_that_is_damaged_hides_nothing(kind: Callable[[Path], Path], tmp_path: Path) -> None:
    photo = read_photo(kind(tmp_path))
    assert not photo.transparent
    assert (np.asarray(photo.rgb) == COLOUR).all()


@pytest.mark.parametrize("key", [None, "x", b"x" * 300, (1, 2), 10**30, 1.0], ids=lambda key: str(key)[:9])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
def test_a_transparent_colour_that_is_none(mode: str, key: object) -> None:
    image = Image.new(mode, (4, 4))
    image.info["transparency"] = key
    assert not to_photo(image).transparent
    assert image.info["transparency"] is key  # the caller's image stays


def test_a_palette_may_have_opacities() -> None:
    image = Image.new("P", (4, 4))
    image.putpalette(bytes([*COLOUR, 160]), "RGBA")
    alpha = to_photo(image).alpha
    assert alpha is not None
    assert alpha.getextrema() == (160, 160)


@pytest.mark.parametrize("side", [12, 64, 100])
def test_a_square_has_no_rim_of_another_brightness(side: int, tmp_path: Path) -> None:
    """Where the opacity has a step."""
    photo = read_photo(rgba(tmp_path))
    found = np.asarray(image_of(photo, left_half(photo), "cutout", Look(square=side), square_about=(0, 0, 8, 16)))
    clear = found[found[..., 3] >= 160][:, :3]
    assert len(clear)
    assert np.abs(clear.astype(int) - COLOUR).max() <= 5


def test_hidden_pixels_are_kept_only_when_asked(tmp_path: Path) -> None:
    Image.new("RGB", (SIDE, SIDE), COLOUR).save(tmp_path / "x.png")
    for keep in (False, True):
        segment_paths(
            cast(Segmenter, Sure()), tmp_path / "x.png", tmp_path / f"{keep}.png", kind="cutout", keep_hidden=keep
        )
        with Image.open(tmp_path / f"{keep}.png") as found:
            below = np.asarray(found.convert("RGB"))[:, SIDE // 2 :]
        assert (below == (COLOUR if keep else (0, 0, 0))).all()


def secret(folder: Path) -> Path:
    """Left of the object's edge a plain colour, right of it bright stripes; below is hidden what the file hides."""
    pixels = np.full((SIDE, SIDE, 4), (*COLOUR, 255), np.uint8)
    pixels[:, SIDE // 2 :: 2] = (20, 250, 90, 255)
    pixels[:4] = (20, 250, 90, 0)
    Image.fromarray(pixels).save(folder / "x.png")
    return folder / "x.png"


LOOKS: dict[str, dict[str, object]] = {
    "plain": {},
    "crop": {"crop": True, "margin": 0.4},
    "square": {"square": 64},
    "small square": {"square": 16, "margin": 0.4},
    "feather": {"feather": 3},
    "parts": {"parts": True},
    "threshold": {"threshold": 0.9},
    "uncleaned": {"cleaning": None},
    "webp": {"image_format": "webp", "quality": 100},
    "square webp": {"image_format": "webp", "square": 32},
    "matting": {"matting": True},
}


@pytest.mark.every(3)
@pytest.mark.parametrize("look", LOOKS)
def test_what_is_transparent_shows_nothing_of_the_ground(look: str, tmp_path: Path) -> None:
    if look == "matting":
        pytest.importorskip("pymatting")
    source, out = secret(tmp_path), tmp_path / "out"
    segment_paths(cast(Segmenter, Sure()), [source], out, kind="cutout", **LOOKS[look])  # type: ignore[arg-type]
    written = list(out.rglob("*.webp" if "webp" in look else "*.png"))
    assert written
    for path in written:
        with Image.open(path) as file:
            found = np.asarray(file.convert("RGBA")).astype(int)
        below = found[found[..., 3] == 0][:, :3]
        assert len(below)
        if "webp" not in look:
            assert not below.any()
        # WebP packs colours in blocks, so those of the object's edge reach further
        assert (below[:, 1] <= below[:, 0] + 40).all()


def test_masks_stay_within_what_is_opaque(tmp_path: Path) -> None:
    photo = read_photo(rgba(tmp_path))
    soft = SoftMask.of(np.ones((SIDE, SIDE), np.float32))
    mask = np.asarray(drawn(photo, soft, "mask"))
    assert (mask[:4] == 255).all()
    assert (mask[4:8] == 0).all()
    assert np.asarray(drawn(photo, soft, "soft"))[10, 3] == 160


@pytest.mark.parametrize("feather", [0, 0.5, 1, 3, 10])
def test_a_feather_fades_in_over_its_width(feather: float) -> None:
    inside = np.zeros((60, 60), np.float32)
    inside[:, 20:] = 1
    photo = Photo(Image.new("RGB", (60, 60)))
    for rise in (inside, inside * np.float32(0.3) + np.float32(0.3)):  # sharp, and a haze on both sides
        alpha = np.asarray(drawn(photo, SoftMask.of(rise), "cutout", feather=feather))[30, :, 3]
        assert not alpha[:20].any()
        assert (np.diff(alpha[20:].astype(int)) >= 0).all()
        assert 0 < alpha[20] < 255
        assert (alpha[20:] < 243).sum() <= 1 + feather
        assert (alpha[21 + int(feather) :] == 255).all()


@pytest.mark.parametrize("feather", [-1, 201, float("nan"), float("inf")])
def test_a_feather_out_of_range(feather: float, tmp_path: Path) -> None:
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match="must be from 0 to 200"):
        segment_paths(cast(Segmenter, Sure()), tmp_path / "x.png", tmp_path / "out.png", feather=feather)


def test_a_thin_line_is_not_lost() -> None:
    soft = np.zeros((20, 20), np.float32)
    soft[:, 10] = soft[5, 5] = 1
    alpha = np.asarray(drawn(Photo(Image.new("RGB", (20, 20))), SoftMask.of(soft), "cutout"))[..., 3]
    assert ((alpha > 0) == (soft > 0)).all()
    assert (alpha[:, 10] >= 127).all()


@pytest.mark.every(3)
@pytest.mark.parametrize("kind", NOTED)
def test_results_have_no_metadata_of_the_file(kind: str, tmp_path: Path) -> None:
    """Places, names, previews of the whole photograph."""
    source = noted(kind, tmp_path / "in", Image.new("RGB", (SIDE, SIDE), COLOUR))
    for form in ("png", "jpg", "webp"):
        kinds = list(KINDS) if form == "png" else ["overlay"]
        segment_paths(
            cast(Segmenter, Sure()), [source.parent], tmp_path / form, kind=kinds, image_format=form, review=True
        )  # type: ignore[arg-type]
        written = [path for path in (tmp_path / form).rglob("*") if path.is_file()]
        assert len(written) > 2
        for path in written:
            assert SECRET not in path.read_bytes()
            if path.suffix == ".png":
                with Image.open(path) as found:
                    assert SECRET.decode() not in str(found.info)
