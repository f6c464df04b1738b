"""Trained U-Net <-> mask.onnx, operator by operator, as mask_extractor.py does it for the paper's network."""

from __future__ import annotations

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from redoseg.nets.mask_extractor import ResidualBlock
from redoseg.nets.unet import UNet
from redoseg.onnx_export.graph import Graph


def unet_graph(net: UNet, size: int) -> onnx.GraphProto:
    """The graph of `net` for pictures of `size` [pixels]."""
    graph = Graph()
    x = _normed(graph, "picture", net.stem)
    levels = [x]
    for number, down in enumerate(net.down):
        x = _normed(graph, levels[-1], down)
        if number:
            block = net.blocks[number - 1]
            assert isinstance(block, ResidualBlock)
            x = graph.residual(x, block)
        levels.append(x)

    x = levels.pop()
    whole = graph.add("GlobalAveragePool", x)
    x = graph.add("Add", x, graph.add("Relu", graph.conv(whole, net.context.weight, net.context.bias)))
    twice = graph.constant(torch.tensor([1.0, 1.0, 2.0, 2.0]))
    for up in net.up:
        x = graph.add("Resize", x, "", twice, mode="linear", coordinate_transformation_mode="half_pixel")
        x = _normed(graph, graph.add("Concat", x, levels.pop(), axis=1), up)
    return graph.masks(graph.conv(x, net.head.weight, net.head.bias, padding=1), size, net.regions)


def unet_tensors(graph: onnx.GraphProto, net: UNet) -> dict[str, Tensor]:
    """The weights in a `graph` that `unet_graph` wrote of a net like `net`, whose own are lost.

    Raises ValueError where the graph is that of another network.
    """
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_()  # no two are equal, so that the graph of this net shows where each is written
    like = unet_graph(net, 16)
    shapes = [[list(constant.dims) for constant in g.initializer] for g in (like, graph)]
    if shapes[0] != shapes[1]:
        raise ValueError("the graph is not of this U-Net")
    found: dict[str, Tensor] = {}
    for mine, theirs in zip(like.initializer, graph.initializer, strict=True):
        value = torch.from_numpy(numpy_helper.to_array(mine).copy())
        for name, parameter in net.named_parameters():
            if parameter.shape == value.shape and parameter.equal(value):
                found[name] = torch.from_numpy(numpy_helper.to_array(theirs).copy())
    return found


def _normed(graph: Graph, x: str, layer: nn.Module) -> str:
    conv, norm, _ = layer.children()
    assert isinstance(conv, nn.Conv2d)
    (side, _), (stride, _) = conv.kernel_size, conv.stride
    return graph.norm_relu(graph.conv(x, conv.weight, conv.bias, stride, side // 2), norm)
