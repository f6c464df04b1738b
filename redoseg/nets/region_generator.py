"""The region generator G_k: a latent and a mask -> a drawing of the region (Chen, Artieres, Denoyer 2019, appendix)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from redoseg.config.schema import NetConfig
from redoseg.nets.blocks import (
    ACTIVATIONS,
    ConditionalNorm,
    LayerMaker,
    SelfAttention,
    UpBlock,
    attention_side,
    block_widths,
    cat_channels,
)


class RegionGenerator(nn.Module):
    """Draws over the whole picture; the objective multiplies the drawing by its mask (`losses.compose`)."""

    def __init__(self, config: NetConfig, size: int, value_range: str = "signed") -> None:
        super().__init__()
        make = LayerMaker(config)
        outputs = block_widths(size, config.generator_width)[::-1]
        inputs = [outputs[0], *outputs[:-1]]
        self.start_width = inputs[0]
        self.linear = make.linear(config.latent, 16 * self.start_width)
        self.blocks = nn.ModuleList(UpBlock(make, i, o, config.latent) for i, o in zip(inputs, outputs, strict=True))
        self.attention_after = -1
        if config.generator_attention:
            self.attention_after = len(outputs) - 1 - (size // attention_side(size)).bit_length() + 1
            self.attention = SelfAttention(make, outputs[self.attention_after])
        self.norm = ConditionalNorm(make, outputs[-1], config.latent)
        self.activation = ACTIVATIONS[config.activation]
        self.out = make.conv(outputs[-1] + 1, 3, 3)
        self.unit = value_range == "unit"

    def forward(self, z: Float[Tensor, "b d"], mask: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Latents and soft masks -> drawings in the networks' value range, not yet cut to the mask."""
        x = self.linear(z).view(len(z), self.start_width, 4, 4)
        for index, block in enumerate(self.blocks):
            x = block(x, z, F.avg_pool2d(mask, mask.shape[-1] // x.shape[-1]))
            if index == self.attention_after:
                x = self.attention(x)
        drawing = self.out(cat_channels([self.activation(self.norm(x, z)), mask])).float()
        return drawing.sigmoid() if self.unit else drawing.tanh()
