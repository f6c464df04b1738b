"""A stand-in model that finds what is bright, and pictures for it."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

SIZE = 16
METADATA = {
    "redoseg_format": "1",
    "size": str(SIZE),
    "regions": "2",
    "object_region": "1",
    "picture_range": "-1 1",
    "name": "bright",
}


def write_model(path: Path, metadata: dict[str, str] = METADATA, output: str = "masks", more: int = 0) -> Path:
    """Region 1 is the picture's brightness in the range -1 to 1, region 0 the rest; `more` regions are empty."""
    nodes = [
        helper.make_node("ReduceMean", ["picture", "channels"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "half"], ["halved"]),
        helper.make_node("Add", ["halved", "half"], ["object"]),
        helper.make_node("Sub", ["one", "object"], ["background"]),
        helper.make_node("Sub", ["object", "object"], ["empty"]),
        helper.make_node("Concat", ["background", "object", *["empty"] * more], [output], axis=1),
    ]
    constants = [
        helper.make_tensor("channels", TensorProto.INT64, [1], [1]),
        helper.make_tensor("half", TensorProto.FLOAT, [1], [0.5]),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
    ]
    graph = helper.make_graph(
        nodes,
        "bright",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", 2 + more, SIZE, SIZE])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def bright_square(width: int = 96, height: int = 64) -> Image.Image:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 255
    return Image.fromarray(pixels)


def tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
