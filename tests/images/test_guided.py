"""Masks that take their edges from the photograph, and the score of edges."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from redoseg.errors import DataError
from redoseg.images import guided as edges
from redoseg.images import photo
from redoseg.metrics import boundary_f


def disc(side: int, radius: float = 0.3) -> np.ndarray:
    y, x = (np.indices((side, side)) + 0.5) / side - 0.5
    return np.hypot(x * 1.2, y) < radius


def photograph(mask: np.ndarray, noise: float = 8.0) -> Image.Image:
    """An orange object on a blue ground, both shaded and noisy."""
    rng = np.random.default_rng(0)
    colours = np.where(mask[..., None], (200, 120, 40), (40, 90, 140)).astype(np.float64)
    colours += np.linspace(-25, 25, mask.shape[1])[None, :, None] + rng.normal(0, noise, colours.shape)
    return Image.fromarray(colours.clip(0, 255).astype(np.uint8))


def seen_by_a_network(picture: Image.Image, truth: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture at the network's size, and a mask such as it gives: right, with a wide soft edge."""
    reduced = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))
    small = np.asarray(Image.fromarray(truth.astype(np.uint8) * 255).resize((side, side), Image.Resampling.BOX))
    return ndimage.gaussian_filter(small.astype(np.float32) / 255, 2.0), reduced


@pytest.mark.parametrize("size", [(640, 640), (400, 640), (64, 64), (33, 50)])
def test_a_guided_mask_follows_the_photographs_edge(size: tuple[int, int]) -> None:
    truth = np.asarray(Image.fromarray(disc(640)).resize(size))
    picture = photograph(truth)
    mask, reduced = seen_by_a_network(picture, truth, 64)
    plain, guided = edges.bilinear_upsample(mask, picture.size), edges.guided_upsample(mask, reduced, picture)
    assert guided.shape == plain.shape == truth.shape
    assert guided.dtype == np.float32
    assert 0 <= guided.min() <= guided.max() <= 1
    wrong = ((guided > 0.5) != truth).mean()
    assert wrong < 0.004
    # and it is sharp there: the band that is neither is much narrower
    assert ((guided > 0.2) & (guided < 0.8)).mean() < 0.5 * ((plain > 0.2) & (plain < 0.8)).mean()


def test_guided_is_the_guided_filter() -> None:
    """He, Sun and Tang (2013), equations 19 and 20, written out with scipy, at the network's own size."""
    rng = np.random.default_rng(1)
    truth = disc(48)
    picture = photograph(truth, noise=20)
    mask = ndimage.gaussian_filter(truth + 0.2 * rng.standard_normal(truth.shape), 1.0).clip(0, 1).astype(np.float32)
    colours = np.asarray(picture).astype(np.float64) / 255
    radius = round(48 * edges.WINDOW)

    def mean(plane: np.ndarray) -> np.ndarray:
        whole = np.ones_like(plane)
        sums = [ndimage.uniform_filter(p, 2 * radius + 1, mode="constant") for p in (plane, whole)]
        return sums[0] / sums[1]

    means = [mean(colours[..., c]) for c in range(3)]
    slopes, offset = np.empty_like(colours), np.empty_like(truth, float)
    covariance = np.empty((48, 48, 3, 3))
    with_mask = np.empty((48, 48, 3))
    for a in range(3):
        with_mask[..., a] = mean(colours[..., a] * mask) - means[a] * mean(mask.astype(float))
        for b in range(3):
            covariance[..., a, b] = mean(colours[..., a] * colours[..., b]) - means[a] * means[b]
    slopes = np.linalg.solve(covariance + edges.EPSILON * np.eye(3), with_mask[..., None])[..., 0]
    offset = mean(mask.astype(float)) - sum(slopes[..., c] * means[c] for c in range(3))
    expected = sum(mean(slopes[..., c]) * colours[..., c] for c in range(3)) + mean(offset)
    assert expected.std() > 0.3
    assert np.abs(edges.guided_upsample(mask, np.asarray(picture), picture) - expected.clip(0, 1)).max() < 1e-4


@pytest.mark.every(4)
@pytest.mark.parametrize("size", [(640, 640), (400, 640), (256, 256), (90, 60)])
def test_a_mask_that_is_cut_again_finds_the_object_by_its_colours(size: tuple[int, int]) -> None:
    truth = np.asarray(Image.fromarray(disc(640)).resize(size))
    picture = photograph(truth)
    mask, reduced = seen_by_a_network(picture, truth, 64)
    mask = np.roll(mask, 9, 1)  # further than a guided mask can reach
    assert ((edges.guided_upsample(mask, reduced, picture) > 0.5) != truth).mean() > 0.01
    cut = edges.grabcut_upsample(mask, reduced, picture)
    assert (cut.shape, cut.dtype) == (truth.shape, np.float32)
    assert 0 <= cut.min() <= cut.max() <= 1
    assert ((cut > 0.5) != truth).mean() < 0.006
    assert np.array_equal(edges.grabcut_upsample(mask, reduced, picture), cut)
    other = edges.grabcut_upsample(1 - mask, reduced, picture)
    assert ((other > 0.5) == (cut > 0.5)).mean() < 0.006  # whichever side is the object


@pytest.mark.parametrize("size", [(100_000, 2), (1, 5000), (3, 2), (1, 1)])
def test_strips_and_crumbs_are_cut_within_bounds(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8))
    one_pixel = np.zeros((32, 32), np.float32)
    one_pixel[16, 16] = 1
    for mask in (disc(32).astype(np.float32), one_pixel):
        cut = edges.grabcut_upsample(mask, rng.integers(0, 256, (32, 32, 3)).astype(np.uint8), picture)
        assert cut.shape == size[::-1]
        assert 0 <= cut.min() <= cut.max() <= 1


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_mask_of_one_side_is_not_cut(value: float) -> None:
    """No colours can be learnt of a side that is not there."""
    picture = photograph(disc(300))
    reduced = np.asarray(picture.resize((32, 32)))
    cut = edges.grabcut_upsample(np.full((32, 32), value, np.float32), reduced, picture)
    assert np.abs(cut - round(value)).max() < 1e-4


def test_noise_of_single_pixels_does_not_show() -> None:
    truth = disc(400)
    clean, noisy = photograph(truth, noise=0), photograph(truth, noise=60)
    mask, reduced = seen_by_a_network(clean, truth, 64)
    # a mask fitted to every single pixel would be wrong on 2 %
    assert ((edges.guided_upsample(mask, reduced, noisy) > 0.5) != truth).mean() < 0.004


def test_what_says_nothing_stays_unchanged() -> None:
    flat = Image.new("RGB", (200, 100), (90, 120, 30))
    reduced = np.asarray(flat.resize((32, 32)))
    for value in (0.0, 0.25, 1.0):
        mask = np.full((32, 32), value, np.float32)
        assert np.abs(edges.guided_upsample(mask, reduced, photograph(disc(90))) - value).max() < 1e-4
        assert np.abs(edges.guided_upsample(mask, reduced, flat) - value).max() < 1e-4


def test_regions_still_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    picture = photograph(disc(100))
    reduced = np.asarray(picture.resize((32, 32)))
    masks = ndimage.gaussian_filter(rng.random((3, 32, 32)), (0, 3, 3)).astype(np.float32)
    masks /= masks.sum(0)
    total = sum(edges.guided_upsample(mask, reduced, picture) for mask in masks)
    assert np.abs(total - 1).max() < 1e-3


def test_a_wide_flat_picture_takes_no_more_than_its_own_size() -> None:
    import tracemalloc

    picture = Image.new("RGB", (400_000, 2), (200, 100, 50))
    tracemalloc.start()
    try:
        edges.guided_upsample(np.ones((64, 64), np.float32), np.full((64, 64, 3), 100, np.uint8), picture)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 60 * 800_000  # bytes a pixel; the functions at its whole width would be a thousand


def test_rows_are_made_in_bands_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = disc(300)
    picture = photograph(truth)
    mask, reduced = seen_by_a_network(picture, truth, 32)
    whole = edges.guided_upsample(mask, reduced, picture)
    monkeypatch.setattr(photo, "PART", 7 * 300)
    assert np.array_equal(edges.guided_upsample(mask, reduced, picture), whole)


# ------------------------------------------------------------------------------------------------ scores


def labels_of(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.int8)


def test_boundary_f_by_hand() -> None:
    truth = np.zeros((100, 100), bool)
    truth[20:80, 20:80] = True
    assert boundary_f(truth, labels_of(truth)) == 1
    near, far = np.zeros_like(truth), np.zeros_like(truth)
    near[22:82, 20:80] = True  # 2 pixels below: 0.8 % of the diagonal, rounded up, allows them
    far[20:80, 20:50] = True  # half of it: three sides are right, the fourth is 30 pixels off
    assert boundary_f(near, labels_of(truth)) == 1
    precision, recall = (2 * 30 + 58 + 2 * 0 + 4) / (2 * 30 + 2 * 58), (60 + 2 * 32) / (4 * 59)
    assert boundary_f(far, labels_of(truth)) == pytest.approx(2 * precision * recall / (precision + recall), abs=0.02)
    assert boundary_f(~truth, labels_of(truth)) > 0.99  # the same edge, whichever side
    assert boundary_f(np.zeros_like(truth), labels_of(truth)) == 0
    nothing = np.zeros((100, 100), np.int8)
    assert boundary_f(nothing > 0, nothing) == boundary_f(nothing == 0, nothing + 1) == 1
    assert boundary_f(nothing == 0, nothing) == boundary_f(nothing > 0, nothing + 1) == 0  # all against nothing


def test_an_open_band_stands_for_an_edge_halfway() -> None:
    truth = np.zeros((100, 100), np.int8)
    truth[20:80, 20:80] = 1
    banded = truth.copy()
    banded[15:85, 15:85] = -1
    banded[25:75, 25:75] = 1
    assert boundary_f(truth > 0, banded) > 0.95
    assert boundary_f(banded > 0, banded) == 0  # the band's inner side is 5 pixels off
    with pytest.raises(DataError, match="the labels have no labelled pixel"):
        boundary_f(truth > 0, np.full((100, 100), -1, np.int8))
    with pytest.raises(DataError, match=r"the labels \(50, 100\); expected \(H, W\) for both"):
        boundary_f(truth > 0, truth[:50])
