"""How much memory and arithmetic a model file from elsewhere takes, known before it computes anything.

Each operator that is accepted makes values of a size that follows from the sizes of its inputs. ONNX Runtime works
these sizes out when it opens a file, and gives those of a graph's outputs. So here a copy of the file is opened in
which every value is an output, without the optimizations that would compute constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from redoseg.inference.model_check import UnsafeModel, fields_of, text_of, varints_of, view_of

BATCH = 8  # images at a time; larger ones do not fit a core's cache, so they are not quicker
MOST_BYTES = 2 * 2**30  # of all values for an image; most of them are freed before the last is made
MOST_PRODUCTS = 10**12  # multiplications for an image: a minute or so on one core

_NUMBER = 4  # bytes
_GRAPH, _OUTPUT = b"\x3a", b"\x62"  # fields 7 of a model and 12 of a graph, each before its length
Shape = tuple[int, ...]


@dataclass
class _Node:
    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    kernel: list[int] = field(default_factory=list)


@dataclass
class _Graph:
    nodes: list[_Node] = field(default_factory=list)
    constants: dict[str, Shape] = field(default_factory=dict)
    inputs: dict[str, list[int | str]] = field(default_factory=dict)
    """The axes of each input: a length, or the name of one that is left open ("" without a name)."""
    outputs: list[str] = field(default_factory=list)


def check_cost(content: bytes) -> None:
    """Raises UnsafeModel for an ONNX file that takes more than MOST_BYTES or MOST_PRODUCTS for each of BATCH images.

    `content` has passed `check_operators`. Raises ValueError for bytes that ONNX Runtime does not open.
    """
    graph = _read(content)
    shapes = graph.constants | _shapes(content, graph)
    numbers, products = 0, 0
    of_images = set(graph.inputs) - set(graph.constants)
    for node in graph.nodes:
        made = sum(_count(shapes[name]) for name in node.outputs)
        if of_images.isdisjoint(node.inputs):  # as large for one picture as for many
            made *= BATCH
        else:
            of_images.update(node.outputs)
        taken = [shapes.get(name, ()) for name in node.inputs]
        each = _products(node, taken)
        numbers += made
        products += made * each + sum(map(_count, taken))
        if node.operator == "Conv":  # in int8 what each kernel covers is copied first
            numbers += made * each // max(1, taken[1][0]) // _NUMBER if _in_int8(graph) else 0
    size = numbers * _NUMBER // BATCH
    if size > MOST_BYTES:
        raise UnsafeModel(f"makes {size / 2**30:.3g} GB of values for a picture, more than {MOST_BYTES / 2**30:g} GB")
    if products // BATCH > MOST_PRODUCTS:
        raise UnsafeModel(
            f"multiplies {products // BATCH:.0e} times for a picture, more than {MOST_PRODUCTS:.0e} times"
        )


def _products(node: _Node, taken: list[Shape]) -> int:
    """How many numbers each number of the output is made from, at most."""
    if node.operator == "Conv":
        return _count(taken[1][1:])
    if node.operator in ("MatMul", "Gemm"):
        return max(taken[0], default=1)
    return math.prod(node.kernel)  # 1 of what has no kernel


def _in_int8(graph: _Graph) -> bool:
    return any(node.operator == "QuantizeLinear" for node in graph.nodes)


def _count(shape: Shape) -> int:
    return math.prod(shape)


def _shapes(content: bytes, graph: _Graph) -> dict[str, Shape]:
    """The shape of every value of a batch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for axes in graph.inputs.values():
        if any(isinstance(axis, str) for axis in axes[1:]):
            raise UnsafeModel("does not say the sizes of its inputs")
        if axes and isinstance(axes[0], str) and axes[0]:
            options.add_free_dimension_override_by_name(axes[0], BATCH)
    names = {name for node in graph.nodes for name in node.outputs} - set(graph.outputs)
    more = b"".join(_OUTPUT + _sized(b"\x0a" + _sized(name.encode())) for name in sorted(names))
    try:
        # a second graph in the file is one with the first
        session = onnxruntime.InferenceSession(
            content + _GRAPH + _sized(more), options, providers=["CPUExecutionProvider"]
        )
    except Exception:  # ONNX Runtime has no error tree of its own
        raise ValueError("not a model") from None
    shapes: dict[str, Shape] = {}
    for value in [*session.get_inputs(), *session.get_outputs()]:
        if not all(isinstance(axis, int) and axis >= 0 for axis in value.shape):
            raise UnsafeModel("has values of a size that is not known before it runs")
        shapes[value.name] = tuple(value.shape)
    return shapes


def _sized(content: bytes) -> bytes:
    """Bytes after their length, as protocol buffers have them."""
    length, head = len(content), bytearray()
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    return bytes([*head, length]) + content


def _read(content: bytes) -> _Graph:
    graph = _Graph()
    for number, value in fields_of(memoryview(content)):
        for part, inner in fields_of(view_of(value)) if number == 7 else ():
            if part == 1:
                graph.nodes.append(_node(view_of(inner)))
            elif part == 5:
                dims: list[int] = []
                name = ""
                for kind, one in fields_of(view_of(inner)):
                    if kind == 1:
                        dims += [one] if isinstance(one, int) else list(varints_of(one))
                    elif kind == 8:
                        name = text_of(one)
                graph.constants[name] = tuple(dims)
            elif part == 11:
                name, axes = _declared(view_of(inner))
                graph.inputs[name] = axes
            elif part == 12:
                graph.outputs.append(_declared(view_of(inner))[0])
    return graph


def _node(node: memoryview) -> _Node:
    found = _Node()
    for number, value in fields_of(node):
        if number == 1:
            found.inputs.append(text_of(value))
        elif number == 2:
            found.outputs += [text_of(value)] if text_of(value) else []
        elif number == 4:
            found.operator = text_of(value)
        elif number == 5:
            name, whole = "", list[int]()
            for kind, one in fields_of(view_of(value)):
                if kind == 1:
                    name = text_of(one)
                elif kind == 8:
                    whole += [one] if isinstance(one, int) else list(varints_of(one))
            if name == "kernel_shape":
                found.kernel = whole
    return found


def _declared(value: memoryview) -> tuple[str, list[int | str]]:
    """The name of an input or output, and its axes."""
    name, axes = "", list[int | str]()
    for number, one in fields_of(value):
        if number == 1:
            name = text_of(one)
        elif number == 2:
            for dimension in _inside(view_of(one), 1, 2, 1):
                known = dict(fields_of(dimension))
                axes.append(known[1] if isinstance(known.get(1), int) else text_of(known.get(2, memoryview(b""))))  # type: ignore[arg-type]
    return name, axes


def _inside(message: memoryview, *path: int) -> list[memoryview]:
    """The messages that fields of these numbers have, one within the other."""
    found = [message]
    for wanted in path:
        found = [view_of(value) for one in found for number, value in fields_of(one) if number == wanted]
    return found
