"""A model in int8: about twice as fast where the processor multiplies bytes (VNNI, and ARM's dot products).

Convolutions compute in int8, their inputs scaled to the range that a few images show; norms and the first
convolution, of three channels, stay float32. The images need no masks. The result is a model like any other.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import quantization

from redoseg.errors import DataError, ModelError, RedosegError
from redoseg.files import at_home, make_folder, printable, temporary_folder, write_atomic
from redoseg.images.cut_short import notes_of
from redoseg.images.read import list_images, note_results, read_photo
from redoseg.inference.model_file import find_model
from redoseg.inference.segmenter import Segmenter

IMAGES = 256  # more change nothing that can be measured


class _Inputs(quantization.CalibrationDataReader):  # type: ignore[misc]
    """The images that can be read, one at a time, as ONNX Runtime asks for them."""

    def __init__(self, segmenter: Segmenter, images: list[Path]) -> None:
        self.segmenter = segmenter
        self.left = iter(images)
        self.seen = 0
        self.noted: list[tuple[str, str]] = []
        self.unread: list[str] = []

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        for path in self.left:
            try:
                photo = read_photo(path)
            except DataError as error:
                self.unread.append(str(error))
                continue
            self.seen += 1
            if photo.note:
                self.noted.append((printable(path), photo.note))
            return {"picture": self.segmenter.network_input([photo.rgb])}
        if self.seen == 0:
            raise DataError("none of the pictures in the folder can be read: choose another folder")
        return None


class Quantized(NamedTuple):
    """What an int8 model was made from."""

    pictures: int
    """How many were used."""
    notes: tuple[str, ...]
    """What a user should know of them."""


def quantize(model: str | Path, images: str | Path, out: str | Path) -> Quantized:
    """Write `model` in int8 as the ONNX file `out`; ranges come from a folder of pictures like those to segment.

    Raises RedosegError for a model that is in int8 already, for a folder without an
    image that can be read, and if `out` exists or does not end in .onnx.
    """
    out, images = at_home(out), at_home(images)
    if out.suffix != ".onnx":
        raise RedosegError(f"{printable(out)} does not end in .onnx: choose a name that does")
    if out.exists():
        raise RedosegError(f"{printable(out)} exists: choose another name")
    found = find_model(model)
    segmenter = Segmenter(found)
    proto = onnx.load_from_string(found.content)
    if any(node.op_type == "QuantizeLinear" for node in proto.graph.node):
        raise ModelError(f"{found.where} is in int8 already: choose the float32 model that it was made from")
    listed = list_images(images)
    inputs = _Inputs(segmenter, listed.images[:: -(-len(listed.images) // IMAGES)])
    convolutions = [node.name for node in proto.graph.node if node.op_type == "Conv"]
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # advice on preparing graphs, which this one does not need
    try:
        with temporary_folder("quantize") as folder:
            result = folder / "int8.onnx"
            quantization.quantize_static(
                proto,
                str(result),
                inputs,
                op_types_to_quantize=["Conv", "DepthToSpace", "Slice"],
                nodes_to_exclude=convolutions[:1],
                per_channel=True,
                reduce_range=True,  # 7 bits for weights: 8 overflow on processors without VNNI
                weight_type=quantization.QuantType.QInt8,
                activation_type=quantization.QuantType.QUInt8,
            )
            proto = onnx.load(result)
    finally:
        logging.disable(level)
    onnx.helper.set_model_props(proto, metadata)
    make_folder(out.parent)
    write_atomic(out, proto.SerializeToString())
    unread = [f"{printable(path)}: {why}" for path, why in listed.problems] + inputs.unread
    notes = [f"pictures not used: {len(unread):,}, the first {unread[0]}"] if unread else []
    return Quantized(inputs.seen, (*notes, *notes_of(inputs.noted), *note_results(listed.results)))
