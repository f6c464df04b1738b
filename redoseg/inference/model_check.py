"""What a model file from elsewhere may contain: the operators that redoseg writes, and constants of bounded size.

ONNX can loop without end or ask for any amount of memory. A file is read here before ONNX Runtime computes anything of
it. The reader knows the few fields of ONNX's protocol buffers that matter, and needs no `onnx` package.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

_WRITTEN = (
    "Add AveragePool BatchNormalization Cast Concat Conv DepthToSpace Elu Gemm GlobalAveragePool InstanceNormalization "
    "LeakyRelu MatMul MaxPool Mul Pad ReduceSum Relu Reshape Resize Sigmoid Slice Softmax SpaceToDepth Sub Tanh "
    "Transpose Unsqueeze"
)
_OF_INT8 = "DequantizeLinear QuantizeLinear"
_HARMLESS = "Clip Div Identity ReduceMean"  # common in files that others wrote for redoseg
OPERATORS = frozenset(f"{_WRITTEN} {_OF_INT8} {_HARMLESS}".split())
_NODES = 20_000  # sixteen regions need about 3,000
_OTHERS = 10_000  # constants, names and sizes of values; ONNX Runtime takes minutes for a hundred thousand
_INTEGER = 4096  # largest whole number in an attribute or constant: pads, shapes, kernels [pixels or channels]
_SCALE = 64.0  # largest factor of Resize
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_INT32, _INT64, _FLOAT = 6, 7, 1
_ENDLESS = 2**63 - 1  # the end of a Slice that goes to the last pixel


class UnsafeModel(Exception):  # a reason, which ends in a ModelError
    """Why a file is refused, as the end of the sentence "FILE ..."."""


def check_operators(content: bytes) -> None:
    """Raises UnsafeModel for an ONNX file with an operator or a constant that redoseg does not write.

    Raises ValueError for bytes that are not ONNX.
    """
    view = memoryview(content)
    for number, value in fields_of(view):
        if number == 7:
            _check_graph(view_of(value))
        elif number in (20, 25):
            raise UnsafeModel("has functions or training steps of its own")


def _check_graph(graph: memoryview) -> None:
    nodes, others = 0, 0
    scales: set[str] = set()
    constants: dict[str, memoryview] = {}
    for number, value in fields_of(graph):
        if number == 1:
            nodes += 1
            operator, inputs = _check_node(view_of(value))
            if operator == "Concat" and len(set(inputs)) < len(inputs):
                raise UnsafeModel("joins a value to itself, which doubles it each time")
            if operator == "Resize":
                scales.update(inputs[1:])
        elif number == 5:
            tensor = view_of(value)
            constants[_check_constant(tensor)] = tensor
        elif number == 15:
            raise UnsafeModel("has sparse constants")
        others += number != 1
        if others > _OTHERS:
            raise UnsafeModel(f"has more than {_OTHERS} constants and names")
        if nodes > _NODES:
            raise UnsafeModel(f"has more than {_NODES} operators")
    for name in scales & constants.keys():
        if any(not 0 < factor <= _SCALE for factor in _numbers(constants[name], _FLOAT)):
            raise UnsafeModel(f"enlarges more than {_SCALE:g} times")


def _check_node(node: memoryview) -> tuple[str, list[str]]:
    operator, domain, inputs = "", "", []
    for number, value in fields_of(node):
        if number == 1:
            inputs.append(text_of(value))
        elif number == 4:
            operator = text_of(value)
        elif number == 5:
            _check_attribute(view_of(value))
        elif number == 7:
            domain = text_of(value)
    if operator not in OPERATORS or domain not in ("", "ai.onnx"):
        raise UnsafeModel(f"has the operator {operator[:40]!r}, which redoseg does not write")
    return operator, inputs


def _check_attribute(attribute: memoryview) -> None:
    for number, value in fields_of(attribute):
        if number in (3, 8):
            values = [value] if isinstance(value, int) else list(varints_of(value))
            if any(abs(_signed(one)) > _INTEGER for one in values):
                raise UnsafeModel(f"has an attribute above {_INTEGER}")
        elif number not in (1, 2, 4, 7, 9, 13, 20):  # a tensor, a graph (Loop, If, Scan), a reference
            raise UnsafeModel("has a graph or a tensor inside an operator")


def _check_constant(tensor: memoryview) -> str:
    """The constant's name."""
    name, kind, shape, stored = "", 0, [], 0
    for number, value in fields_of(tensor):
        if number == 1:
            shape += [value] if isinstance(value, int) else list(varints_of(value))
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8:
            name = text_of(value)
        elif number == 13 or (number == 14 and value != 0):
            raise UnsafeModel("has constants in another file")
        elif number in (4, 5, 6, 7, 9, 10, 11):
            stored += 1 if isinstance(value, int) else len(value)
    if math.prod(shape) > stored:  # each number has a byte or more
        raise UnsafeModel("has a constant of another size than it claims")
    if kind in (_INT32, _INT64) and any(
        abs(whole) > _INTEGER and whole != _ENDLESS for whole in (_numbers(tensor, _INT64) if kind == _INT64 else ())
    ):
        raise UnsafeModel(f"has a shape or padding above {_INTEGER}")
    return name


def _numbers(tensor: memoryview, kind: int) -> Iterator[float]:
    """The numbers of a constant of floats or of int64."""
    code, width = ("f", 4) if kind == _FLOAT else ("q", 8)
    for number, value in fields_of(tensor):
        if number == 9 and not isinstance(value, int):
            if len(value) % width:
                raise ValueError("cut off")
            yield from (one for (one,) in struct.iter_unpack("<" + code, value))
        elif number == 7 and kind == _INT64:
            yield from map(_signed, [value] if isinstance(value, int) else varints_of(value))
        elif number == 4 and not isinstance(value, int):
            yield from (one for (one,) in struct.iter_unpack("<f", value))


def fields_of(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message of protocol buffers: number, and a whole number or bytes. Raises ValueError."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("not a message")
        if at + length > len(message):
            raise ValueError("cut off")
        yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(message):
            raise ValueError("cut off")
        byte = message[at + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, at + place + 1
    raise ValueError("a number that does not end")


def varints_of(packed: memoryview) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def view_of(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("not a message")
    return value


def text_of(value: int | memoryview) -> str:
    return bytes(view_of(value)).decode("utf-8", "replace")
