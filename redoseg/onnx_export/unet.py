"""Trained U-Net -> mask.onnx, operator by operator, as mask_extractor.py does it for the paper's network."""

from __future__ import annotations

import onnx
import torch
from torch import nn

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


def _normed(graph: Graph, x: str, layer: nn.Module) -> str:
    conv, norm, _ = layer.children()
    assert isinstance(conv, nn.Conv2d)
    (side, _), (stride, _) = conv.kernel_size, conv.stride
    return graph.norm_relu(graph.conv(x, conv.weight, conv.bias, stride, side // 2), norm)
