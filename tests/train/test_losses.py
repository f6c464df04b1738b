"""The objective's terms against references written out by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from redoseg.train import losses


def a_batch(seed: int, b: int = 3, n: int = 3, side: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures, drawings cut to their masks, masks, and one region a picture."""
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randn(b, 3, side, side, generator=generator)
    masks = torch.randn(b, n, side, side, generator=generator).softmax(1)
    parts = torch.randn(b, n, 3, side, side, generator=generator) * masks[:, :, None]
    chosen = torch.randint(0, n, (b,), generator=generator)
    return pictures, parts, masks, chosen


def redrawn_pixel(pictures: Tensor, parts: Tensor, masks: Tensor, i: int, k: int, y: int, x: int) -> list[float]:
    """Picture i with region k drawn again, at one pixel."""
    keep = 1 - masks[i, k, y, x].item()
    return [parts[i, k, c, y, x].item() + keep * pictures[i, c, y, x].item() for c in range(3)]


@pytest.mark.parametrize("redraw", ["each", "one", "object", "together"])
def test_compose_pixel_by_pixel(redraw: str) -> None:
    pictures, parts, masks, chosen = a_batch(0)
    b, n = masks.shape[:2]
    places = {
        "each": [(i, k) for k in range(n) for i in range(b)],  # region by region
        "one": [(i, int(chosen[i])) for i in range(b)],
        "object": [(i, 0) for i in range(b)],
        "together": [(i, None) for i in range(b)],
    }[redraw]
    got = losses.compose(pictures, parts, masks, redraw, chosen)
    assert got.shape == (len(places), 3, 4, 4)
    for m, (i, k) in enumerate(places):
        for y in range(4):
            for x in range(4):
                if k is None:
                    expected = [sum(parts[i, r, c, y, x].item() for r in range(n)) for c in range(3)]
                else:
                    expected = redrawn_pixel(pictures, parts, masks, i, k, y, x)
                assert got[m, :, y, x].tolist() == pytest.approx(expected, abs=1e-5)


@given(seed=st.integers(0, 1000), n=st.integers(2, 4), redraw=st.sampled_from(["each", "one", "object"]))
@settings(max_examples=25, deadline=None)
def test_an_empty_mask_leaves_the_picture(seed: int, n: int, redraw: str) -> None:
    pictures, _, masks, chosen = a_batch(seed, n=n)
    nothing = torch.zeros_like(masks)
    got = losses.compose(pictures, torch.zeros(3, n, 3, 4, 4), nothing, redraw, chosen)
    assert torch.equal(got, pictures.repeat(len(got) // 3, 1, 1, 1))


@given(seed=st.integers(0, 1000), redraw=st.sampled_from(["each", "one", "object", "together"]))
@settings(max_examples=25, deadline=None)
def test_redrawing_the_picture_itself_changes_nothing(seed: int, redraw: str) -> None:
    pictures, _, masks, chosen = a_batch(seed)
    got = losses.compose(pictures, pictures[:, None] * masks[:, :, None], masks, redraw, chosen)
    assert torch.allclose(got, pictures.repeat(len(got) // 3, 1, 1, 1), atol=1e-5)


SCORES = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=8)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@given(real=SCORES, fake=SCORES)
@settings(max_examples=50, deadline=None)
def test_hinge(real: list[float], fake: list[float]) -> None:
    on_real, on_fake = losses.discriminator_adversarial(
        torch.tensor(real)[:, None], torch.tensor(fake)[:, None], "hinge"
    )
    assert on_real.item() == pytest.approx(mean([max(0, 1 - s) for s in real]), abs=1e-5)
    assert on_fake.item() == pytest.approx(mean([max(0, 1 + s) for s in fake]), abs=1e-5)
    redrawer = losses.redrawer_adversarial(torch.tensor(fake)[:, None], "hinge")
    assert redrawer.item() == pytest.approx(-mean(fake), abs=1e-5)


@given(real=SCORES, fake=SCORES)
@settings(max_examples=50, deadline=None)
def test_binary_cross_entropy(real: list[float], fake: list[float]) -> None:
    def probability(score: float) -> float:
        return 1 / (1 + math.exp(-score))

    on_real, on_fake = losses.discriminator_adversarial(torch.tensor(real)[:, None], torch.tensor(fake)[:, None], "bce")
    assert on_real.item() == pytest.approx(mean([-math.log(probability(s)) for s in real]), abs=1e-5)
    assert on_fake.item() == pytest.approx(mean([-math.log(1 - probability(s)) for s in fake]), abs=1e-5)
    redrawer = losses.redrawer_adversarial(torch.tensor(fake)[:, None], "bce")
    assert redrawer.item() == pytest.approx(mean([-math.log(probability(s)) for s in fake]), abs=1e-5)


def masks_of_shares(*shares: float) -> Tensor:
    """One picture whose regions have these shares."""
    return torch.tensor(shares)[None, :, None, None].expand(1, len(shares), 2, 2).clone()


def test_missing_share() -> None:
    masks = masks_of_shares(0.1, 0.9)
    assert losses.missing_share(masks, 0.2).item() == pytest.approx((0.5 + 0) / 2)  # half a floor is missing
    assert losses.missing_share(masks, 0.1).item() == pytest.approx(0, abs=1e-6)
    assert losses.missing_share(masks, 0.0).item() == 0
    assert losses.missing_share(masks_of_shares(0.0, 1.0), 0.25).item() == pytest.approx(0.5)
    # each picture by itself: an even mean over the batch does not hide two bad pictures
    both = torch.cat([masks_of_shares(0.0, 1.0), masks_of_shares(1.0, 0.0)])
    assert losses.missing_share(both, 0.25).item() == pytest.approx(0.5)


def test_border_share() -> None:
    inside = torch.zeros(2, 2, 16, 16)
    inside[:, 0, 2:14, 2:14] = 1
    inside[:, 1] = 1 - inside[:, 0]
    assert losses.border_share(inside).item() == 0
    assert losses.border_share(inside.flip(1)).item() == 1
    one_corner = torch.zeros(1, 2, 16, 16)
    one_corner[:, 0, :2, :2] = 1
    assert losses.border_share(one_corner).item() == pytest.approx(4 / (16**2 - 12**2))
    # as a share of the border, so that a weight means the same at any size
    twice = one_corner.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert losses.border_share(twice).item() == pytest.approx(losses.border_share(one_corner).item())


def test_greyness() -> None:
    assert losses.greyness(masks_of_shares(0.0, 1.0)).item() == 0
    assert losses.greyness(masks_of_shares(0.5, 0.5)).item() == pytest.approx(0.25)
    assert losses.greyness(masks_of_shares(0.1, 0.9)).item() == pytest.approx(0.09)


def test_region_error() -> None:
    pictures = torch.zeros(1, 3, 1, 2)
    drawings = torch.zeros(1, 2, 3, 1, 2)
    drawings[0, 0, :, 0, 0] = torch.tensor([0.3, -0.6, 0.0])  # region 0 is off by 0.3 at the first pixel
    drawings[0, 1, :, 0, 1] = 1.0  # region 1 is off by 1 at the second
    masks = torch.tensor([[[[0.5, 0.25]], [[0.5, 0.75]]]])
    expected = (0.5 * 0.3 + 0.75 * 1.0) / 2
    assert losses.region_error(pictures, drawings, masks).item() == pytest.approx(expected)
    given_wholly = torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]])
    assert losses.region_error(pictures, drawings, given_wholly).item() == 0


@given(seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_region_error_is_linear_in_the_masks(seed: int) -> None:
    pictures, parts, masks, _ = a_batch(seed)
    hard = torch.nn.functional.one_hot(masks.argmax(1), 3).permute(0, 3, 1, 2).float()
    blended = losses.region_error(pictures, parts, 0.25 * masks + 0.75 * hard)
    soft, cut = (losses.region_error(pictures, parts, m) for m in (masks, hard))
    assert blended.item() == pytest.approx(0.25 * soft.item() + 0.75 * cut.item(), abs=1e-5)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_region_error_in_mapped_colours_pixel_by_pixel(seed: int) -> None:
    pictures, drawings, masks, _ = a_batch(seed)
    colours = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed + 1))
    b, n, side, _ = masks.shape
    errors = []
    for i, y, x in itertools.product(range(b), range(side), range(side)):
        error = 0.0
        for k in range(n):
            difference = [drawings[i, k, c, y, x].item() - pictures[i, c, y, x].item() for c in range(3)]
            mapped = [sum(colours[row, c].item() * difference[c] for c in range(3)) for row in range(3)]
            error += masks[i, k, y, x].item() * mean([abs(m) for m in mapped])
        errors.append(error)
    assert losses.region_error(pictures, drawings, masks, colours).item() == pytest.approx(mean(errors), abs=1e-5)
    plain = losses.region_error(pictures, drawings, masks)
    assert losses.region_error(pictures, drawings, masks, torch.eye(3)).item() == pytest.approx(plain.item(), abs=1e-6)


# ------------------------------------------------------------------------------- whitened colours, the centre


def photograph_like(seed: int) -> Tensor:
    """Pictures that differ in light by far more than in hue."""
    generator = torch.Generator().manual_seed(seed)
    light = torch.randn(4, 1, 8, 8, generator=generator)
    tint = torch.tensor([0.9, 1.0, 0.8])[:, None, None]
    return 0.1 + 0.4 * light * tint + 0.05 * torch.randn(4, 3, 8, 8, generator=generator)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_whitened_colours_are_spread_alike_in_every_direction(seed: int) -> None:
    pictures = photograph_like(seed)
    colours = losses.whitening(pictures)
    before = pictures.transpose(0, 1).flatten(1).cov()
    after = (colours @ pictures.transpose(0, 1).flatten(1)).cov()
    spread = before.trace() / 3
    assert torch.allclose(after, spread * torch.eye(3), atol=1e-3 * spread.item())
    assert torch.allclose(colours, colours.T, atol=1e-5)  # it turns no colour into another
    shifted = losses.whitening(pictures + 3)
    assert torch.allclose(shifted, colours, atol=1e-3)
    assert colours.dtype == pictures.dtype


@pytest.mark.parametrize("colour", [(0.0, 0.0, 0.0), (1.0, -1.0, 0.3)])
def test_whitening_of_one_colour_is_finite(colour: tuple[float, float, float]) -> None:
    pictures = torch.tensor(colour)[:, None, None].expand(2, 3, 4, 4).clone()
    colours = losses.whitening(pictures)
    assert colours.isfinite().all()
    assert losses.region_error(pictures, pictures[:, None] + 0.1, torch.ones(2, 1, 4, 4), colours).isfinite()


def test_whitening_of_grey_pictures_is_finite_and_bounded() -> None:
    """Grey pictures have no spread of hue: it is not raised without end."""
    grey = photograph_like(0)[:, :1].expand(4, 3, 8, 8).clone()
    colours = losses.whitening(grey)
    assert colours.isfinite().all()
    assert torch.linalg.eigvalsh(colours).max() < 100


def test_off_centre_pixel_by_pixel() -> None:
    masks = a_batch(5, n=2, side=6)[2]
    expected = []
    for i, y, x in itertools.product(range(len(masks)), range(6), range(6)):
        away = math.hypot((y + 0.5) / 3 - 1, (x + 0.5) / 3 - 1)  # from the middle, in half sides
        disc = 1 / (1 + math.exp(-8 * (0.6 - away)))
        expected.append((masks[i, 0, y, x].item() - disc) ** 2)
    assert losses.off_centre(masks).item() == pytest.approx(mean(expected), abs=1e-6)


def test_off_centre_is_least_for_a_disc_in_the_middle() -> None:
    y, x = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(32) - 15.5, indexing="ij")

    def cost(dy: int, dx: int, flip: bool = False) -> float:
        mask = (torch.hypot(y - dy, x - dx) < 9.6).float()
        mask = 1 - mask if flip else mask
        return losses.off_centre(torch.stack([mask, 1 - mask])[None]).item()

    middle = cost(0, 0)
    assert middle < 0.06  # the disc that it is held to has a soft edge
    assert middle < cost(4, 0) < cost(8, 0)
    assert cost(0, -6) == pytest.approx(cost(0, 6), abs=1e-6) == pytest.approx(cost(6, 0), abs=1e-6)
    assert cost(0, 0, flip=True) > 10 * middle  # region 0 is the one in the middle
