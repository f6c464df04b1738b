"""Generators and latent encoder -> redraw.onnx: what `redoseg redraw` draws with, without PyTorch.

One graph, written operator by operator. Inputs, all float32, of b pictures, n regions and d numbers a latent:

- `picture` (b, 3, S, S) in the range that the metadata name, `masks` (b, n, S, S) as mask.onnx gives them,
- `latents` (b, n, d), drawn from N(0, 1),
- `read` (b, n), 0 or 1: where 1, the region's latent is the one that the encoder reads off `picture`.

Outputs: `drawings` (b, n, 3, S, S), each over the whole picture and not cut to its mask, in the range of `picture`;
`latents_used` (b, n, d). Weights have the spectral norm in them and are stored as float16; computing is in float32.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from redoseg.config.schema import Config
from redoseg.files import write_atomic
from redoseg.nets.blocks import ConditionalNorm, DownBlock, FlatBlock, PooledConv, SelfAttention, UpBlock, UpsampledConv
from redoseg.nets.image_encoder import ImageEncoder
from redoseg.nets.region_generator import RegionGenerator
from redoseg.onnx_export.graph import Graph, about, model_bytes, tensor


def export_redrawer(
    generators: nn.Module,
    encoder: nn.Module,
    config: Config,
    path: Path,
    *,
    name: str,
    object_region: int,
    half: bool = True,
) -> None:
    """Write the `generators`, one a region, and the latent `encoder` as one ONNX file; neither is changed."""
    write_atomic(path, redrawer_bytes(generators, encoder, config, name=name, object_region=object_region, half=half))


def redrawer_bytes(
    generators: nn.Module, encoder: nn.Module, config: Config, *, name: str, object_region: int, half: bool = True
) -> bytes:
    """The content of redraw.onnx. `half` stores weights as float16."""
    size, n, d = config.data.size, config.nets.regions, config.nets.latent
    graph = _Redrawer(config, half)

    read = graph.image_encoder("picture", evaluating(encoder))
    read = graph.add("Reshape", read, graph.constant([-1, n, d]))
    chosen = graph.add("Unsqueeze", "read", graph.constant([2]))
    given = graph.add("Mul", graph.add("Sub", graph.constant(torch.ones(1)), chosen), "latents")
    latents = graph.add("Add", graph.add("Mul", chosen, read), given, output="latents_used")

    drawings = []
    for region, generator in enumerate(evaluating(generators).children()):
        assert isinstance(generator, RegionGenerator)
        bounds = [graph.constant([place]) for place in (region, region + 1, 1)]
        mask = graph.add("Slice", "masks", *bounds)
        latent = graph.add("Reshape", graph.add("Slice", latents, *bounds), graph.constant([-1, d]))
        drawing = graph.region_generator(latent, mask, generator)
        drawings.append(graph.add("Unsqueeze", drawing, graph.constant([1])))
    graph.add("Concat", *drawings, output="drawings", axis=1)

    inputs = [
        tensor("picture", 3, size, size),
        tensor("masks", n, size, size),
        tensor("latents", n, d),
        tensor("read", n),
    ]
    outputs = [tensor("drawings", n, 3, size, size), tensor("latents_used", n, d)]
    metadata = about(config, name, object_region) | {"latent": str(d)}
    return model_bytes(graph.closed("redrawer", inputs, outputs), metadata)


def evaluating(net: nn.Module) -> nn.Module:
    """A copy on the CPU in eval mode, where a weight with spectral norm is read without changing anything."""
    return copy.deepcopy(net).cpu().float().eval()


class _Redrawer(Graph):
    """The networks' blocks, as `redoseg.nets` has them; in eval mode a layer's `weight` has the spectral norm in it."""

    def __init__(self, config: Config, half: bool) -> None:
        super().__init__(half)
        self.config = config

    def activation(self, x: str) -> str:
        kind = self.config.nets.activation
        if kind == "leaky":
            return self.add("LeakyRelu", x, alpha=0.2)
        return self.add("Elu", x, alpha=1.0) if kind == "elu" else self.add("Relu", x)

    def layer(self, x: str, conv: nn.Module) -> str:
        """A convolution, with the doubling before it or the halving after it that its class stands for."""
        assert isinstance(conv, nn.Conv2d)
        if isinstance(conv, UpsampledConv):
            x = self.doubled(x)
        x = self.conv(x, conv.weight, conv.bias, padding=conv.kernel_size[0] // 2)
        return self.pooled(x, 2) if isinstance(conv, PooledConv) else x

    def doubled(self, x: str) -> str:
        """Nearest x2."""
        scales = self.constant(torch.tensor([1.0, 1.0, 2.0, 2.0]))
        return self.add(
            "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )

    def doubled_smoothly(self, x: str) -> str:
        """Bilinear x2."""
        scales = self.constant(torch.tensor([1.0, 1.0, 2.0, 2.0]))
        return self.add("Resize", x, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")

    def pooled(self, x: str, side: int) -> str:
        """Means over squares of `side`."""
        return self.add("AveragePool", x, kernel_shape=[side] * 2, strides=[side] * 2)

    def per_channel(self, values: str) -> str:
        """(b, c) -> (b, c, 1, 1)."""
        return self.add("Unsqueeze", values, self.constant([2, 3]))

    def conditional_norm(self, x: str, z: str, block: ConditionalNorm) -> str:
        norm, ones = block.norm, torch.ones(block.scale.out_features)
        one, zero = self.constant(ones), self.constant(0 * ones)
        if isinstance(norm, nn.BatchNorm2d):
            assert isinstance(norm.running_mean, Tensor)
            assert isinstance(norm.running_var, Tensor)
            statistics = [self.constant(s) for s in (norm.running_mean, norm.running_var)]
            x = self.add("BatchNormalization", x, one, zero, *statistics, epsilon=norm.eps)
        else:
            x = self.add("InstanceNormalization", x, one, zero, epsilon=norm.eps)
        scale, shift = (self.per_channel(self.linear(z, layer)) for layer in (block.scale, block.shift))
        return self.add("Add", self.add("Mul", x, scale), shift)

    def up_block(self, x: str, z: str, mask: str, block: UpBlock) -> str:
        inner = self.add("Concat", self.activation(self.conditional_norm(x, z, block.norm1)), mask, axis=1)
        doubled = self.doubled_smoothly if block.smooth else self.doubled
        inner = self.layer(doubled(inner) if block.smooth else inner, block.conv1)
        inner = self.layer(self.activation(self.conditional_norm(inner, z, block.norm2)), block.conv2)
        return self.add("Add", inner, doubled(self.layer(x, block.shortcut)))

    def attention(self, x: str, block: SelfAttention, side: int) -> str:
        def places(values: str, conv: nn.Module) -> str:
            assert isinstance(conv, nn.Conv2d)
            return self.add("Reshape", values, self.constant([0, conv.out_channels, -1]))

        def fewer(values: str) -> str:
            return self.add("MaxPool", values, kernel_shape=[2, 2], strides=[2, 2])

        query = self.add("Transpose", places(self.layer(x, block.query), block.query), perm=[0, 2, 1])
        key = places(fewer(self.layer(x, block.key)), block.key)
        value = places(fewer(self.layer(x, block.value)), block.value)
        weights = self.add("Softmax", self.add("MatMul", query, key), axis=-1)
        attended = self.add("MatMul", value, self.add("Transpose", weights, perm=[0, 2, 1]))
        attended = self.add("Reshape", attended, self.constant([0, 0, side, side]))
        return self.add("Add", x, self.add("Mul", self.constant(block.weight[None]), self.layer(attended, block.out)))

    def region_generator(self, z: str, mask: str, generator: RegionGenerator) -> str:
        """Latents (b, d) and masks (b, 1, S, S) -> drawings (b, 3, S, S)."""
        size, side = self.config.data.size, 4
        x = self.add("Reshape", self.linear(z, generator.linear), self.constant([-1, generator.start_width, 4, 4]))
        for index, block in enumerate(generator.blocks):
            assert isinstance(block, UpBlock)
            x = self.up_block(x, z, self.pooled(mask, size // side), block)
            side *= 2
            if index == generator.attention_after:
                x = self.attention(x, generator.attention, side)
        x = self.activation(self.conditional_norm(x, z, generator.norm))
        drawing = self.layer(self.add("Concat", x, mask, axis=1), generator.out)
        return self.add("Sigmoid" if generator.unit else "Tanh", drawing)

    def image_encoder(self, x: str, encoder: nn.Module) -> str:
        """Pictures (b, 3, S, S) -> (b, outputs)."""
        assert isinstance(encoder, ImageEncoder)
        for block in encoder.blocks:
            if isinstance(block, DownBlock):
                inner = self.layer(x if block.first else self.activation(x), block.conv1)
                inner = self.layer(self.activation(inner), block.conv2)
                x = self.add("Add", inner, self.layer(self.pooled(x, 2), block.shortcut))
            else:  # the latent encoder never has attention
                assert isinstance(block, FlatBlock)
                inner = self.layer(self.activation(self.layer(self.activation(x), block.conv1)), block.conv2)
                x = self.add("Add", x, inner)
        return self.linear(self.add("ReduceSum", x, self.constant([2, 3]), keepdims=0), encoder.linear)
