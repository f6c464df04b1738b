"""ONNX written operator by operator: what every exported graph shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from redoseg.config.schema import Config
from redoseg.nets.mask_extractor import ResidualBlock

ONNX_FORMAT = "1"
OPSET, IR_VERSION = 18, 9  # what the oldest ONNX Runtime that redoseg allows reads
_HALF_MOST = 6e4  # float16 ends at 65,504


class Graph:
    """Operators in the order in which they are added; each method gives the name of its output.

    With `half` the weights are stored as float16, and all is still computed in float32: half the file. Biases and
    statistics, of one dimension, are small and stay float32.
    """

    def __init__(self, half: bool = False) -> None:
        self.half = half
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, values: Tensor | list[int]) -> str:
        array = np.array(values, np.int64) if isinstance(values, list) else values.detach().cpu().float().numpy()
        return self._stored(array)

    def weight(self, values: Tensor) -> str:
        """A constant that may be stored as float16."""
        if not self.half or not stored_half(values):
            return self.constant(values)
        stored = self._stored(values.detach().cpu().half().numpy())
        return self.add("Cast", stored, to=TensorProto.FLOAT)

    def _stored(self, array: np.ndarray[Any, Any]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def conv(self, x: str, weight: Tensor, bias: Tensor | None, stride: int = 1, padding: int = 0) -> str:
        parameters = [self.weight(p) for p in (weight, bias) if p is not None]
        return self.add("Conv", x, *parameters, strides=[stride] * 2, pads=[padding] * 4)

    def linear(self, x: str, layer: nn.Linear) -> str:
        return self.add("Gemm", x, self.weight(layer.weight), self.weight(layer.bias), transB=1)

    def norm_relu(self, x: str, norm: nn.Module) -> str:
        assert isinstance(norm, nn.InstanceNorm2d)
        parameters = [self.constant(p) for p in (norm.weight, norm.bias)]
        return self.add("Relu", self.add("InstanceNormalization", x, *parameters, epsilon=norm.eps))

    def residual(self, x: str, block: ResidualBlock) -> str:
        inner = self.norm_relu(self.conv(x, block.conv1.weight, block.conv1.bias, padding=1), block.norm1)
        inner = self.conv(inner, block.conv2.weight, block.conv2.bias, padding=1)
        return self.norm_relu(self.add("Add", x, inner), block.norm2)

    def masks(self, logits: str, size: int, regions: int) -> onnx.GraphProto:
        """The graph of an extractor, whose end is logits (b, n, size, size), or (b, 1, size, size) of two regions."""
        if regions == 2:
            mask = self.add("Sigmoid", logits)
            rest = self.add("Sub", self.constant(torch.ones(1)), mask)
            self.add("Concat", mask, rest, output="masks", axis=1)
        else:
            self.add("Softmax", logits, output="masks", axis=1)
        image, masks = tensor("picture", 3, size, size), tensor("masks", regions, size, size)
        return self.closed("mask_extractor", [image], [masks])

    def reflect(self, x: str, before: int, after: int) -> str:
        """`before` pixels more above and to the left, `after` below and to the right."""
        pads = self.constant([0, 0, before, before, 0, 0, after, after])
        return self.add("Pad", x, pads, mode="reflect")

    def closed(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.GraphProto:
        return helper.make_graph(self.nodes, name, inputs, outputs, self.constants)


def stored_half(values: Tensor) -> bool:
    """Whether `Graph.weight` stores these as float16 when it may."""
    return values.ndim > 1 and float(values.detach().abs().max()) < _HALF_MOST


def tensor(name: str, *shape: int) -> onnx.ValueInfoProto:
    """A float32 input or output (batch, *shape)."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])


def about(config: Config, name: str, object_region: int) -> dict[str, str]:
    """The metadata of an exported graph."""
    return {
        "redoseg_format": ONNX_FORMAT,
        "size": str(config.data.size),
        "regions": str(config.nets.regions),
        "object_region": str(object_region),
        "picture_range": "-1 1" if config.data.value_range == "signed" else "0 1",
        "name": name,
    }


def model_bytes(graph: onnx.GraphProto, metadata: dict[str, str]) -> bytes:
    """A checked ONNX file."""
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, producer_name="redoseg", opset_imports=[opset], ir_version=IR_VERSION)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
