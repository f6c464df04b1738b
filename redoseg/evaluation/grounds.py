"""The objects of a labelled set on other grounds: has a model learnt the object, or the colours around it?"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from redoseg import metrics
from redoseg.data import ImageSet, labelled_images
from redoseg.errors import DataError
from redoseg.evaluation.results import AboutSet, about_set
from redoseg.evaluation.tables import print_table
from redoseg.images.grounds import OTHERS, PLAIN, box_mean, on_ground, own_ground, plain_ground
from redoseg.inference.devices import Device
from redoseg.inference.segmenter import Segmenter

SEED = 0  # of the noise on plain grounds: every model is scored on the same pixels


class GroundScores(TypedDict):
    """Figures on one ground."""

    iou: float
    iou_interval: tuple[float, float]
    """95 % interval over the images."""
    failures: float
    """Share of the images with an IoU under 0.5."""


class Grounds(AboutSet):
    """What `evaluate --grounds` finds. The worst ground has the lowest mean IoU."""

    model: str
    data: str
    split: str
    size: int
    pictures: int
    iou: float
    """Of the images as they were photographed."""
    iou_interval: tuple[float, float]
    grounds: dict[str, GroundScores]
    worst_ground: str
    worst_iou: float


def pasted(images: ImageSet, ground: str) -> NDArray[np.uint8]:
    """The labelled objects of a set (N, H, W, 3), each on a ground: a name of PLAIN, or OTHERS.

    An object is pasted by its true mask with a seam of one pixel. Pixels without a label are left behind, so each pixel
    of the result is the object or the ground. The ground of another image has that image's own object filled in.
    """
    labels = images.labels()
    result = np.empty(images.pixels.shape, np.uint8)
    count, height, width = labels.shape
    for i in range(count):
        if ground == OTHERS:
            other = (i + max(1, count // 2)) % count
            below = own_ground(images.pixels[other].astype(np.float32), labels[other] != 0)
        else:
            below = plain_ground(PLAIN[ground], height, width, np.random.default_rng([SEED, i]))
        alpha = box_mean((labels[i] > 0).astype(np.float32), 1)
        result[i] = on_ground(images.pixels[i].astype(np.float32), alpha, below).round().clip(0, 255)
    return result


def evaluate_grounds(
    model: str,
    data: str,
    *,
    split: str | None = None,
    seed: int = 0,
    size: int | None = None,
    mask_values: str = "auto",
    threads: int | None = None,
    device: Device = "cpu",
) -> Grounds:
    """The model's IoU on the objects of a labelled set on each ground, with guided edges, not cleaned.

    Everything is scored at `size` [pixels], by default the size that `evaluate` takes. Images without an object are
    skipped. `mask_values`, `threads` and `device` are as for `evaluate`.

    Raises ModelError, and DataError for a model of more than two regions and for a set without objects.
    """
    segmenter = Segmenter(model, threads, device=device)
    if segmenter.regions > 2:
        raise DataError(f"{model} has {segmenter.regions} regions, but --grounds needs a model of two regions")
    images = labelled_images(
        data, size, split=split, seed=seed, regions=segmenter.regions, built_in=segmenter.size, mask_values=mask_values
    )
    images = images.take(np.flatnonzero((images.labels() > 0).any((1, 2))))
    if not len(images):
        raise DataError(f"{images.name} has no mask with an object, but --grounds needs objects to move")

    def scored(pixels: NDArray[np.uint8], labels: NDArray[np.int8]) -> metrics.Scores:
        return metrics.score(segmenter.batch(pixels)[:, segmenter.object_region] > 0.5, labels)

    own = scored(np.asarray(images.pixels), images.labels())
    truth = (images.labels() > 0).astype(np.int8)
    found: dict[str, GroundScores] = {}
    for ground in (*PLAIN, OTHERS):
        scores = scored(pasted(images, ground), truth)
        found[ground] = {
            "iou": scores.iou,
            "iou_interval": metrics.bootstrap_interval(scores.ious),
            "failures": float((scores.ious < 0.5).mean()),
        }
    worst = min(found, key=lambda name: found[name]["iou"])
    return {
        "model": model,
        "data": images.name,
        "split": split or "",
        "size": images.size,
        "pictures": len(images),
        "iou": own.iou,
        "iou_interval": metrics.bootstrap_interval(own.ious),
        "grounds": found,
        "worst_ground": worst,
        "worst_iou": found[worst]["iou"],
        **about_set(data, images.bad, images.notes),
    }


def print_grounds(result: Grounds, console: Console) -> None:
    """A row for each ground, percentages."""
    where = f"{result['data']}{' ' + result['split'] if result['split'] else ''}"
    table = Table(title=f"{where}, {result['pictures']} pictures at {result['size']} px, %", title_justify="left")
    for column in ("ground", "iou", "95 % interval", "under 50"):
        table.add_column(column, justify="left" if column == "ground" else "right")
    low, high = result["iou_interval"]
    table.add_row("as photographed", f"{100 * result['iou']:.1f}", f"{100 * low:.1f} to {100 * high:.1f}", "")
    for name, row in result["grounds"].items():
        low, high = row["iou_interval"]
        cells = (f"{100 * row['iou']:.1f}", f"{100 * low:.1f} to {100 * high:.1f}", f"{100 * row['failures']:.0f}")
        table.add_row(name, *cells)
    print_table(table, console)
    console.print(
        f"the background with the lowest score: {result['worst_ground']}, iou {100 * result['worst_iou']:.1f} %",
        highlight=False,
        soft_wrap=True,
    )
