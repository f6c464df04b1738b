"""Masks cut again by what a network says, each picture's own colours and its edges: a mean field, many at a time.

GrabCut takes a mask and then only colours. Here the network's probability stays a term of its own (Kraehenbuehl and
Koltun, NeurIPS 2011, with neighbours near by in place of all pixels), so that a picture whose object and ground share a
colour keeps what the network has learnt. From one constant mask for all pictures GrabCut is much better
(docs/architecture.md).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

CLUSTERS = 32  # of colours and places of each picture, whose shares of object and ground are learnt
PLACE = 0.3  # half a picture's side beside a lightness from black to white, in the distances of clusters
NETWORK, COLOUR, NEIGHBOURS = 0.5, 1.0, 6.0  # weights of the three terms; chosen on dev horses: docs/architecture.md
CERTAIN = 0.98  # the most that the network is believed
STRONGEST = 4.0  # the most that a colour speaks for either side [log ratio]
REACH = (1, 3)  # distances of neighbours, in eight directions [pixels]
LEARNINGS, SWEEPS = 5, 4  # of the clusters' shares; of the field after each


def mean_field(images: UInt8[Tensor, "b h w 3"], network: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Probability of the object, from that which a network gives."""
    colours = lab(images)
    similar = _similarity(colours)
    members = _clusters(colours)
    network = network.float().clamp(1 - CERTAIN, CERTAIN)
    found, said = network, NETWORK * torch.logit(network)
    for _ in range(LEARNINGS):
        inside = found.flatten(1)[..., None]
        shares = [(members * side).sum(1) for side in (inside, 1 - inside)]
        here = [(members @ (s / s.sum(1, keepdim=True) + 1e-3 / CLUSTERS)[..., None]).view_as(found) for s in shares]
        coloured = (here[0].log() - here[1].log()).clamp(-STRONGEST, STRONGEST)
        for _ in range(SWEEPS):
            around = sum(
                near * weight for near, weight in zip(_neighbours(2 * found[:, None] - 1), similar, strict=True)
            )
            assert isinstance(around, Tensor)
            found = torch.sigmoid(said + COLOUR * coloured + NEIGHBOURS * around[:, 0])
    return found


def lab(images: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """CIELAB of sRGB images for white D65; lightness runs from 0 to 1 and the other two in the same unit."""
    signal = images.permute(0, 3, 1, 2).float() / 255
    linear = torch.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    to_xyz = linear.new_tensor(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = torch.einsum("xc,bchw->bxhw", to_xyz / to_xyz.sum(1, keepdim=True), linear)
    root = torch.where(xyz > (6 / 29) ** 3, xyz.clamp_min(1e-9) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = root.unbind(1)
    return torch.stack([1.16 * y - 0.16, 5 * (x - y), 2 * (y - z)], 1)


def _neighbours(field: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b c h w"]]:
    """The field as each neighbour of a pixel has it; beyond the border it is what it is there."""
    most, (height, width) = max(REACH), field.shape[-2:]
    padded = F.pad(field, (most,) * 4, mode="replicate")
    steps = [(y * reach, x * reach) for reach in REACH for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    return [padded[..., most + y : most + y + height, most + x : most + x + width] for y, x in steps]


def _similarity(colours: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b 1 h w"]]:
    """Weights of the neighbours, which sum to one where all look like the pixel."""
    apart = [(near - colours).square().sum(1, keepdim=True) for near in _neighbours(colours)]
    typical = torch.stack(apart).mean((0, 2, 3, 4))[:, None, None, None]
    return [torch.exp(-d / (2 * typical + 1e-6)) / len(apart) for d in apart]


def _clusters(colours: Float[Tensor, "b 3 h w"], rounds: int = 6) -> Float[Tensor, "b p k"]:
    """How far each pixel belongs to each cluster of colours and places (k-means, then shares by distance)."""
    _, _, height, width = colours.shape
    y, x = torch.linspace(-PLACE, PLACE, height), torch.linspace(-PLACE, PLACE, width)
    places = torch.stack(torch.meshgrid(y, x, indexing="ij")).to(colours).expand(len(colours), -1, -1, -1)
    points = torch.cat([colours, places], 1).flatten(2).transpose(1, 2)
    chosen = torch.randperm(height * width, generator=torch.Generator().manual_seed(0))[:CLUSTERS]
    centres = points[:, chosen.to(points.device)]
    for _ in range(rounds):
        nearest = F.one_hot(torch.cdist(points, centres).argmin(-1), centres.shape[1]).to(points)
        counts = nearest.sum(1)[..., None]
        centres = torch.where(counts > 0, nearest.transpose(1, 2) @ points / counts.clamp_min(1), centres)
    apart = torch.cdist(points, centres).square()
    typical = apart.amin(-1).mean(1)[:, None, None].clamp_min(1e-5)
    return torch.softmax(-apart / (2 * typical), -1)
