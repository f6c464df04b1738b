"""Score a model on labelled pictures, beside methods that learn nothing. Runs on ONNX Runtime, without torch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from redoseg import baselines, metrics
from redoseg.data import BUILT_IN, is_prepared, open_data, open_prepared
from redoseg.errors import DataError, MissingError, RunError
from redoseg.pictures import write_atomic
from redoseg.segmenter import Segmenter, before_after

PAPER_SIZE = 128  # pixels
SHOWN = 8  # pictures in the before/after sheet


def evaluate(
    model: str,
    data: str,
    split: str | None = None,
    seed: int = 0,
    methods: Sequence[str] = ("kmeans", "grabcut"),
    picture: Path | None = None,
    size: int | None = None,
) -> dict[str, Any]:
    """The model's figures on the labelled pictures of `data`, and those of `methods` under `beside`.

    Everything is scored at `size` [pixels]; if None, at the size of a prepared set, at the model's for built-in
    pictures, else at 128 (the paper's). The model sees each picture at its own size, and its soft masks are
    brought back to the scored one. For more than two
    regions the regions are matched to the objects with the truth, and the figures are called `iou_matched`
    and `accuracy_matched`. `picture` is where a before/after sheet is written.

    Raises ModelError, DataError (no masks), RedosegError (unknown method).
    """
    segmenter = Segmenter(model)
    if size is None and is_prepared(data):
        size = open_prepared(data).size
    if size is None:
        size = segmenter.size if data in BUILT_IN else PAPER_SIZE
    pictures = open_data(data, size, segmenter.regions, split, seed, at_least=1)
    pictures = pictures.take(np.flatnonzero(pictures.labelled))
    if not len(pictures):
        raise DataError(f"{data} has no masks, pictures with masks expected: add a folder masks/ beside images/")
    labels = pictures.labels()
    masks = segmenter.batch(np.asarray(pictures.images))
    result: dict[str, Any] = {"model": model, "data": pictures.name, "split": split or "", "size": size}
    if segmenter.regions > 2:
        result |= metrics.score_matched(masks.argmax(1), labels, segmenter.regions)
    else:
        objects = masks[:, segmenter.object_region] > 0.5
        scores = metrics.score(objects, labels)
        result |= scores.as_dict()
        result["iou_interval"] = metrics.bootstrap_interval(scores.ious)
        result["object_region_right"] = bool(scores.iou >= metrics.score(~objects, labels).iou)
    result["beside"] = {}
    try:
        beside = baselines.beside(np.asarray(pictures.images), labels, methods)
        result["beside"] = {name: row.as_dict() for name, row in beside.items()}
    except MissingError as error:
        floors = baselines.beside(np.asarray(pictures.images), labels, ())
        result["beside"] = {name: row.as_dict() for name, row in floors.items()}
        result["note"] = str(error)
    if picture is not None:
        chosen = np.unique(np.linspace(0, len(pictures) - 1, SHOWN).astype(int))
        objects = masks[:, segmenter.object_region] > 0.5
        pairs = [(Image.fromarray(pictures.images[i]), objects[i]) for i in chosen]
        buffer = io.BytesIO()
        before_after(pairs).save(buffer, "PNG")
        try:
            picture.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{picture} cannot be made ({error.strerror}), a file expected: name another") from None
        write_atomic(picture, buffer.getvalue())
    return result


def print_evaluation(result: dict[str, Any], console: Console) -> None:
    """The figures as a table, percentages."""
    where = f"{result['data']}{' ' + result['split'] if result['split'] else ''}"
    matched = "iou_matched" in result
    table = Table(title=f"{where}, {result['pictures']} pictures at {result['size']} px, %", title_justify="left")
    keys = (
        ["accuracy_matched", "iou_matched"]
        if matched
        else ["accuracy", "iou", "accuracy_oracle_flip", "iou_oracle_flip"]
    )
    table.add_column("")
    for key in keys:
        table.add_column(key, justify="right")
    for name, row in {result["model"]: result, **({} if matched else result["beside"])}.items():
        table.add_row(str(name), *(f"{100 * row[key]:.1f}" for key in keys))
    console.print(table)
    if matched:  # methods for two regions: every object against the background
        others = Table("", "accuracy", "iou", title="any object against the background, %", title_justify="left")
        for name, row in result["beside"].items():
            others.add_row(name, *(f"{100 * row[key]:.1f}" for key in ("accuracy", "iou")))
        console.print(others)
    if not matched:
        low, high = result["iou_interval"]
        right = "right" if result["object_region_right"] else "WRONG: the other region scores better"
        console.print(f"iou 95 % interval {100 * low:.1f} to {100 * high:.1f}; choice of the object region: {right}")
    if "note" in result:
        console.print(result["note"], markup=False, soft_wrap=True)
