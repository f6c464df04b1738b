"""Odd and broken picture files are read rightly or refused with one line."""

import io
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redoseg.errors import DataError
from redoseg.files import printable, write_atomic
from redoseg.images.draw import outline
from redoseg.images.masks import read_mask
from redoseg.images.photo import UPRIGHT, fit_square
from redoseg.images.read import list_images, read_image, read_photo


def photo(width: int = 60, height: int = 40) -> Image.Image:
    """Red left, blue right: which way is up can be seen."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 200
    pixels[:, width // 2 :, 2] = 200
    return Image.fromarray(pixels)


def message(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_image(path)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_list_is_sorted_recursive_and_skips_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/z.png", "a/.hidden.png", ".git/x.png", "notes.txt", "c.jpeg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "folder.png").mkdir()
    found = [p.relative_to(tmp_path).as_posix() for p in list_images(tmp_path).images]
    assert found == ["a/z.png", "b.JPG", "c.jpeg"]


def test_list_ends_on_a_link_loop(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "itself.png").symlink_to(tmp_path / "itself.png")
    found, problems, _ = list_images(tmp_path)
    assert found == [tmp_path / "a" / "x.png"]
    assert [(p.name, why) for p, why in problems] == [
        ("dangling.png", "cannot be opened (No such file or directory): repair or remove it"),
        ("itself.png", "cannot be opened (Too many levels of symbolic links): repair or remove it"),
    ]


def test_list_of_a_missing_or_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist; expected a folder of pictures; choose another"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no picture found in .*; expected files ending in \.jpg.*; add pictures"):
        list_images(tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DataError, match="is a file; expected a folder of pictures"):
        list_images(file)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(tmp_path: Path, orientation: int) -> None:
    upright = photo()
    stored = upright
    if orientation > 1:
        undo = UPRIGHT[orientation]
        back = {Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270}
        back |= {v: k for k, v in back.items()}
        stored = upright.transpose(back.get(undo, undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.jpg", quality=95, subsampling=0, exif=exif)
    read = read_image(tmp_path / "x.jpg")
    assert read.size == upright.size
    assert np.abs(np.asarray(read, int) - np.asarray(upright, int)).mean() < 4


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    image = photo().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    image.save(tmp_path / "rgba.png")
    assert np.asarray(read_image(tmp_path / "rgba.png")).min() == 255
    image.convert("LA").save(tmp_path / "la.png")
    assert np.asarray(read_image(tmp_path / "la.png")).min() == 255
    palette = photo().convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    palette.save(tmp_path / "p.png", transparency=bytes([0, 0]))
    assert np.asarray(read_image(tmp_path / "p.png")).min() == 255


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    path = tmp_path / f"ramp.{suffix}"
    Image.fromarray(ramp).save(path)
    assert np.array_equal(np.asarray(read_image(path))[0, :, 1], np.arange(256))


def test_other_modes(tmp_path: Path) -> None:
    for mode, suffix in (("CMYK", "jpg"), ("CMYK", "tif"), ("L", "jpg"), ("1", "png"), ("P", "gif")):
        path = tmp_path / f"{mode}.{suffix}"
        photo().convert(mode).save(path)
        read = read_image(path)
        assert (read.mode, read.size) == ("RGB", (60, 40))
    assert np.abs(np.asarray(read_image(tmp_path / "CMYK.tif"), int) - np.asarray(photo(), int)).max() < 3
    unit = np.linspace(0, 1, 256, dtype=np.float32)[None]
    Image.fromarray(unit).save(tmp_path / "f.tif")
    assert np.array_equal(np.asarray(read_image(tmp_path / "f.tif"))[0, :, 0], np.arange(256))


def test_first_frame_of_an_animation_and_one_pixel(tmp_path: Path) -> None:
    frames = [photo(), Image.new("RGB", (60, 40), "green")]
    for suffix in ("gif", "webp", "png", "tif"):
        path = tmp_path / f"x.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert np.asarray(read_image(path))[20, 5, 0] > 150
    Image.new("RGB", (1, 1), "red").save(tmp_path / "dot.png")
    dot = fit_square(read_image(tmp_path / "dot.png"), 16)
    assert np.array_equal(np.unique(np.asarray(dot).reshape(-1, 3), axis=0), [[255, 0, 0]])


def test_name_and_suffix_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "really-a-png.jpg"
    photo().save(path, "PNG")
    assert read_image(path).size == (60, 40)


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(buffer.getvalue()[:2000])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "script.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert "truncated" in message(tmp_path / "cut.jpg")
    assert "an empty file; replace or remove it" in message(tmp_path / "empty.jpg")
    assert "not a picture of a known format" in message(tmp_path / "text.jpg")
    assert "a PostScript file, which is not read; export it" in message(tmp_path / "script.jpg")
    assert "no such file" in message(tmp_path / "nothing.jpg")
    assert "not a file" in message(tmp_path)


def test_bombs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    small = io.BytesIO()
    Image.new("1", (8, 8)).save(small, "PNG")
    data = bytearray(small.getvalue())
    for side in (12_000, 100_000):  # with a warning of Pillow's own, and with an error
        data[16:24] = side.to_bytes(4, "big") * 2
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        path.write_bytes(data)
        assert "million pixels, the most that are read; make it smaller" in message(path)


def test_large_jpegs_are_decoded_reduced_and_look_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    large = Image.fromarray(rng.integers(0, 255, (12, 16, 3)).astype(np.uint8)).resize((1600, 1200), 3)
    large.save(tmp_path / "x.jpg", quality=92)
    reduced = read_photo(tmp_path / "x.jpg", 64)
    assert 128 <= min(reduced.rgb.size) < 1200
    full = np.asarray(fit_square(read_image(tmp_path / "x.jpg"), 64), int)
    assert np.abs(np.asarray(reduced.square(64), int) - full).mean() < 1


def test_square_is_the_centre() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    square = np.asarray(fit_square(Image.fromarray(wide), 5))
    resized = np.asarray(Image.fromarray(wide).resize((15, 5), Image.Resampling.BILINEAR))
    assert np.array_equal(square, resized[:, 5:10])


def test_mask_values(tmp_path: Path) -> None:
    values = np.array([[0, 40, 125, 126, 127, 128, 129, 130, 254, 255]], np.uint8)
    Image.fromarray(values).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[0, 0, 0, 127, 127, 127, 127, 255, 255, 255]]
    for name, array in (
        ("ones", np.array([[0, 1]], np.uint8)),
        ("deep ones", np.array([[0, 1]], np.uint16)),
        ("deep", np.array([[0, 65535]], np.uint16)),
        ("bits", np.array([[False, True]])),
    ):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
        assert read_mask(tmp_path / f"{name}.png").tolist() == [[0, 255]]
    coloured = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    coloured.putpalette([0, 0, 0, 128, 0, 0, 0, 0, 9])
    coloured.save(tmp_path / "palette.png")
    assert read_mask(tmp_path / "palette.png").tolist() == [[0, 255, 255]]
    grey = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    grey.putpalette([255, 255, 255, 0, 0, 0, 127, 127, 127])
    grey.save(tmp_path / "grey.png")
    assert read_mask(tmp_path / "grey.png").tolist() == [[255, 0, 127]]


def test_mask_is_never_blended(tmp_path: Path) -> None:
    checks = ((np.indices((37, 53)).sum(0) % 2) * 255).astype(np.uint8)
    Image.fromarray(checks).save(tmp_path / "m.png")
    assert set(np.unique(read_mask(tmp_path / "m.png", 16))) <= {0, 255}


def test_names_are_shown_as_one_printable_line() -> None:
    assert printable("a\nb") == "a\\nb"
    assert printable(os.fsdecode(b"caf\xe9.jpg")) == "caf\\xe9.jpg"
    printable(os.fsdecode(b"caf\xe9.jpg")).encode()


def test_write_atomic(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x"]
    (tmp_path / "taken").mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        write_atomic(tmp_path / "taken", b"data")
    assert sorted(os.listdir(tmp_path)) == ["taken", "x"]


def test_outline_dims_the_background_only() -> None:
    mask = np.zeros((40, 60), np.bool_)
    mask[10:30, 10:50] = True
    drawn = np.asarray(outline(Image.new("RGB", (60, 40), "white"), mask))
    assert drawn[20, 30].tolist() == [255, 255, 255]
    assert drawn[2, 2].max() < 200


def test_formats_that_are_not_read_are_listed(tmp_path: Path) -> None:
    photo().save(tmp_path / "a.png")
    for name in ("b.JXL", "c.dng", "d.txt"):
        (tmp_path / name).write_bytes(b"x")
    found, problems, _ = list_images(tmp_path)
    assert [p.name for p in found] == ["a.png"]
    why = "a format that is not read; export it as JPEG, PNG or WebP"
    raw = "a camera's raw picture, which is not read; export it as JPEG, PNG or WebP"
    assert [(p.name, w) for p, w in problems] == [("b.JXL", why), ("c.dng", raw)]
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"no picture found in .*b\.JXL a format that is not read"):
        list_images(tmp_path)


def test_masks_of_two_values_and_masks_in_colour(tmp_path: Path) -> None:
    two = np.array([[0, 128], [128, 0]], np.uint8)
    Image.fromarray(two).save(tmp_path / "two.png")
    assert read_mask(tmp_path / "two.png").tolist() == [[0, 255], [255, 0]]
    Image.fromarray(np.array([[0, 127], [0, 0]], np.uint8)).save(tmp_path / "open.png")
    assert read_mask(tmp_path / "open.png").tolist() == [[0, 127], [0, 0]]
    Image.fromarray(np.stack([two, two, two], -1)).save(tmp_path / "grey.png")
    assert read_mask(tmp_path / "grey.png").tolist() == [[0, 255], [255, 0]]
    Image.new("RGB", (4, 4), (200, 40, 40)).save(tmp_path / "red.png")
    with pytest.raises(
        DataError, match=r"red\.png: the mask is in colour, but must be grey \(0 background, 255 object\)"
    ):
        read_mask(tmp_path / "red.png")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_a_large_profile_is_no_error(kind: str) -> None:
    """As printers have; Pillow alone refuses a PNG file with more than a megabyte."""
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (200, 90, 30)).save(buffer, kind, icc_profile=bytes(3_000_000))
    assert read_photo("x.png", content=buffer.getvalue()).size == (20, 10)
