"""The mask extractor f: picture -> n soft masks (Chen, Artieres, Denoyer 2019, appendix)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from redoseg.config.schema import NetConfig
from redoseg.nets.blocks import RowsConv, UpsampledConv, cat_channels, initialise

POOL_CELLS = (1, 2, 3, 6)


class ResidualBlock(nn.Module):
    """conv, instance norm, ReLU, conv, add; then instance norm, ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = nn.InstanceNorm2d(channels, affine=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        inner = self.conv2(F.relu(self.norm1(self.conv1(x))))
        return F.relu(self.norm2(x + inner))


class PyramidPooling(nn.Module):
    """Means over grids of 1, 2, 3 and 6 cells, one channel each, beside the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Conv2d(channels, 1, 1) for _ in POOL_CELLS)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c4 h w"]:
        h, w = x.shape[-2:]
        levels = [x]
        for cells, conv in zip(POOL_CELLS, self.maps, strict=True):
            kernel = (h // cells, w // cells)
            if min(kernel) >= 1 and h // kernel[0] == cells and w // kernel[1] == cells:
                pooled = F.avg_pool2d(x, kernel)  # the remainder at the far border is dropped
            else:
                pooled = F.adaptive_avg_pool2d(x, cells)
            levels.append(F.interpolate(conv(pooled), size=(h, w), mode="bilinear", align_corners=False))
        return cat_channels(levels)


class MaskExtractor(nn.Module):
    """Pictures (b, 3, h, w) in the networks' value range -> soft masks (b, n, h, w) that sum to one."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        width, self.regions = config.extractor_width, config.regions
        wide = 4 * width + len(POOL_CELLS)

        def normed(conv: nn.Conv2d) -> nn.Sequential:
            return nn.Sequential(conv, nn.InstanceNorm2d(conv.out_channels, affine=True), nn.ReLU(inplace=True))

        self.down = nn.Sequential(
            normed(nn.Conv2d(3, width, 7, padding=3, bias=False, padding_mode="reflect")),
            normed(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)),
            normed(nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1, bias=False)),
            *(ResidualBlock(4 * width) for _ in range(3)),
            PyramidPooling(4 * width),
        )
        up = [(wide, wide // 2), (wide // 2, wide // 4)]
        convs = [UpsampledConv(inputs, outputs) for inputs, outputs in up]
        # odd names, as in the files of runs made when upsampling was a layer of its own
        self.up = nn.Sequential(OrderedDict(zip(("1", "3"), map(normed, convs), strict=True)))
        logits = 1 if self.regions == 2 else self.regions
        self.head = RowsConv(wide // 4, logits, 7)
        if config.initialisation != "default":
            initialise(self, config.initialisation_gain)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n h w"]:
        features = F.pad(self.up(self.down(images)), (3, 3, 3, 3), mode="reflect")
        logits = self.head(features).float()
        if self.regions > 2:
            return logits.softmax(1)
        mask = logits.sigmoid()
        return torch.cat([mask, 1 - mask], 1)
