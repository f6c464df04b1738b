"""Score a model on labelled images, beside methods that learn nothing. Runs on ONNX Runtime, without torch."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg import metrics
from redoseg.data import ImageSet, labelled_images, originals
from redoseg.data.decoding import other_proportions
from redoseg.data.listing import Item
from redoseg.errors import DataError, MissingError, RunError
from redoseg.evaluation import baselines
from redoseg.evaluation.results import (
    CLEANNESS,
    MEASURES,
    Confidence,
    EdgeFigures,
    Evaluation,
    Figures,
    OwnSizeEvaluation,
    about_set,
)
from redoseg.files import at_home, describe_error, printable, write_atomic
from redoseg.images.clean import Cleaning, clean, count_parts, edge_length
from redoseg.images.cut_short import notes_of
from redoseg.images.draw import before_after
from redoseg.images.guided import bilinear_upsample
from redoseg.images.photo import Photo, SoftMask
from redoseg.images.read import OBJECT, UNLABELLED, read_photo
from redoseg.inference.devices import Device
from redoseg.inference.object_mask import CLEANING, HALF, cleaned, object_of
from redoseg.inference.results import opacity_of
from redoseg.inference.segmenter import Edges, Segmenter, cleaning_for
from redoseg.metrics import Scores, boundary_f
from redoseg.system import in_order, opencv

SHOWN = 8  # images in the before/after sheet
_EDGES: tuple[Edges, ...] = ("plain", "guided", "grabcut")


def evaluate(
    model: str,
    data: str,
    *,
    split: str | None = None,
    seed: int = 0,
    methods: Sequence[str] = ("kmeans", "grabcut"),
    image: Path | None = None,
    size: int | None = None,
    edges: Edges = "plain",
    mask_values: str = "auto",
    cleaning: Cleaning | None = CLEANING,
    threads: int | None = None,
    device: Device = "cpu",
) -> Evaluation:
    """The model's figures on the labelled images of a set, and those of methods without training.

    The model sees each image at its own size. Its soft masks are then brought to the size that everything is scored
    at. For more than two regions, the regions are matched to the objects with the truth, and the figures are called
    `iou_matched` and `accuracy_matched`.

    Args:
        model: as `Segmenter` takes it.
        data: a prepared set, a folder with masks, or the name of a built-in set.
        split: the part of the set; None for all of it.
        seed: of built-in images.
        methods: names of `baselines.METHODS`, with settings or without.
        image: file for a sheet of photographs and masks.
        size: side of the scored images [pixels]. None for that of a prepared set, the model's for built-in images,
            else 128 (the paper's).
        edges: how masks are brought to the scored size. "plain" scores the network itself.
        mask_values: which values of a folder's masks are the object: "auto", "nonzero", or numbers as in "1,2".
        cleaning: what is cleaned from masks of two regions whose edges are not plain; None to leave them.
        threads: each works on images of its own; as many as this process may use if None.
        device: as `Segmenter` takes it.

    Raises ModelError, DataError (no masks), RedosegError (unknown method), RunError (`image` cannot be written).
    """
    segmenter = Segmenter(model, threads, edges, device=device)
    images = labelled_images(
        data, size, split=split, seed=seed, regions=segmenter.regions, built_in=segmenter.size, mask_values=mask_values
    )
    size = images.size
    labels = images.labels()
    masks = segmenter.batch(np.asarray(images.pixels))
    result: Evaluation = {
        "model": model,
        "data": images.name,
        "split": split or "",
        "size": size,
        "edges": edges,
        "pictures": len(images),
        "beside": {},
    }
    result = {**result, **about_set(data, images.bad, images.notes)}
    objects = None
    if segmenter.regions > 2:
        matched = metrics.score_matched(masks.argmax(1), labels, segmenter.regions)
        result["pictures"] = int(matched["pictures"])
        result["iou_matched"], result["accuracy_matched"] = matched["iou_matched"], matched["accuracy_matched"]
    else:
        objects = masks[:, segmenter.object_region] > HALF
        to_clean = cleaning_for(edges, cleaning)
        if to_clean is not None:
            objects = np.stack([clean(mask, to_clean) for mask in objects])
        scores = metrics.score(objects, labels)
        result = {**result, **_figures(scores)}
        result["iou_interval"] = metrics.bootstrap_interval(scores.ious)
        result["object_region_right"] = bool(scores.iou >= metrics.score(~objects, labels).iou)
    try:
        beside = baselines.beside(np.asarray(images.pixels), labels, methods)
    except MissingError as error:
        beside = baselines.beside(np.asarray(images.pixels), labels, ())
        result["note"] = str(error)
    result["beside"] = {name: _figures(row) for name, row in beside.items()}
    if image is not None:
        _draw_sheet(images, masks[:, segmenter.object_region] > HALF if objects is None else objects, image)
    return result


def _figures(scores: Scores) -> Figures:
    return {
        "pictures": scores.pictures,
        "accuracy": scores.accuracy,
        "iou": scores.iou,
        "accuracy_oracle_flip": scores.accuracy_oracle_flip,
        "iou_oracle_flip": scores.iou_oracle_flip,
    }


def _draw_sheet(images: ImageSet, objects: NDArray[np.bool_], path: Path) -> None:
    """Write SHOWN images, evenly spaced over the set, with their masks (N, H, W)."""
    chosen = np.unique(np.linspace(0, len(images) - 1, SHOWN).astype(int))
    buffer = io.BytesIO()
    before_after([(Image.fromarray(images.pixels[i]), objects[i]) for i in chosen]).save(buffer, "PNG")
    path = at_home(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path} cannot be written ({describe_error(error)}). Choose another file.") from None
    write_atomic(path, buffer.getvalue())


def evaluate_own_size(
    model: str,
    data: str,
    split: str | None = None,
    on_item: Callable[[int, int], None] | None = None,
    *,
    mask_values: str = "auto",
    cleaning: Cleaning | None = CLEANING,
    threads: int | None = None,
    device: Device = "cpu",
) -> OwnSizeEvaluation:
    """The model's figures on the labelled images of a set at their own size, with each kind of edges.

    For each kind of edges these are accuracy, IoU and the edge's F-score (`boundary_f`), each with its mean and its
    95 % interval over the images; and how clean masks are: parts beyond one, holes, and `haze`, the pixels of a cut-out
    that are 5 to 95 % opaque for each pixel of the mask's edge. `gain` has the intervals of the difference between
    guided or grabcut edges and plain ones, image by image. `on_item` is called with the number of images done and their
    total. `mask_values`, `cleaning`, `threads` and `device` are as for `evaluate`. An image or a mask that cannot be
    used is in `skipped`.

    Raises ModelError, DataError (no masks, more than two regions), MissingError (no OpenCV).
    """
    segmenter = Segmenter(model, threads, device=device)
    if segmenter.regions > 2:
        raise DataError(f"{model} has {segmenter.regions} regions. --own-size needs a model of two regions.")
    opencv()  # raises MissingError before the work
    found_set = originals(data, split, mask_values)
    items, bad = found_set.items, list(found_set.bad)
    kinds = _EDGES
    ways: dict[Edges, dict[str, list[float]]] = {way: {m: [] for m in (*MEASURES, *CLEANNESS)} for way in kinds}
    sides, sure, noted = [], [], []
    with closing(in_order(lambda item: _scored(segmenter, item, cleaning), items, segmenter.threads)) as results:
        for done, (item, result) in enumerate(zip(items, results, strict=True), 1):
            if isinstance(result, _Scored):
                sides.append(result.side)
                noted += [(printable(item.name), result.note)] if result.note else []
                for way in kinds:
                    for measure, figure in zip((*MEASURES, *CLEANNESS), result.figures[way], strict=True):
                        ways[way][measure].append(figure)
                sure.append(result.confidence)
            elif result is not None:
                bad.append(result)
            if on_item is not None:
                on_item(done, len(items))
    if not sides:
        first = f" ({bad[0][0]}: {bad[0][1]})" if bad else ""
        raise DataError(f"None of the {len(items)} masks of {data} can be used{first}. Choose another set.")
    values = {way: {m: np.array(figures) for m, figures in of.items()} for way, of in ways.items()}
    return {
        "model": model,
        "data": data,
        "split": split or "",
        "pictures": len(sides),
        "shorter_side": {"least": min(sides), "most": max(sides)},
        "plain": _edge_figures(values["plain"]),
        "guided": _edge_figures(values["guided"]),
        "grabcut": _edge_figures(values["grabcut"]),
        "gain": {
            way: {m: metrics.bootstrap_interval(values[way][m] - values["plain"][m]) for m in MEASURES}
            for way in kinds
            if way != "plain"
        },
        "confidence": _confidence(np.array(sure), values["guided"]["iou"]),
        **about_set(data, bad, (*found_set.notes, *notes_of(noted))),
    }


class _Scored(NamedTuple):
    """What one labelled image gave."""

    side: int
    """Its shorter side [pixels]."""
    note: str
    figures: dict[Edges, tuple[float, ...]]
    """MEASURES and CLEANNESS with each kind of edges."""
    confidence: float
    """The network's, the same for all edges."""


def _scored(segmenter: Segmenter, item: Item, cleaning: Cleaning | None) -> _Scored | tuple[str, str] | None:
    """The figures of a labelled image; or which file cannot be used and why; None where nothing is labelled."""
    try:
        mask, photo = item.labels(), read_photo(item.image)
    except DataError as error:
        return printable(item.image), str(error)
    if other_proportions((mask.shape[1], mask.shape[0]), photo.size):
        return printable(item.mask or ""), f"mask of {mask.shape[1]}x{mask.shape[0]} beside another picture"
    labels = np.where(mask == UNLABELLED, np.int8(-1), (mask >= OBJECT - 1).astype(np.int8))
    if not (labels >= 0).any():
        return None
    figures: dict[Edges, tuple[float, ...]] = {}
    confidence = 0.0
    shown = replace(photo, transparent=False)  # labels do not know what is transparent
    for way in _EDGES:
        soft, confidence = segmenter.soft_mask(photo, way)
        soft = cleaned(shown, soft, HALF, cleaning_for(way, cleaning))
        objects = _objects(shown, soft, labels.shape[::-1])
        scores = metrics.score(objects[None], labels[None])
        figures[way] = (scores.accuracy, scores.iou, boundary_f(objects, labels), *_cleanness(shown, soft))
    return _Scored(min(photo.size), photo.note, figures, confidence)


def _objects(photo: Photo, soft: SoftMask, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The object (H, W) at the labels' size (width, height)."""
    if photo.size == size:
        return object_of(photo, soft)
    return bilinear_upsample(soft.whole(), size) > HALF


def _cleanness(photo: Photo, soft: SoftMask) -> tuple[float, float, float]:
    """Parts beyond one, holes and haze of a mask."""
    mask = object_of(photo, soft)
    pieces, holes = count_parts(mask)
    opacity = opacity_of(soft, photo.whole)
    hazy = np.count_nonzero((opacity > 0.05) & (opacity < 0.95))
    return max(0, pieces - 1), holes, hazy / max(1, edge_length(mask))


def _edge_figures(values: Mapping[str, NDArray[np.float64]]) -> EdgeFigures:
    """Mean and interval of each measure's values (N,)."""
    found: dict[str, object] = {}
    for measure, of_images in values.items():
        found[measure] = float(of_images.mean())
        if measure in CLEANNESS:
            continue
        found[f"{measure}_interval"] = metrics.bootstrap_interval(of_images)
    return cast(EdgeFigures, found)


def _confidence(sure: NDArray[np.float64], ious: NDArray[np.float64]) -> Confidence:
    """How well confidence (N,) separates good masks from bad: rank correlation, and IoU of the least sure fifth."""
    worst = np.arange(len(sure)) < max(1, len(sure) // 5)
    by_confidence = ious[sure.argsort(kind="stable")]
    found: Confidence = {"least_sure_fifth_iou": float(by_confidence[worst].mean())}
    if not worst.all():
        found["rest_iou"] = float(by_confidence[~worst].mean())
    if np.ptp(sure) and np.ptp(ious):  # else there is no order
        found["rank_correlation"] = float(np.asarray(np.corrcoef(np.stack([_ranks(sure), _ranks(ious)])))[0, 1])
    return found


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks (N,), from 1; equal values share their mean rank."""
    _, position, count = np.unique(values, return_inverse=True, return_counts=True)
    return (count.cumsum() - (count - 1) / 2)[position]
