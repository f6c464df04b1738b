"""What a mask extractor makes of pictures: masks, region sizes, scores, sample grids. Nothing here trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from redoseg import metrics
from redoseg.config.schema import Config
from redoseg.data import ImageSet
from redoseg.images.texture import patches_of, texture_distance
from redoseg.run_folder import Entry
from redoseg.train.loader import ImageStore
from redoseg.train.state import TrainState

CHUNK = 64  # pictures in one forward pass
LOOKED_AT = 256  # training pictures that region sizes and the choice of the object are taken from
SAMPLE_IMAGES = 8


@torch.no_grad()
def soft_masks(
    extractor: torch.nn.Module, store: ImageStore, indices: Int[np.ndarray, " p"]
) -> Float[np.ndarray, "p n h w"]:
    """Soft masks of these pictures; those that do not change, where the store has such."""
    if store.masks is not None:
        return store.regions(indices).cpu().numpy()
    chunks = [indices[i : i + CHUNK] for i in range(0, len(indices), CHUNK)]
    return np.concatenate([extractor(store(chunk)).float().cpu().numpy() for chunk in chunks])


@dataclass(frozen=True)
class Watched:
    """Labelled pictures that are scored while training, and never anything else."""

    labelled: ImageSet
    store: ImageStore

    def scores(
        self, masks: Float[np.ndarray, "p n h w"], indices: Int[np.ndarray, " p"], region: int
    ) -> dict[str, float | int]:
        """Scores, named as in `redoseg evaluate --json`; empty without labels, matched for more than two regions."""
        labels = self.labelled.labels(indices)
        if not (labels >= 0).any():
            return {}
        if masks.shape[1] > 2:
            return metrics.score_matched(masks.argmax(1), labels, masks.shape[1])
        return metrics.score(masks[:, region] > 0.5, labels).as_dict()


@torch.no_grad()
def image_scores(
    extractor: torch.nn.Module, watched: ImageSet, *, size: int, region: int, config: Config, device: torch.device
) -> dict[str, list[float]]:
    """IoU of each labelled picture of a set at the set's own size, in its order, by split.

    The network sees the pictures at `size` [pixels]; its soft masks are enlarged by bilinear interpolation.
    """
    store = ImageStore(watched.resized(size), config, device)
    found: dict[str, list[float]] = {}
    for start in range(0, len(watched), CHUNK):
        indices = np.arange(start, min(start + CHUNK, len(watched)))
        masks = extractor(store(indices))[:, region : region + 1].float()
        large = F.interpolate(masks, size=(watched.size, watched.size), mode="bilinear")[:, 0].cpu().numpy()
        labels = watched.labels(indices)
        for i, index in enumerate(indices):
            if (labels[i] >= 0).any():
                iou = metrics.score(large[i : i + 1] > 0.5, labels[i : i + 1]).iou
                found.setdefault(watched.splits[index], []).append(round(iou, 4))
    return found


def evenly_spaced(count: int, most: int) -> Int[np.ndarray, " p"]:
    """At most `most` numbers spread evenly over range(count)."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def region_of(config: Config, masks: Float[np.ndarray, "p n h w"]) -> int:
    """Which region is the object, chosen without labels; the first where masks were given in that order."""
    return 0 if config.first_is_object else metrics.object_region(masks)


def evaluate_now(state: TrainState, store: ImageStore, watched: Watched | None, most: int) -> Entry:
    """Sizes and object region on training pictures, and scores on watched ones, of the moving average."""
    extractor = state.average.nets["extractor"]
    masks = soft_masks(extractor, store, evenly_spaced(len(store), LOOKED_AT))
    region = region_of(state.config, masks)
    entry: Entry = {
        "object_region": region,
        "average_sizes": [round(float(s), 5) for s in masks.mean((0, 2, 3))],
    }
    if watched is not None:
        indices = evenly_spaced(len(watched.labelled), most)
        masks = soft_masks(extractor, watched.store, indices)
        entry["watched_sizes"] = [round(float(s), 5) for s in masks.mean((0, 2, 3))]
        scores = watched.scores(masks, indices, region)
        entry |= cast(Entry, {k: round(float(v), 5) for k, v in scores.items() if k != "pictures"})
    if state.config.masks_stay:
        entry |= _textures(state, store)
    return entry


@torch.no_grad()
def _textures(state: TrainState, store: ImageStore) -> Entry:
    """How far drawn objects are from real ones by texture, and real ones from other real ones."""
    looked_at = evenly_spaced(len(store), LOOKED_AT)
    first, second = looked_at[::2], looked_at[1::2]
    images, masks = store(second), store.regions(second)[:, :1]
    latents = torch.randn((len(second), state.config.nets.latent), generator=torch.Generator().manual_seed(0))
    generator = state.average.nets["generators"].get_submodule("0")
    drawn = masks * generator(latents.to(images.device), masks) + (1 - masks) * images
    others = (_bytes(drawn, store.signed), _bytes(images, store.signed))
    inside = soft_masks(generator, store, looked_at)[:, 0] > 0.5
    real = patches_of(_bytes(store(first), store.signed), inside[::2], 0)
    try:
        redrawn, own = (texture_distance(real, patches_of(other, inside[1::2], 1)) for other in others)
    except ValueError:  # the masks are too small to compare what is in them
        return {}
    return {"texture": round(redrawn, 2), "texture_real": round(own, 2)}


def _bytes(batch: Float[Tensor, "k 3 h w"], signed: bool) -> UInt8[np.ndarray, "k h w 3"]:
    shown = (batch.float().cpu() + 1) * 127.5 if signed else batch.float().cpu() * 255
    return shown.clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def sample_rows(
    state: TrainState, extractor: torch.nn.Module, store: ImageStore, watched: Watched | None, region: int
) -> Sequence[NDArray[np.uint8]]:
    """Rows of a sample grid: pictures, object masks, each region redrawn, and the truth where there is one.

    Generators that have not learnt, since the run has no first stage, draw nothing.
    """
    config = state.config
    source = store if watched is None else watched.store
    indices = evenly_spaced(len(source), SAMPLE_IMAGES)
    images = source(indices)
    masks = extractor(images) if source.masks is None else source.regions(indices)
    shape = (len(indices), config.nets.regions, config.nets.latent)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(images.device)
    rows = [_bytes(images, store.signed)]
    rows += [_grey(masks[:, k].float().cpu().numpy() * 255) for k in _shown_regions(config, region)]
    for k, generator in enumerate(state.average.nets["generators"].children() if state.step else ()):
        mask = masks[:, k : k + 1]
        drawing = generator(latents[:, k], F.adaptive_avg_pool2d(mask, config.data.size))
        drawing = F.interpolate(drawing, size=mask.shape[-2:], mode="bilinear")
        if config.objective.mask_drawings:
            drawing = drawing * mask
        rows.append(_bytes(drawing + (1 - mask) * images, store.signed))
    if watched is not None:
        truth = watched.labelled.labels(indices).astype(np.float64)
        rows.append(_grey(np.where(truth < 0, 127, truth * 255 / max(1, config.nets.regions - 1))))
    return rows


def _shown_regions(config: Config, region: int) -> list[int]:
    return [region] if config.nets.regions == 2 else list(range(config.nets.regions))


def _grey(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.repeat(values.round().astype(np.uint8)[..., None], 3, -1)
