"""Score a model on labelled pictures, beside methods that learn nothing. Runs on ONNX Runtime, without torch."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from redoseg import metrics
from redoseg.data import labelled_images, originals
from redoseg.errors import DataError, MissingError, RunError
from redoseg.evaluation import baselines
from redoseg.files import write_atomic
from redoseg.images.draw import before_after
from redoseg.images.guided import bilinear_upsample
from redoseg.images.read import OBJECT, UNLABELLED, read_image
from redoseg.inference.segmenter import Edges, Segmenter
from redoseg.metrics import boundary_f
from redoseg.system import opencv

SHOWN = 8  # pictures in the before/after sheet
MEASURES = ("accuracy", "iou", "boundary_f")


def evaluate(
    model: str,
    data: str,
    split: str | None = None,
    seed: int = 0,
    methods: Sequence[str] = ("kmeans", "grabcut"),
    image: Path | None = None,
    size: int | None = None,
    edges: Edges = "plain",
) -> dict[str, Any]:
    """The model's figures on the labelled pictures of `data`, and those of `methods` under `beside`.

    Everything is scored at `size` [pixels]; if None, at the size of a prepared set, at the model's for built-in
    pictures, else at 128 (the paper's). The model sees each picture at its own size, and its soft masks are
    brought back to the scored one, as `edges` says: "plain" scores the network itself. For more than two
    regions the regions are matched to the objects with the truth, and the figures are called `iou_matched`
    and `accuracy_matched`. `picture` is where a before/after sheet is written.

    Raises ModelError, DataError (no masks), RedosegError (unknown method).
    """
    segmenter = Segmenter(model, edges=edges)
    images = labelled_images(data, size, split, seed, segmenter.regions, segmenter.size)
    size = images.size
    labels = images.labels()
    masks = segmenter.batch(np.asarray(images.pixels))
    result: dict[str, Any] = {"model": model, "data": images.name, "split": split or "", "size": size, "edges": edges}
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
        beside = baselines.beside(np.asarray(images.pixels), labels, methods)
        result["beside"] = {name: row.as_dict() for name, row in beside.items()}
    except MissingError as error:
        floors = baselines.beside(np.asarray(images.pixels), labels, ())
        result["beside"] = {name: row.as_dict() for name, row in floors.items()}
        result["note"] = str(error)
    if image is not None:
        chosen = np.unique(np.linspace(0, len(images) - 1, SHOWN).astype(int))
        objects = masks[:, segmenter.object_region] > 0.5
        pairs = [(Image.fromarray(images.pixels[i]), objects[i]) for i in chosen]
        buffer = io.BytesIO()
        before_after(pairs).save(buffer, "PNG")
        try:
            image.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{image} cannot be made ({error.strerror}), a file expected: name another") from None
        write_atomic(image, buffer.getvalue())
    return result


def evaluate_own_size(
    model: str, data: str, split: str | None = None, on_item: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """The model's figures on the labelled pictures of `data` at their own size, with each kind of edges.

    Each gives accuracy, IoU and the edge's F-score (`boundary_f`), with its mean and 95 % interval over the pictures;
    `gain` has, for guided and grabcut, the intervals of what they have more than plain, picture by picture. `on_item`
    is called with the pictures done and their total.

    Raises ModelError, DataError (no masks, more than two regions), MissingError (no OpenCV).
    """
    segmenter = Segmenter(model)
    if segmenter.regions > 2:
        raise DataError(f"{model} has {segmenter.regions} regions, two expected: score it without --own-size")
    opencv()  # what is missing is said before the work
    items = originals(data, split)
    kinds: tuple[Edges, ...] = ("plain", "guided", "grabcut")
    ways: dict[Edges, dict[str, list[float]]] = {way: {m: [] for m in MEASURES} for way in kinds}
    sides, sure = [], []
    for done, item in enumerate(items, 1):
        assert item.mask is not None
        mask = item.read_mask(item.mask)
        labels = np.where(mask == UNLABELLED, np.int8(-1), (mask >= OBJECT - 1).astype(np.int8))
        if not (labels >= 0).any():  # says nothing of any mask
            continue
        image = read_image(item.image)
        sides.append(min(image.size))
        for way in kinds:
            found = segmenter.predict(image, way)
            objects = bilinear_upsample(found.soft, labels.shape[::-1]) > 0.5
            scores = metrics.score(objects[None], labels[None])
            figures = (scores.accuracy, scores.iou, boundary_f(objects, labels))
            for measure, figure in zip(MEASURES, figures, strict=True):
                ways[way][measure].append(figure)
        sure.append(found.confidence)  # the network's, the same for all edges
        if on_item is not None:
            on_item(done, len(items))
    if not sides:
        raise DataError(f"none of {len(items)} masks of {data} has a labelled pixel, one expected: name another set")
    result: dict[str, Any] = {"model": model, "data": data, "split": split or "", "pictures": len(sides)}
    result["shorter_side"] = {"least": min(sides), "most": max(sides)}
    for way, figures_of in ways.items():
        result[way] = {}
        for measure, values in figures_of.items():
            result[way][measure] = float(np.mean(values))
            result[way][f"{measure}_interval"] = metrics.bootstrap_interval(np.array(values))
    result["gain"] = {
        way: {m: metrics.bootstrap_interval(np.array(ways[way][m]) - np.array(ways["plain"][m])) for m in MEASURES}
        for way in ways
        if way != "plain"
    }
    result["confidence"] = _worth_of(np.array(sure), np.array(ways["guided"]["iou"]))
    return result


def _worth_of(sure: NDArray[np.float64], ious: NDArray[np.float64]) -> dict[str, float]:
    """How well confidence (N,) tells good masks from bad: rank correlation, and IoU of the least sure fifth."""
    worst = np.arange(len(sure)) < max(1, len(sure) // 5)
    by_confidence = ious[sure.argsort(kind="stable")]
    found = {"least_sure_fifth_iou": float(by_confidence[worst].mean())}
    if not worst.all():
        found["rest_iou"] = float(by_confidence[~worst].mean())
    if np.ptp(sure) and np.ptp(ious):  # else there is no order
        found["rank_correlation"] = float(np.asarray(np.corrcoef(np.stack([_ranks(sure), _ranks(ious)])))[0, 1])
    return found


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks (N,); equal values share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (count.cumsum() - (count - 1) / 2)[place]


def print_own_size(result: dict[str, Any], console: Console) -> None:
    """Every kind of edges and what they gain over plain ones, percentages."""
    where = f"{result['data']}{' ' + result['split'] if result['split'] else ''}"
    low, high = result["shorter_side"]["least"], result["shorter_side"]["most"]
    table = Table(title=f"{where}, {result['pictures']} pictures at their own size ({low} to {high} px), %")
    table.title_justify = "left"
    table.add_column("")
    for measure in MEASURES:
        table.add_column(measure, justify="right")
    table.add_row("plain", *(f"{100 * result['plain'][m]:.1f}" for m in MEASURES))
    for way, gains in result["gain"].items():
        table.add_row(way, *(f"{100 * result[way][m]:.1f}" for m in MEASURES))
        intervals = (gains[m] for m in MEASURES)
        table.add_row("  gain, 95 % interval", *(f"{100 * low:+.1f} to {100 * high:+.1f}" for low, high in intervals))
    console.print(table)
    sure = result["confidence"]
    if "rank_correlation" in sure:
        console.print(
            f"confidence and IoU: rank correlation {sure['rank_correlation']:.2f}; IoU of the least sure fifth "
            f"{100 * sure['least_sure_fifth_iou']:.1f}, of the rest {100 * sure['rest_iou']:.1f}",
            soft_wrap=True,
        )


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
