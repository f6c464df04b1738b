"""Which masks the second stage should learn from: their IoU, by the measure that keeps them, on `dev` pictures.

python tools/choose_targets.py runs/photos-flowers prepared/flowers17 runs/butterflies prepared/butterflies

RUN and DATA in turns: a run of two stages of the recipe photos, and a prepared set with masks. Labels are for this
look alone.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from redoseg import metrics
from redoseg.data import open_data
from redoseg.train import refine
from redoseg.train.loader import ImageStore
from redoseg.train.measure import soft_masks
from redoseg.train.state import TrainState


def main(arguments: list[str]) -> None:
    for run, data in zip(arguments[::2], arguments[1::2], strict=True):
        state = TrainState.load(Path(run) / "state.safetensors", torch.device("cpu"))
        sizes = state.config.data.size, state.config.refined_size
        coarse, fine = (open_data(data, size, 2, "dev") for size in sizes)
        banks = [ImageStore(images, state.config, torch.device("cpu")) for images in (coarse, fine)]
        every, labels = np.arange(len(fine)), fine.labels()
        masks = soft_masks(state.average.nets["extractor"], banks[0], every)
        region = metrics.object_region(masks)
        before = refine._regions(masks, fine.size)
        after = before.copy()
        refine._cut_anew(banks[1], every, after, lambda: False)
        print(f"{run}, {data}: {len(every)} pictures at {fine.size} px, iou")
        print(f"  first stage {mean_iou(before == region, labels)}, cut anew {mean_iou(after == region, labels)}")
        for name, doubt in (
            ("least ragged", refine.raggedness(after, 2)),
            ("changed least", refine.disagreement(before, after)),
        ):
            order = np.argsort(doubt, kind="stable")
            kept = ((share, order[: round(share * len(order))]) for share in (0.25, 0.5, 0.75))
            shares = (f"{share:.0%} {mean_iou(after[part] == region, labels[part])}" for share, part in kept)
            print(f"  cut anew, {name}:", ", ".join(shares), flush=True)


def mean_iou(masks: np.ndarray, labels: np.ndarray) -> str:
    return f"{100 * metrics.score(masks, labels).iou:.1f}"


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1:])
