"""What a run reads: images to learn from, labelled ones that are watched, and masks to start the second stage from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from jaxtyping import UInt8
from rich.console import Console

from redoseg.config.schema import Config
from redoseg.data import BUILT_IN, ImageSet, is_prepared, local_folder, open_data
from redoseg.errors import ModelError, summed_up
from redoseg.inference.segmenter import Segmenter
from redoseg.run_folder import Outcome
from redoseg.train import distributed
from redoseg.train.compute import computing_dtype
from redoseg.train.corrections import Corrections
from redoseg.train.loader import ImageStore
from redoseg.train.measure import Watched
from redoseg.train.refined import network_digest
from redoseg.train.start_masks import StartMasks

CHUNK = 256  # pictures whose masks are made at once


def open_training_images(config: Config, size: int = 0) -> ImageSet:
    """The images to learn from, without their masks, at `size` or the larger of both stages'. Raises DataError."""
    data, size = config.data, size or config.largest_size
    if data.source in BUILT_IN:
        images = open_data(data.source, size, regions=config.nets.regions, split="train", count=data.pictures)
    else:
        source = str(local_folder(data.source))
        values = "auto" if is_prepared(source) else data.mask_values
        whole = open_data(source, size, regions=config.nets.regions, mask_values=values)
        everything = not data.split or not any(whole.splits) or (data.split == "train" and "train" not in whole.splits)
        images = whole if everything else whole.subset(data.split)
        if is_prepared(source):  # what was skipped when a set was prepared was reported then
            images = replace(images, bad=(), notes=())
    return replace(images, masks=None)


def open_watched_images(config: Config) -> ImageSet | None:
    """The images to score on while training, at that size too; None where the settings name none. Raises DataError.

    Where they have no masks, only the sizes of their regions are watched.
    """
    data = config.data
    if not data.evaluate_on:
        return None
    split = data.evaluate_split or None
    return open_data(
        data.evaluate_on, config.largest_size, regions=config.nets.regions, split=split, mask_values=data.mask_values
    )


def masks_that_stay(segmenter: Segmenter, images: ImageSet, size: int) -> UInt8[torch.Tensor, "p h w"]:
    """How much each pixel is the model's object, 0 to 255, at `size` [pixels]; of images at the model's own size.

    Raises ModelError where that is smaller than `size`.
    """
    side = segmenter.size // size
    if not side:
        raise ModelError(
            f"data.size is {size}, but the masks of nets.extractor_from have {segmenter.size} pixels; set --data.size "
            f"{segmenter.size} or less"
        )
    masks = np.empty((len(images), size, size), np.uint8)
    for start in range(0, len(images), CHUNK):
        some = segmenter.batch(np.asarray(images.pixels[start : start + CHUNK]))[:, segmenter.object_region]
        masks[start : start + CHUNK] = some.reshape(-1, size, side, size, side).mean((2, 4)) * 255 + 0.5
    return torch.from_numpy(masks)


@dataclass(frozen=True)
class StageData:
    """The images that a stage learns from and those that are only watched, at the size that it sees them."""

    store: ImageStore
    watched: Watched | None = None

    @classmethod
    def at(
        cls, size: int, images: ImageSet, watched: ImageSet | None, config: Config, device: torch.device
    ) -> StageData:
        """Both reduced to `size` [pixels]. Raises DataError where they are too many for the memory."""
        store = ImageStore(images.resized(size), config, device)
        if watched is None:
            return cls(store)
        watched = watched.resized(size)
        return cls(store, Watched(watched, ImageStore(watched, config, device)))


@dataclass(frozen=True)
class RunData:
    """What both stages of a run read."""

    images: ImageSet
    first: StageData
    rounds: tuple[StageData, ...]
    """For each round of the second stage; the same object where sizes are the same."""
    start: StartMasks | None
    """Masks that the second stage starts from; None where they are the first stage's."""
    corrections: Corrections | None = None
    """Masks that a person corrected; None where the settings name none."""
    kept_size: int = 0
    """Side at which the network sees pictures whose masks do not change; 0 where masks are learnt [pixels]."""
    kept: str = ""
    """A hash of that network; empty where masks are learnt."""

    @property
    def second(self) -> StageData:
        """That of the second stage's end; `first` where there is no second stage."""
        return self.rounds[-1] if self.rounds else self.first

    @property
    def labels(self) -> Outcome:
        """How many labels the second stage learns from, as its outcome says it; empty without."""
        return Outcome() if self.corrections is None else cast(Outcome, self.corrections.labels)

    @property
    def labels_digest(self) -> str:
        """A hash of these; empty without."""
        return "" if self.corrections is None else self.corrections.corrected.digest()

    @classmethod
    def open(cls, config: Config, device: torch.device) -> RunData:
        """Open it; a folder is prepared on first use. Only the main process watches and has a second stage.

        Raises DataError.
        """
        images = open_training_images(config)
        watched = open_watched_images(config) if distributed.is_main() else None
        start = None
        if config.has_second_stage and config.refine.start == "ground":
            start = StartMasks.on_ground(config.refine, images, config.round_size(1))
        elif config.has_second_stage:
            start = StartMasks.find(config.refine, images.names)
        corrections = None
        if config.has_second_stage and distributed.is_main():
            corrections = Corrections.find(config.refine, config.largest_size, images.names)
        first = StageData.at(config.data.size, images, watched, config, device)
        sizes = [config.round_size(number) for number in range(1, config.refine.rounds + 1)]
        if not distributed.is_main():
            sizes = []
        kept_size, kept = 0, ""
        if config.masks_stay:
            segmenter = Segmenter(config.nets.extractor_from, config.threads or None, edges="plain")
            kept_size, kept = segmenter.size, network_digest(config.nets.extractor_from)
            first.store.masks = masks_that_stay(segmenter, open_training_images(config, kept_size), config.data.size)
        at = {config.data.size: first}
        for size in sizes:
            if size not in at:
                at[size] = StageData.at(size, images, watched, config, device)
        return cls(
            images=images,
            first=first,
            rounds=tuple(at[size] for size in sizes),
            start=start,
            corrections=corrections,
            kept_size=kept_size,
            kept=kept,
        )


def announce(config: Config, data: RunData, console: Console) -> None:
    """Print what is trained on and how."""

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    images, store, processes = data.images, data.first.store, distributed.world_size()
    parts = ", ".join(sorted(set(images.splits) - {""}))
    say(f"training on {len(images):,} pictures of {images.name}{f' ({parts})' if parts else ''}")
    if processes > 1:
        say(f"in {processes} processes, with {config.batch // processes} pictures of each batch in each")
    if config.data.resident == "auto" and store.resident is None:
        say("reading pictures from disk, since they need more than a quarter of the free memory")
    if config.precision == "auto":
        say(f"computing in {str(computing_dtype(config.precision, store.device)).removeprefix('torch.')}")
    if data.corrections is not None:
        say(data.corrections.in_words())
        images = data.corrections.reported(images)
    for note in images.notes:
        say(f"note: {note}")
    for path, why in summed_up(images.bad, len(images)):
        say(f"skipped: {path}: {why}")
