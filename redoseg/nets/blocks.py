"""Building blocks that the four networks share (Chen, Artieres, Denoyer 2019, appendix)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from redoseg.config.schema import NetConfig

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {
    "relu": F.relu,
    "leaky": lambda x: F.leaky_relu(x, 0.2),
    "elu": F.elu,
}


def initialise(module: nn.Module, gain: float) -> None:
    """Orthogonal weights for every convolution and linear map below `module`; biases keep PyTorch's default."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(layer.weight, gain)


def summed_over_2x2(weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "o i 4 4"]:
    """Sums of a 3x3 weight over each square of 2x2, beyond its edges too: what equal neighbours add up to."""
    weight = F.pad(weight, (1, 1, 1, 1))
    weight = weight[:, :, 1:] + weight[:, :, :-1]
    return weight[..., 1:] + weight[..., :-1]


class UpsampledConv(nn.Conv2d):
    """Nearest upsampling by 2, then a 3x3 convolution with padding 1.

    `rewritten` makes one transposed convolution of both: the same sums with 4 products for 9, and no upsampled copy.
    """

    rewritten = True

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=bias)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        if not self.rewritten:
            return super().forward(F.interpolate(x, scale_factor=2, mode="nearest"))
        kernel = summed_over_2x2(self.weight).flip(2, 3).transpose(0, 1)
        return F.conv_transpose2d(x, kernel, self.bias, stride=2, padding=1)


class PooledConv(nn.Conv2d):
    """A 3x3 convolution with padding 1, then the means over squares of 2x2.

    `rewritten` makes one convolution of stride 2 of both: 4 products for 9, and nothing at full size.
    """

    rewritten = True

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=bias)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        if not self.rewritten:
            return F.avg_pool2d(super().forward(x), 2)
        return F.conv2d(x, summed_over_2x2(self.weight) / 4, self.bias, stride=2, padding=1)


class RowsConv(nn.Conv2d):
    """A convolution with a large square kernel to few channels, its input padded before.

    `rewritten` makes one of 1 x k kernels of it, each row of the kernel a channel of its own, and sums those shifted
    by a row each: libraries are slow where there are many products for each of few outputs.
    """

    rewritten = True

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        if not self.rewritten:
            return super().forward(x)
        outputs, inputs, side, _ = self.weight.shape
        rows = self.weight.permute(2, 0, 1, 3).reshape(side * outputs, inputs, 1, side)
        parts = torch.split(F.conv2d(x, rows).float(), outputs, 1)  # summed in float32
        height = x.shape[-2] - side + 1
        total = torch.stack([part[:, :, row : row + height] for row, part in enumerate(parts)]).sum(0)
        return total if self.bias is None else total + self.bias[:, None, None]


def cat_channels(parts: Sequence[Float[Tensor, "b _ h w"]]) -> Float[Tensor, "b c h w"]:
    """The parts' channels together, in the memory layout of the first; `torch.cat` may take another's."""
    if parts[0].is_contiguous(memory_format=torch.channels_last):
        return torch.cat([part.movedim(1, -1) for part in parts], -1).movedim(-1, 1)
    return torch.cat(list(parts), 1)


class LayerMaker:
    """Makes the layers of one network under the initialisation and spectral norm that the settings ask for.

    Initialising after spectral norm would write into a stale copy of the weight and be lost, so each layer is
    initialised here, before it is normed.
    """

    def __init__(self, config: NetConfig) -> None:
        self.config = config
        self.normed = config.spectral_norm

    def conv(self, inputs: int, outputs: int, kernel: int, bias: bool = True) -> nn.Module:
        """A convolution that keeps the picture's size."""
        return self._made(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias))

    def upsampled_conv(self, inputs: int, outputs: int, bias: bool = True) -> nn.Module:
        """A 3x3 convolution that doubles the side first."""
        return self._made(UpsampledConv(inputs, outputs, bias))

    def pooled_conv(self, inputs: int, outputs: int, bias: bool = True) -> nn.Module:
        """A 3x3 convolution that halves the side afterwards."""
        return self._made(PooledConv(inputs, outputs, bias))

    def _made(self, layer: nn.Conv2d) -> nn.Module:
        if self.config.initialisation == "everywhere" or (
            self.config.initialisation == "as-published" and not self.normed
        ):
            initialise(layer, self.config.initialisation_gain)
        return parametrizations.spectral_norm(layer) if self.normed else layer

    def linear(self, inputs: int, outputs: int) -> nn.Linear:
        """A linear map with bias, never spectrally normed."""
        layer = nn.Linear(inputs, outputs)
        if self.config.initialisation != "default":
            initialise(layer, self.config.initialisation_gain)
        return layer


def block_widths(size: int, width: int) -> list[int]:
    """Channels of the blocks from `size` / 2 pixels down to 4, doubling from `width` to a cap of 16 times it."""
    return [width * min(2**level, 16) for level in range(int(math.log2(size // 4)))]


def attention_side(size: int) -> int:
    """Side at which self-attention stands: 64 where a block's output has it, else half the picture's side."""
    return min(64, size // 2)


class SelfAttention(nn.Module):
    """SAGAN's self-attention: no scaling of the logits, a learnt weight that starts at 0, spectral norm."""

    def __init__(self, make: LayerMaker, channels: int) -> None:
        super().__init__()
        self.query = make.conv(channels, max(channels // 8, 1), 1, bias=False)
        self.key = make.conv(channels, max(channels // 8, 1), 1, bias=False)
        self.value = make.conv(channels, max(channels // 2, 1), 1, bias=False)
        self.out = make.conv(max(channels // 2, 1), channels, 1, bias=False)
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        b, _, h, w = x.shape
        query = self.query(x).flatten(2).transpose(1, 2)  # b hw c/8
        key = F.max_pool2d(self.key(x), 2).flatten(2).transpose(1, 2)  # b hw/4 c/8
        value = F.max_pool2d(self.value(x), 2).flatten(2).transpose(1, 2)  # b hw/4 c/2
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        attended = attended.transpose(1, 2).reshape(b, -1, h, w)
        return x + self.weight * self.out(attended)


class ConditionalNorm(nn.Module):
    """Norm without affine, then a scale and a shift that are linear maps of z (the scale is the map itself)."""

    def __init__(self, make: LayerMaker, channels: int, latent: int) -> None:
        super().__init__()
        norm = nn.InstanceNorm2d if make.config.norm == "instance" else nn.BatchNorm2d
        self.norm = norm(channels, affine=False)
        self.scale = make.linear(latent, channels)
        self.shift = make.linear(latent, channels)

    def forward(self, x: Float[Tensor, "b c h w"], z: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        return torch.addcmul(self.shift(z)[..., None, None], self.norm(x), self.scale(z)[..., None, None])


class UpBlock(nn.Module):
    """Up residual block of a region generator: doubles the side, sees the mask at its input's size."""

    def __init__(self, make: LayerMaker, inputs: int, outputs: int, latent: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[make.config.activation]
        self.norm1 = ConditionalNorm(make, inputs, latent)
        self.smooth = make.config.upsampling == "bilinear"
        if self.smooth:
            self.conv1 = make.conv(inputs + 1, outputs, 3, bias=False)
        else:
            self.conv1 = make.upsampled_conv(inputs + 1, outputs, bias=False)
        self.norm2 = ConditionalNorm(make, outputs, latent)
        self.conv2 = make.conv(outputs, outputs, 3)
        self.shortcut = make.conv(inputs, outputs, 1)

    def forward(
        self, x: Float[Tensor, "b c h w"], z: Float[Tensor, "b d"], mask: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, "b o h2 w2"]:
        inner = cat_channels([self.activation(self.norm1(x, z)), mask])
        inner = self.conv1(self.doubled(inner) if self.smooth else inner)
        inner = self.conv2(self.activation(self.norm2(inner, z)))
        # a 1x1 convolution and upsampling commute; this order costs a quarter
        return inner + self.doubled(self.shortcut(x))

    def doubled(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Twice the side."""
        if self.smooth:
            return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return F.interpolate(x, scale_factor=2, mode="nearest")


class DownBlock(nn.Module):
    """Down residual block: halves the side. The shortcut takes the input before the activation and pools first."""

    def __init__(self, make: LayerMaker, inputs: int, outputs: int, first: bool = False) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[make.config.activation]
        self.first = first
        self.conv1 = make.conv(inputs, outputs, 3)
        self.conv2 = make.pooled_conv(outputs, outputs)
        self.shortcut = make.conv(inputs, outputs, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h2 w2"]:
        inner = self.conv1(x if self.first else self.activation(x))
        return self.conv2(self.activation(inner)) + self.shortcut(F.avg_pool2d(x, 2))


class FlatBlock(nn.Module):
    """Residual block without pooling, with an identity shortcut."""

    def __init__(self, make: LayerMaker, channels: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[make.config.activation]
        self.conv1 = make.conv(channels, channels, 3)
        self.conv2 = make.conv(channels, channels, 3)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.conv2(self.activation(self.conv1(self.activation(x))))
