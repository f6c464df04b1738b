"""A student of the second stage that keeps fine edges: a small U-Net (Ronneberger, Fischer and Brox, MICCAI 2015).

The paper's extractor decides at a quarter of the picture's side and enlarges from there: wing tips, beaks and legs are
lost. Here every level hands its features over to the level of the same size on the way back.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from redoseg.config.schema import Config, NetConfig
from redoseg.nets.blocks import cat_channels
from redoseg.nets.mask_extractor import MaskExtractor, ResidualBlock

LEVELS = (1, 2, 4, 6, 8)  # channels of each level, in widths; each has half the side of the one before


def first_extractor(nets: NetConfig) -> MaskExtractor | UNet:
    """The network that the first stage trains, beside generators and discriminator."""
    return UNet(nets.extractor_width, nets.regions) if nets.extractor == "unet" else MaskExtractor(nets)


def student_extractor(config: Config) -> MaskExtractor | UNet:
    """The network that the second stage of a run of these settings trains."""
    if config.refine.student == "unet":
        return UNet(config.refine.student_width, config.nets.regions)
    return MaskExtractor(config.nets)


class UNet(nn.Module):
    """Pictures (b, 3, h, w) -> soft masks (b, n, h, w) that sum to one; h and w are multiples of 16."""

    def __init__(self, width: int, regions: int) -> None:
        super().__init__()
        self.regions = regions
        channels = [width * level for level in LEVELS]
        steps = list(pairwise(channels))

        def normed(inputs: int, outputs: int, side: int = 3, stride: int = 1) -> nn.Sequential:
            conv = nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)
            return nn.Sequential(conv, nn.InstanceNorm2d(outputs, affine=True), nn.ReLU(inplace=True))

        self.stem = normed(3, channels[0], side=5)
        self.down = nn.ModuleList(normed(*step, stride=2) for step in steps)
        self.blocks = nn.ModuleList(ResidualBlock(outputs) for _, outputs in steps[1:])  # none at the largest sides
        self.context = nn.Conv2d(channels[-1], channels[-1], 1)
        self.up = nn.ModuleList(normed(below + here, here) for here, below in reversed(steps))
        self.head = nn.Conv2d(width, 1 if regions == 2 else regions, 3, padding=1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n h w"]:
        levels = [self.stem(images)]
        for number, down in enumerate(self.down):
            x = down(levels[-1])
            levels.append(self.blocks[number - 1](x) if number else x)
        x = levels.pop()
        x = x + F.relu(self.context(x.mean((2, 3), keepdim=True)))  # what the whole picture shows
        for up in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = up(cat_channels([x, levels.pop()]))
        logits = self.head(x).float()
        if self.regions > 2:
            return logits.softmax(1)
        mask = logits.sigmoid()
        return torch.cat([mask, 1 - mask], 1)
