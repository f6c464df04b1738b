"""Trained mask extractor -> mask.onnx, which `redoseg.inference.segmenter` and any ONNX runtime can use.

The graph is written operator by operator rather than traced, because three layers are much quicker in a form that
gives the same numbers: nearest x2 with the convolution after it is one at the lower resolution; the last convolution,
of one channel or few, works on blocks of pixels as channels; a level of the pyramid is a product with two matrices.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import nn

from redoseg.config.schema import Config
from redoseg.files import write_atomic
from redoseg.nets.blocks import UpsampledConv
from redoseg.nets.mask_extractor import MaskExtractor, PyramidPooling, ResidualBlock
from redoseg.nets.unet import UNet
from redoseg.onnx_export.graph import Graph, about, model_bytes
from redoseg.onnx_export.unet import unet_graph

BLOCK = 4  # side of the blocks that the last convolution works on [pixels]: 16 outputs, as wide as a vector register


def export_extractor(
    extractor: nn.Module, config: Config, path: Path, *, name: str, object_region: int, size: int = 0
) -> None:
    """Write `extractor` as ONNX: `picture` (batch, 3, S, S) -> `masks` (batch, n, S, S), both float32.

    S is `size`, or that of the settings' pictures where it is 0.
    """
    size = size or config.data.size
    if isinstance(extractor, UNet):
        graph = unet_graph(extractor, size)
    else:
        assert isinstance(extractor, MaskExtractor)
        graph = _extractor_graph(extractor, size, config.nets.regions)
    write_atomic(path, model_bytes(graph, about(config, name, object_region) | {"size": str(size)}))


def _extractor_graph(extractor: MaskExtractor, size: int, regions: int) -> onnx.GraphProto:
    graph = Graph()
    first, second, third, *blocks, pyramid = extractor.down

    x = graph.reflect("picture", 3, 3)
    for layer, stride, padding in ((first, 1, 0), (second, 2, 1), (third, 2, 1)):
        conv, norm, _ = layer.children()
        assert isinstance(conv, nn.Conv2d)
        x = graph.norm_relu(graph.conv(x, conv.weight, conv.bias, stride, padding), norm)

    for block in blocks:
        assert isinstance(block, ResidualBlock)
        x = graph.residual(x, block)

    assert isinstance(pyramid, PyramidPooling)
    side = size // 4
    x = graph.add("Concat", x, _pyramid_levels(graph, x, pyramid, side), axis=1)

    for layer in extractor.up:
        conv, norm, _ = layer.children()
        assert isinstance(conv, UpsampledConv)
        side *= 2
        x = graph.norm_relu(_upsampled_conv(graph, x, conv, side), norm)

    return graph.masks(_head(graph, x, extractor.head, size), size, regions)


def _pyramid_levels(graph: Graph, x: str, pyramid: PyramidPooling, side: int) -> str:
    """(b, c, side, side) -> (b, 4, side, side). Pooling and enlarging act alike on rows and columns: A x A^T.

    The 1x1 convolution may come first, since every row of A sums to one.
    """
    single = PyramidPooling(1)
    for name, parameter in single.named_parameters():
        nn.init.constant_(parameter, 1.0 if name.endswith("weight") else 0.0)
    rows = torch.eye(side)[:, None, :, None].expand(side, 1, side, side)  # picture i has ones in row i
    with torch.no_grad():
        matrices = single(rows)[:, 1:, :, 0].permute(1, 2, 0)  # (level, row after, row before)
    weight, bias = (torch.cat([level.get_parameter(name) for level in pyramid.maps]) for name in ("weight", "bias"))
    levels = graph.add("MatMul", graph.constant(matrices), graph.conv(x, weight, bias))
    return graph.add("MatMul", levels, graph.constant(matrices.transpose(1, 2)))


def _upsampled_conv(graph: Graph, x: str, conv: nn.Conv2d, side: int) -> str:
    """Nearest x2, then a 3x3 convolution with padding 1: (b, c, side / 2, side / 2) -> (b, o, side, side).

    Of three enlarged pixels in a row two are copies of one, so that a 2x2 convolution before enlarging sees all there
    is, with one output for each of four places. Its window k gives the enlarged rows 2k - 1 and 2k, which is one row
    too many at each end.
    """
    assert conv.bias is not None
    copies = torch.tensor([[[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]])  # place, pixel, tap
    weight = torch.einsum("apr,bqc,oirc->aboipq", copies, copies, conv.weight.detach().cpu().float())
    x = graph.conv(x, weight.flatten(0, 2), conv.bias.repeat(4), padding=1)
    x = graph.add("DepthToSpace", x, blocksize=2)
    return graph.add("Slice", x, *map(graph.constant, ([1, 1], [side + 1, side + 1], [2, 3])))


def _head(graph: Graph, x: str, conv: nn.Conv2d, size: int) -> str:
    """The 7x7 convolution with reflection padding, (b, c, S, S) -> logits (b, n, S, S), on blocks of pixels.

    With a block's pixels as channels, c * 16 in and n * 16 out, a 3x3 convolution sees all that a block needs.
    """
    assert conv.bias is not None
    outputs, channels, kernel, _ = conv.weight.shape
    seen = -(-(BLOCK + kernel - 1) // BLOCK)  # blocks in a row that a block of outputs sees
    weight = conv.weight.new_zeros(outputs, BLOCK, BLOCK, channels, seen * BLOCK, seen * BLOCK)
    for row in range(BLOCK):
        for column in range(BLOCK):
            weight[:, row, column, :, row : row + kernel, column : column + kernel] = conv.weight.detach()
    weight = weight.reshape(outputs * BLOCK**2, channels, seen, BLOCK, seen, BLOCK)
    weight = weight.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)  # SpaceToDepth's order: place in the block, then channel

    before = kernel // 2
    x = graph.reflect(x, before, (seen - 1) * BLOCK - before)  # more than the kernel sees, to whole blocks
    x = graph.add("SpaceToDepth", x, blocksize=BLOCK)
    x = graph.conv(x, weight, conv.bias.repeat_interleave(BLOCK**2))
    return _blocks_to_pixels(graph, x, outputs, size // BLOCK)


def _blocks_to_pixels(graph: Graph, x: str, channels: int, side: int) -> str:
    """(b, channels * BLOCK * BLOCK, side, side) -> (b, channels, BLOCK * side, BLOCK * side)."""
    x = graph.add("Reshape", x, graph.constant([0, channels, BLOCK, BLOCK, side, side]))
    x = graph.add("Transpose", x, perm=[0, 1, 4, 2, 5, 3])
    return graph.add("Reshape", x, graph.constant([0, channels, BLOCK * side, BLOCK * side]))
