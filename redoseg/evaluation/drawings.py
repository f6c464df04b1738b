"""How real drawings look: `evaluate --redraw`. No labels are used: the object is where the model's own mask is."""

from __future__ import annotations

from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from redoseg.data import PAPER_SIZE, is_prepared, open_data
from redoseg.data.prepared import open_prepared
from redoseg.errors import DataError
from redoseg.evaluation.results import AboutSet, about_set
from redoseg.evaluation.tables import print_table
from redoseg.images.texture import Images, Masks, mean_coloured, patches_of, shuffled, texture_distance
from redoseg.inference.redraw import RedrawModel, Reduced

SEEDS = (0, 1, 2)  # of patches and projections
LEAST = 4  # images in each half
WITHIN = 0.05  # share of an image that its object has at least; smaller ones have too few patches
Where = Literal["object", "whole"]


class Textures(TypedDict):
    """Distances to real images by texture, each the mean over SEEDS; the lower, the more alike."""

    redrawn: float
    redrawn_spread: float
    """Largest minus smallest of the seeds."""
    real: float
    """The floor: other real images."""
    shuffled: float
    """The object's own pixels in another order: the colours are right, the texture is not."""
    mean_colour: float


class Drawings(AboutSet):
    """What `evaluate --redraw` finds of objects that are drawn from random latents."""

    model: str
    data: str
    split: str
    size: int
    """Side of the drawings [pixels]."""
    pictures: int
    texture: dict[Where, Textures]
    """Within the object's mask, and of whole images with their object redrawn."""
    diversity: float
    """How far two drawings of one object are apart, for each pixel, as a share of `diversity_real`."""
    diversity_real: float
    """How far two real objects are apart where their masks overlap, root mean square [grey levels]."""
    latents_recovered: float
    """R2 of latents that the encoder reads off the drawings made from them; 1 is all, 0 nothing."""
    nearest: float
    """Distance from a drawn object to the nearest real one, the mean, root mean square [grey levels]."""
    nearest_real: float
    """The same from a real object."""


def evaluate_drawings(
    model: str, data: str, *, split: str | None = None, seed: int = 0, threads: int | None = None
) -> Drawings:
    """Compare objects that the model draws with the real ones of a set, at the size of the drawings.

    The images are dealt into two halves. Those of the second are redrawn, and compared with the first; so are the
    second half's real ones, which gives the floor. Images whose object has less than 5 % of it are left out.
    Raises ModelError (the model does not draw) and DataError (fewer than 8 images).
    """
    drawer = RedrawModel(model, threads)
    size = open_prepared(data).size if is_prepared(data) else PAPER_SIZE
    images = open_data(data, size, regions=drawer.regions, split=split, seed=seed, at_least=1)
    every = drawer.reduced([Image.fromarray(pixels) for pixels in np.asarray(images.pixels)])
    inside = every.masks[:, drawer.segmenter.object_region] > 0.5
    kept = np.flatnonzero(inside.mean((1, 2)) >= WITHIN)
    if len(kept) < 2 * LEAST:
        raise DataError(
            f"{images.name} has {len(kept)} pictures in which this model finds an object of 5 % or more, but --redraw "
            f"needs {2 * LEAST}; choose a larger set, or a model of such objects"
        )
    kept = np.random.default_rng(seed).permutation(kept)
    first, second = kept[: len(kept) // 2], kept[len(kept) // 2 :]
    of_second = Reduced(every.seen[second], every.masks[second])
    latents = drawer.random_latents(2 * len(second), seed)
    drawn, again = (drawer.object_redrawn(of_second, part) for part in (latents[::2], latents[1::2]))
    own, (redrawn, redrawn_again) = drawer.pixels(every), (drawer.pixels(images) for images in (drawn, again))
    read = drawer.latents_of(drawn)[:, drawer.segmenter.object_region]
    given = latents[::2, drawer.segmenter.object_region]
    diversity_real = _apart_where_both(own[second], inside[second], seed)
    return {
        "model": model,
        "data": images.name,
        "split": split or "",
        "size": every.seen.shape[-1],
        "pictures": len(kept),
        "texture": {
            "object": _textures(own[first], inside[first], own[second], inside[second], redrawn, within=True),
            "whole": _textures(own[first], inside[first], own[second], inside[second], redrawn, within=False),
        },
        "diversity": float(_apart(redrawn, redrawn_again, inside[second]).mean()) / max(diversity_real, 1e-9),
        "diversity_real": diversity_real,
        "latents_recovered": 1 - float(((read - given) ** 2).sum() / ((given - given.mean(0)) ** 2).sum()),
        "nearest": _nearest(redrawn, inside[second], own[first]),
        "nearest_real": _nearest(own[second], inside[second], own[first]),
        **about_set(data, images.bad, images.notes),
    }


def _textures(real: Images, real_masks: Masks, own: Images, masks: Masks, redrawn: Images, *, within: bool) -> Textures:
    """Distances from `real` images to the redrawn ones, and to three others made of the same images."""
    others = {
        "redrawn": redrawn,
        "real": own,
        "shuffled": shuffled(own, masks),
        "mean_colour": mean_coloured(own, masks),
    }
    found: dict[str, list[float]] = {name: [] for name in others}
    for seed in SEEDS:
        patches = patches_of(real, real_masks if within else None, 2 * seed)
        for name, images in others.items():
            compared = patches_of(images, masks if within else None, 2 * seed + 1)
            found[name].append(texture_distance(patches, compared, seed))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    return {
        "redrawn": means["redrawn"],
        "redrawn_spread": max(found["redrawn"]) - min(found["redrawn"]),
        "real": means["real"],
        "shuffled": means["shuffled"],
        "mean_colour": means["mean_colour"],
    }


def _apart(first: Images, second: Images, masks: Masks) -> NDArray[np.float64]:
    """Root mean square difference within each mask [grey levels] of images (N, S, S, 3): (N,)."""
    squares = ((first.astype(np.float64) - second) ** 2).mean(3)
    return np.sqrt((squares * masks).sum((1, 2)) / np.maximum(1, masks.sum((1, 2))))


def _apart_where_both(images: Images, masks: Masks, seed: int) -> float:
    """How far each object is from that of another image, where both are."""
    other = np.roll(np.random.default_rng(seed).permutation(len(images)), 1)
    order = np.roll(other, 1)
    both = masks[order] & masks[other]
    apart = _apart(images[order], images[other], both)
    return float(apart[both.any((1, 2))].mean()) if both.any() else 0.0


def _nearest(images: Images, masks: Masks, among: Images) -> float:
    """The mean over images of the least difference within the mask to any of the images `among`."""
    nearest = [
        _apart(np.broadcast_to(image, among.shape), among, np.broadcast_to(mask, among.shape[:3])).min()
        for image, mask in zip(images, masks, strict=True)
    ]
    return float(np.mean(nearest))


def print_drawings(result: Drawings, console: Console) -> None:
    """A row for the drawings and one for each set of images that they are compared with."""
    where = f"{result['data']}{' ' + result['split'] if result['split'] else ''}"
    table = Table(
        title=f"{where}, {result['pictures']} pictures at {result['size']} px: distance to real ones by texture",
        title_justify="left",
    )
    for column in ("", "in the object", "whole picture"):
        table.add_column(column, justify="right" if column else "left")
    rows: tuple[tuple[str, Literal["redrawn", "real", "shuffled", "mean_colour"]], ...] = (
        ("objects redrawn", "redrawn"),
        ("other real pictures", "real"),
        ("own pixels, shuffled", "shuffled"),
        ("one mean colour", "mean_colour"),
    )
    for title, name in rows:
        table.add_row(title, *(f"{result['texture'][where][name]:.0f}" for where in ("object", "whole")))
    print_table(table, console)
    lines = (
        f"two drawings of one object differ {100 * result['diversity']:.0f} % as much as two real objects do",
        f"of the latents, the encoder reads {100 * result['latents_recovered']:.0f} % off the drawings (R2)",
        f"the nearest real object is {result['nearest']:.0f} grey levels from a drawn one, and "
        f"{result['nearest_real']:.0f} from a real one",
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
