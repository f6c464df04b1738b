"""The objective's terms, as pure functions (Chen, Artieres, Denoyer 2019, section 3; others in docs/architecture.md).

b images, n regions, d numbers a latent, h x w pixels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def compose(
    images: Float[Tensor, "b 3 h w"],
    parts: Float[Tensor, "b n 3 h w"],
    masks: Float[Tensor, "b n h w"],
    redraw: str,
    chosen: Int[Tensor, " b"],
) -> Float[Tensor, "m 3 h w"]:
    """Images with regions redrawn; `parts` are the drawings, each already cut to its mask.

    `redraw` each: one picture for each region, with the rest kept (m = n b, region by region); one: only the
    `chosen` region of each picture; object: region 0 only; together: every region drawn (m = b).
    """
    if redraw == "together":
        return parts.sum(1)
    redrawn = parts + (1 - masks).unsqueeze(2) * images.unsqueeze(1)
    if redraw == "each":
        return redrawn.transpose(0, 1).flatten(0, 1)
    if redraw == "one":
        return redrawn[torch.arange(len(images), device=images.device), chosen]
    return redrawn[:, 0]


def moved(
    images: Float[Tensor, "b 3 h w"],
    objects: Float[Tensor, "b 1 h w"],
    grounds: Float[Tensor, "b 3 h w"],
    shifts: Float[Tensor, "b 2"],
) -> Float[Tensor, "b 3 h w"]:
    """The images' own objects, shifted right and down by parts of a side, on drawn grounds.

    A mask that takes in ground, or leaves part of the object behind, shows once its object is elsewhere: this needs no
    difference of colour (Bielski and Favaro, NeurIPS 2019).
    """
    maps = torch.eye(2, 3, device=images.device).repeat(len(images), 1, 1)
    maps[:, :, 2] = -2 * shifts  # in affine_grid's coordinates a side is 2 long
    places = F.affine_grid(maps, list(images.shape), align_corners=False)
    there = F.grid_sample(objects.float(), places, align_corners=False)
    return (
        there * F.grid_sample(images.float(), places, padding_mode="border", align_corners=False)
        + (1 - there) * grounds
    )


def redrawer_adversarial(scores: Float[Tensor, "m 1"], kind: str) -> Float[Tensor, ""]:
    """What generators and mask extractor minimise: fakes should score as real."""
    return -scores.mean() if kind == "hinge" else F.softplus(-scores).mean()


def discriminator_adversarial(
    real: Float[Tensor, "b 1"], fake: Float[Tensor, "m 1"], kind: str
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """What the discriminator minimises, for real pictures and for fakes."""
    if kind == "hinge":
        return F.relu(1 - real).mean(), F.relu(1 + fake).mean()
    return F.softplus(-real).mean(), F.softplus(fake).mean()


def gradient_penalty(scores: Float[Tensor, "b 1"], images: Float[Tensor, "m 3 h w"]) -> Float[Tensor, ""]:
    """Half the squared gradient of scores of the first b images, their mean (R1; Mescheder et al., ICML 2018)."""
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient[: len(scores)].float().square().sum((1, 2, 3)).mean() / 2


def missing_share(masks: Float[Tensor, "b n h w"], floor: float) -> Float[Tensor, ""]:
    """How much each region's share of each picture falls short of `floor`, in floors; 0 when none does."""
    return F.relu(1 - masks.mean((2, 3)) / max(floor, 1e-6)).mean()


def off_centre(masks: Float[Tensor, "b n h w"]) -> Float[Tensor, ""]:
    """Mean squared difference of region 0 from a soft centred disc over a third of the picture."""
    height, width = masks.shape[-2:]
    y = (torch.arange(height, device=masks.device) + 0.5) / height * 2 - 1
    x = (torch.arange(width, device=masks.device) + 0.5) / width * 2 - 1
    disc = torch.sigmoid((0.6 - torch.hypot(y[:, None], x[None])) * 8)
    return (masks[:, 0] - disc).square().mean()


def border_share(masks: Float[Tensor, "b n h w"]) -> Float[Tensor, ""]:
    """Mean of region 0 over the outer eighth of the picture on every side: 0 where it keeps off the border."""
    height, width = masks.shape[-2:]
    border = masks.new_ones(height, width)
    border[height // 8 : height - height // 8, width // 8 : width - width // 8] = 0
    return (masks[:, 0] * border).sum((1, 2)).mean() / border.sum()


def greyness(masks: Float[Tensor, "b n h w"]) -> Float[Tensor, ""]:
    """Mean of M (1 - M): 0 for binary masks, 1/4 for two even grey ones."""
    return (masks * (1 - masks)).mean()


@torch.no_grad()
def whitening(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "3 3"]:
    """The map that makes the colours of these pictures equally spread in every direction, at their mean spread.

    In photographs light and dark differ most by far; whitened, a change of hue counts as much as one of light.
    """
    spread, directions = torch.linalg.eigh(images.transpose(0, 1).flatten(1).cpu().double().cov())
    spread = spread.clamp_min(1e-4 * spread.sum().clamp_min(1e-6))
    return (directions * (spread.mean() / spread).sqrt() @ directions.T).to(images)


def region_error(
    images: Float[Tensor, "b 3 h w"],
    drawings: Float[Tensor, "b n 3 h w"],
    masks: Float[Tensor, "b n h w"],
    colours: Float[Tensor, "3 3"] | None = None,
) -> Float[Tensor, ""]:
    """Mean absolute difference of picture and drawings, each pixel counted under its region's mask.

    `colours` is a linear map of colour differences, such as `whitening` gives; None compares plain colours.

    Linear in the masks, so a pixel is better given wholly to the region that draws it better than blended: a
    soft mask cannot carry the picture's own grey levels.
    """
    difference = drawings - images.unsqueeze(1)  # b n 3 h w
    if colours is not None:
        mapped = [(difference * row[:, None, None]).sum(2) for row in colours]
        difference = torch.stack(mapped, 2)
    error = difference.abs().mean(2)  # b n h w
    return (masks * error).sum(1).mean()
