"""The trunk that discriminator D and latent encoder delta share (Chen, Artieres, Denoyer 2019, appendix)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from redoseg.config.schema import NetConfig
from redoseg.nets.blocks import DownBlock, FlatBlock, LayerMaker, SelfAttention, attention_side, block_widths


class ImageEncoder(nn.Module):
    """Pictures (b, 3, size, size) -> `outputs` numbers each, without activation."""

    def __init__(self, config: NetConfig, size: int, width: int, outputs: int, attention: bool) -> None:
        super().__init__()
        make = LayerMaker(config)
        widths = block_widths(size, width)
        self.blocks = nn.Sequential()
        side = size
        for level, (i, o) in enumerate(zip([3, *widths[:-1]], widths, strict=True)):
            self.blocks.append(DownBlock(make, i, o, first=level == 0))
            side //= 2
            if attention and side == attention_side(size):
                self.blocks.append(SelfAttention(make, o))
        self.blocks.append(FlatBlock(make, widths[-1]))
        self.linear = make.linear(widths[-1], outputs)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b o"]:
        return self.linear(self.blocks(images).sum((2, 3))).float()


def discriminator(config: NetConfig, size: int) -> ImageEncoder:
    """D: one raw score a picture."""
    return ImageEncoder(config, size, config.discriminator_width, 1, config.discriminator_attention)


def latent_encoder(config: NetConfig, size: int) -> ImageEncoder:
    """delta: n times `latent` numbers a picture; never with attention."""
    return ImageEncoder(config, size, config.encoder_width, config.regions * config.latent, attention=False)
