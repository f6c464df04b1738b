"""Matting finds a cut-out's opacity in the band along the mask's edge, and changes nothing else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from redoseg.errors import RedosegError
from redoseg.images import matting
from redoseg.images.photo import Photo, SoftMask
from redoseg.inference.results import Look, file_of, opacity_of
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter

SIDE = 120


class Sure:
    """Stands in for a segmenter: a square in the middle."""

    name, identity = "sure", "sure"

    def soft_mask(self, photo: Photo) -> tuple[SoftMask, float]:
        return SoftMask.of(square(photo.size)), 1.0


def square(size: tuple[int, int]) -> NDArray[np.float32]:
    width, height = size
    soft = np.zeros((height, width), np.float32)
    soft[height // 4 : -height // 4, width // 4 : -width // 4] = 1
    return soft


def by_red(image: NDArray[Any], trimap: NDArray[Any]) -> NDArray[Any]:
    """Stands in for the solver: where it is not known, as opaque as the pixel is red."""
    return np.where(trimap == 0.5, image[..., 0], trimap)


@pytest.fixture
def solver(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("redoseg.images.matting", "redoseg.inference.request"):
        monkeypatch.setattr(f"{module}.closed_form", lambda: by_red)


def ramp(size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    red = np.broadcast_to(np.linspace(0, 255, size[0]).astype(np.uint8), size[::-1])
    return Image.fromarray(np.dstack([red, red // 2, 255 - red]))


def made(tmp_path: Path, **options: Any) -> Path:
    photo = tmp_path / "x.png"
    ramp().save(photo)
    segment_paths(cast(Segmenter, Sure()), photo, tmp_path / "out.png", **({"kind": "cutout"} | options))
    return tmp_path / "out.png"


@pytest.mark.usefixtures("solver")
def test_the_band_alone_is_looked_at(tmp_path: Path) -> None:
    with Image.open(made(tmp_path, matting=True)) as image:
        alpha = np.asarray(image)[..., 3]
    trimap = matting.trimap_of(square((SIDE, SIDE)) > 0.5)
    assert (alpha[trimap == 1] == 255).all()
    assert not alpha[trimap == 0].any()
    band = trimap == 0.5
    assert np.abs(alpha[band].astype(int) - np.asarray(ramp())[..., 0][band]).max() <= 1


@pytest.mark.parametrize(("corner", "far"), [(0, 60), (40, 110)])
def test_a_border_is_no_edge(corner: int, far: int) -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[corner:far, corner:far] = True
    trimap = matting.trimap_of(mask)
    assert trimap[corner, corner] == (1 if corner == 0 else 0.5)
    assert trimap[50, 50] == 1
    assert trimap[far, 50] == 0.5
    assert trimap[-1, 0] == 0
    width = (trimap[50] == 0.5).sum() / (1 if corner == 0 else 2)
    assert width == 2 * max(2, round(matting.BAND * (far - corner)))


@pytest.mark.usefixtures("solver")
def test_of_a_large_picture_it_is_enlarged() -> None:
    size = 1500, 1000
    soft, photo = SoftMask.of(square(size)), Photo(ramp(size))
    found = matting.matte(photo, soft, 0.5)
    assert found is not None
    whole = found.whole()
    assert whole.shape == (1000, 1500)
    assert (whole[300:700, 450:1050] == 1).all()
    assert not whole[:200].any()
    red = np.asarray(photo.rgb)[..., 0] / 255
    assert np.abs(whole[500, 360:390] - red[500, 360:390]).max() < 0.05


@pytest.mark.usefixtures("solver")
@pytest.mark.parametrize("value", [0, 1])
def test_without_an_edge_the_mask_is_all(value: float) -> None:
    soft = SoftMask.of(np.full((SIDE, SIDE), value, np.float32))
    packed = [
        b"".join(file_of(Photo(ramp()), soft, "cutout", Look(matting=on, square=64), square_about=(0, 0, 99, 99)))
        for on in (False, True)
    ]
    assert packed[0] == packed[1]


@pytest.mark.usefixtures("solver")
def test_a_result_without_it_is_of_other_settings(tmp_path: Path) -> None:
    out = made(tmp_path)
    report = segment_paths(
        cast(Segmenter, Sure()), tmp_path / "x.png", out, kind="cutout", matting=True, skip_existing=True
    )
    assert len(report.differing) == 1


@pytest.mark.usefixtures("solver")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "mask"}, "--matting is for cut-outs, but the kind is mask; add --as cutout, or remove it"),
        ({"feather": 2.0}, "--feather cannot be combined with --matting"),
    ],
)
def test_what_it_cannot_be_combined_with(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(RedosegError, match=said):
        made(tmp_path, matting=True, **options)


def test_without_pymatting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymatting", None)
    monkeypatch.setitem(sys.modules, "pymatting.alpha.estimate_alpha_cf", None)
    with pytest.raises(RedosegError, match=r'pip install "redoseg\[matting\]"'):
        made(tmp_path, matting=True)
    assert not (tmp_path / "out.png").exists()


@pytest.mark.slow  # pymatting compiles its functions when it is first imported
def test_hairs_are_half_seen() -> None:
    pytest.importorskip("pymatting")
    true = np.zeros((SIDE, SIDE), np.float32)
    true[40:, 30:90] = 1
    true[34:40, 30:90:4] = 0.6  # hairs above the object
    colours = np.rint(true[..., None] * (200, 60, 40) + (1 - true[..., None]) * (30, 90, 200)).astype(np.uint8)
    soft = np.zeros_like(true)
    soft[37:, 30:90] = 1  # the mask cuts them in the middle
    found = matting.matte(Photo(Image.fromarray(colours)), SoftMask.of(soft), 0.5)
    assert found is not None
    band = matting.trimap_of(soft > 0.5) == 0.5
    plain = opacity_of(SoftMask.of(soft), (0, 0, SIDE, SIDE))
    assert np.abs(found.whole() - true)[band].mean() < 0.3 * np.abs(plain - true)[band].mean()
