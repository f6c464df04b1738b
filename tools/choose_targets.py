"""Which masks the second stage should learn from: their IoU, by cut and by the measure that keeps them, on `dev`.

    python tools/choose_targets.py runs/photos-flowers prepared/flowers17 runs/butterflies prepared/butterflies

RUN and DATA in turns: a run with a second stage, and a prepared set with masks. The masks of the first stage, if the
run has one, and those of the second stage's network are cut by GrabCut and by the mean field. Labels are for this look
alone.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from redoseg import metrics
from redoseg.config.schema import Config
from redoseg.data import ImageSet, open_data
from redoseg.errors import RedosegError
from redoseg.nets.unet import student_extractor
from redoseg.run_folder import RunFolder
from redoseg.train.checkpoint import restore
from redoseg.train.doubt import disagreement, raggedness
from redoseg.train.loader import ImageStore
from redoseg.train.refine import make_targets
from redoseg.train.refined import load_refined
from redoseg.train.state import TrainState


def main(arguments: list[str]) -> None:
    for run, data in zip(arguments[::2], arguments[1::2], strict=True):
        folder = RunFolder(Path(run))
        state = TrainState.load(folder.state, torch.device("cpu"))
        config = state.config
        print(f"{run}, {data}, dev, iou")
        if state.step:
            look("first stage", state.average.nets["extractor"], config.data.size, config, data)
        tensors = load_refined(folder.refined, config, step=state.step, restarts=state.restarts)
        if tensors is not None:
            student = student_extractor(config)
            restore(student, tensors, folder.refined)
            look("second stage", student.eval().requires_grad_(False), config.refined_size, config, data)


def look(stage: str, network: nn.Module, size: int, config: Config, data: str) -> None:
    """Print the IoU of this network's masks, uncut and cut, and of those that would be kept."""
    seen, fine = (open_data(data, side, regions=2, split="dev") for side in (size, config.refined_size))
    coarse_bank, fine_bank = (ImageStore(images, config, torch.device("cpu")) for images in (seen, fine))
    for cut in ("off", "grabcut", "mean-field"):
        targets = make_targets(
            network, coarse_bank, fine_bank, np.arange(len(fine)), cut=cut, config=config.refine, stop=lambda: False
        )
        assert targets is not None
        before, masks = targets
        doubt = raggedness(masks, 2) if cut == "off" else disagreement(before, masks)
        if cut == "off":
            inner = metrics.object_region(np.stack([masks == 0, masks == 1], 1).astype(np.float32))
        objects, order = masks == inner, np.argsort(doubt, kind="stable")
        kept = ", ".join(
            f"{share:.0%} {iou(objects, fine, order[: round(share * len(order))])}" for share in (0.25, 0.5, 0.75)
        )
        measure = "least ragged" if cut == "off" else "changed least"
        print(f"  {stage}, {fine.size} px, {cut}: {iou(objects, fine, order)}; {measure}: {kept}", flush=True)


def iou(objects: np.ndarray, images: ImageSet, part: np.ndarray) -> str:
    return f"{100 * metrics.score(objects[part], images.labels(part)).iou:.1f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", metavar="RUN DATA", help="a run and a prepared set, in turns")
    pairs = parser.parse_args().pairs
    if len(pairs) % 2:
        parser.error(f"{pairs[-1]} has no set beside it")
    try:
        main(pairs)
    except RedosegError as error:
        sys.exit(f"choose_targets: {error}")
