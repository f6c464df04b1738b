"""Trained mask extractor -> mask.onnx, which `redoseg.segmenter` and any ONNX runtime can use."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from pathlib import Path

import torch
from torch import nn

from redoseg.config import Config
from redoseg.pictures import write_atomic

ONNX_FORMAT = "1"


def export_extractor(extractor: nn.Module, config: Config, path: Path, name: str, object_region: int) -> None:
    """Write `extractor` as ONNX: `picture` (batch, 3, S, S) -> `masks` (batch, n, S, S), both float32."""
    size = config.data.size
    model = copy.deepcopy(extractor).eval().cpu().float()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            program = torch.onnx.export(
                model,
                (torch.zeros(2, 3, size, size),),
                dynamo=True,
                input_names=["picture"],
                output_names=["masks"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
        finally:
            logging.disable(level)
    assert program is not None
    proto = program.model_proto
    metadata = {
        "redoseg_format": ONNX_FORMAT,
        "size": str(size),
        "regions": str(config.nets.regions),
        "object_region": str(object_region),
        "picture_range": "-1 1" if config.data.value_range == "signed" else "0 1",
        "name": name,
    }
    del proto.metadata_props[:]
    for key, value in metadata.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    for node in proto.graph.node:  # stack traces with the paths of the machine that exported
        del node.metadata_props[:]
        node.doc_string = ""
    write_atomic(path, proto.SerializeToString())
