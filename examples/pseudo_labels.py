"""Train an ordinary U-Net on masks that redoseg draws on unlabelled photographs, and score both on labelled ones.

python examples/pseudo_labels.py --unlabelled photos/ --labelled labelled/ --out runs/pseudo

Labels are opened only after the training has ended: they enter no target, no choice of pictures and no stopping.
"""

from __future__ import annotations

import io
import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from redoseg import Segmenter, metrics
from redoseg.data import ImageSet, open_data
from redoseg.errors import DataError, RedosegError, RunError
from redoseg.files import write_atomic
from redoseg.images.draw import grid, outline
from redoseg.train.checkpoint import (
    load_checkpoint,
    optimiser_tensors,
    part,
    prefixed,
    restore_optimiser,
    save_checkpoint,
)
from redoseg.train.compute import autocast

NOT_LEARNT = ("labelled", "split", "out", "threads", "every", "resume")  # settings that do not change the weights


@dataclass(frozen=True)
class Settings:
    unlabelled: str  # photographs to learn from: a folder or a prepared set; masks in it are not read
    labelled: str  # photographs with masks to score on: a folder with images/ and masks/, or a prepared set
    out: Path  # folder for unet.safetensors, results.json and examples.png
    split: str | None = None  # score on this split of the labelled set alone
    model: str = "flowers"  # draws the pseudo-labels: weights that come with redoseg, or a run folder
    keep: float = 0.6  # share of the pictures to learn from: those with the surest masks
    targets: Literal["soft", "hard"] = "soft"  # the masks unchanged, or cut at 0.5
    size: int = 128  # side of the pictures, a multiple of 32 [pixels]; the first half of the steps sees half of it
    width: int = 16  # channels of the U-Net's first level; 16 gives 1.9 million parameters
    steps: int = 2400
    batch: int = 16
    rate: float = 2e-3  # highest learning rate: it rises over a twentieth of the steps and falls as a cosine
    seed: int = 0
    threads: int = 1  # CPU threads
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    every: int = 200  # steps between checkpoints
    resume: bool = False  # continue from the checkpoint; a training that has ended is only scored again


# 1. Pseudo-labels: masks of every unlabelled picture, and which of them to learn from


def pseudo_labels(segmenter: Segmenter, images: np.ndarray) -> np.ndarray:
    """Soft object masks (n, h, w) from 0 to 1 of pictures uint8 (n, h, w, 3)."""
    return segmenter.batch(images)[:, segmenter.object_region]


def chosen(masks: np.ndarray, keep: float) -> np.ndarray:
    """Numbers of the masks (n, h, w) of 0 to 255 to learn from: the surest share, none all but empty or full.

    How sure a mask is: the mean over its pixels of |2m - 1|, m from 0 to 1; 1 where every pixel is decided.
    """
    area = np.array([(mask > 127).mean() for mask in masks])
    sure = np.array([np.abs(mask / 127.5 - 1).mean() for mask in masks])
    whole = np.flatnonzero((area > 0.03) & (area < 0.9))
    if not len(whole):
        raise DataError(
            "every mask is almost empty or full, so nothing can be learnt; choose a model for such pictures"
        )
    surest = whole[np.argsort(-sure[whole], kind="stable")]
    return np.sort(surest[: max(1, round(keep * len(masks)))])


# 2. An ordinary supervised network that knows nothing of redoseg


class UNet(nn.Module):
    """Ronneberger et al. 2015, padded and with batch norm: pictures (b, 3, h, w) -> logits (b, 1, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w = [width * 2**level for level in range(5)]
        self.down = nn.ModuleList(self.double(i, o) for i, o in zip([3, *w[:4]], w, strict=True))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in w[:4])
        self.up = nn.ModuleList(self.double(2 * c, c) for c in w[:4])
        self.last = nn.Conv2d(width, 1, 1)

    @staticmethod
    def double(i: int, o: int) -> nn.Sequential:
        first = nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)
        return nn.Sequential(
            *first, nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        levels = [x := self.down[0](x)]
        for down in self.down[1:]:
            levels.append(x := down(F.max_pool2d(x, 2)))
        for level in (3, 2, 1, 0):
            x = self.up[level](torch.cat([levels[level], self.grow[level](x)], 1))
        return self.last(x)


def augment(images: Tensor, masks: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mirror, zoom, turn and shift pictures with their masks; change the pictures' colours."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (len(images), *shape)).astype(np.float32))

    zoom, turn, mirror, shift = uniform(0.6, 1.4), uniform(-0.35, 0.35), uniform(-1, 1).sign(), uniform(-0.25, 0.25, 2)
    sine, cosine = zoom * turn.sin(), zoom * turn.cos()
    maps = torch.stack([cosine * mirror, -sine, shift[:, 0], sine * mirror, cosine, shift[:, 1]], 1).view(-1, 2, 3)
    places = F.affine_grid(maps, list(images.shape), align_corners=False)
    both = F.grid_sample(torch.cat([images, masks], 1), places, padding_mode="reflection", align_corners=False)
    seen = both[:, :3] * uniform(0.7, 1.3, 3, 1, 1)  # gain of each colour
    grey = seen.mean(1, keepdim=True)
    seen = grey + (seen - grey) * uniform(0.6, 1.4, 1, 1, 1)  # saturation
    level = seen.mean((1, 2, 3), keepdim=True)
    return (level + (seen - level) * uniform(0.6, 1.4, 1, 1, 1)).clamp(0, 1), both[:, 3:]  # contrast


def train(images: np.ndarray, masks: np.ndarray, s: Settings) -> tuple[UNet, list[dict[str, float]]]:
    """A U-Net that has learnt the masks, and the log. What a step draws depends on the seed and its number alone."""
    torch.manual_seed(s.seed)
    net = UNet(s.width).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    file, begun, log = s.out / "unet.safetensors", 0, []
    settings = {key: value for key, value in asdict(s).items() if key not in NOT_LEARNT}
    if file.exists():
        tensors, about = load_checkpoint(file)
        if about["settings"] != settings:
            raise RunError(f"{file} was made with other settings; repeat those, or choose another --out")
        net.load_state_dict(part("net", tensors))
        restore_optimiser(optimiser, part("optimiser", tensors))
        begun, log = about["step"], about["log"]
    clock, loss_mean = time.monotonic(), 0.0
    for step in range(begun + 1, s.steps + 1):
        rng = np.random.default_rng([s.seed, step])
        some = rng.integers(0, len(images), s.batch)
        seen, wanted = torch.from_numpy(images[some]).permute(0, 3, 1, 2), torch.from_numpy(masks[some])[:, None]
        seen, wanted = augment(seen / 255, wanted / 255, rng)
        if step <= s.steps // 2:
            seen, wanted = F.avg_pool2d(seen, 2), F.avg_pool2d(wanted, 2)
        with autocast(s.precision, torch.device("cpu")):
            logits = net(seen.contiguous(memory_format=torch.channels_last))
        loss = F.binary_cross_entropy_with_logits(logits.float(), wanted)
        optimiser.zero_grad()
        loss.backward()
        for group in optimiser.param_groups:
            group["lr"] = s.rate * min(20 * step / s.steps, (1 + math.cos(math.pi * step / s.steps)) / 2)
        optimiser.step()
        loss_mean += (loss.item() - loss_mean) / min(step - begun, 50)
        if step % 50 == 0 or step == s.steps:
            seconds = time.monotonic() - clock
            log.append({"step": step, "loss": round(loss_mean, 4), "seconds": round(seconds, 1)})
            costs = np.where(np.arange(s.steps) < s.steps // 2, 1, 4)  # half the side, a quarter of the pixels
            left = seconds * costs[step:].sum() / costs[begun:step].sum() / 60
            print(f"step {step} of {s.steps}, loss {loss_mean:.4f}, {left:.1f} min left", flush=True)
        if step % s.every == 0 or step == s.steps:
            state = prefixed("net", net.state_dict()) | prefixed("optimiser", optimiser_tensors(optimiser))
            save_checkpoint(file, state, {"settings": settings, "step": step, "log": log})
    return net.eval(), log


# 3. Both on the same labelled pictures


@torch.no_grad()
def predict(net: UNet, images: np.ndarray, precision: str) -> np.ndarray:
    """Object masks, bool (n, h, w), of pictures uint8 (n, h, w, 3)."""
    with autocast(precision, torch.device("cpu")):
        parts = np.array_split(images, len(images) // 32 + 1)
        return np.concatenate([net(torch.from_numpy(p).permute(0, 3, 1, 2) / 255)[:, 0].float() > 0 for p in parts])


def compare(net: UNet, segmenter: Segmenter, test: ImageSet, s: Settings) -> dict[str, Any]:
    """IoU before and after, 95 % intervals over pictures, of the change over its pairs; writes examples.png."""
    images, labels = np.array(test.pixels), test.labels()
    before, after = pseudo_labels(segmenter, images) > 0.5, predict(net, images, s.precision)
    a, b = metrics.score(before, labels), metrics.score(after, labels)
    gain = b.ious - a.ious
    order, middle = np.argsort(-gain, kind="stable"), len(gain) // 2
    shown = [*order[:3], *order[max(middle - 1, 0) : middle + 2], *order[-3:]]  # best, median and worst change
    tiles = [[Image.fromarray(images[i]) for i in shown]]
    tiles += [[outline(Image.fromarray(images[i]), m[i]) for i in shown] for m in (before, after, labels > 0)]
    buffer = io.BytesIO()
    grid(tiles).save(buffer, "PNG")
    write_atomic(s.out / "examples.png", buffer.getvalue())
    return {
        "pictures": a.pictures,
        "before": {"iou": a.iou, "interval": metrics.bootstrap_interval(a.ious), "accuracy": a.accuracy},
        "after": {"iou": b.iou, "interval": metrics.bootstrap_interval(b.ious), "accuracy": b.accuracy},
        "gain": {"iou": gain.mean(), "interval": metrics.bootstrap_interval(gain), "better": (gain > 0).mean()},
        "shown": {test.names[i]: round(gain[i], 4) for i in shown},
    }


def main(s: Settings) -> None:
    torch.set_num_threads(s.threads)
    if (s.out / "unet.safetensors").exists() and not s.resume:
        raise RunError(f"{s.out} has a training in it; add --resume, or choose another --out")
    segmenter, images = Segmenter(s.model, s.threads), open_data(s.unlabelled, s.size).pixels
    s.out.mkdir(parents=True, exist_ok=True)
    masks = np.empty(images.shape[:3], np.uint8)
    for start in range(0, len(images), 256):
        some = slice(start, start + 256)
        masks[some] = np.rint(255 * pseudo_labels(segmenter, np.array(images[some])))
    kept = chosen(masks, s.keep)
    print(f"{len(kept)} of {len(images)} pictures kept to learn from", flush=True)
    targets = masks[kept] if s.targets == "soft" else 255 * (masks[kept] > 127).astype(np.uint8)
    net, log = train(images[kept], targets, s)

    test = open_data(s.labelled, s.size, split=s.split, at_least=1)
    test = test.take(np.flatnonzero((test.labels() >= 0).any((1, 2))))
    if not len(test):
        raise DataError(f"{s.labelled} has no masks to score on; choose another --labelled, and add --resume")
    result = {"settings": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(s).items()}, "kept": len(kept)}
    result |= compare(net, segmenter, test, s)
    write_atomic(s.out / "results.json", json.dumps(result | {"log": log}, indent=1).encode())
    for name in ("before", "after", "gain"):
        low, high = result[name]["interval"]
        print(f"{name:6} IoU {100 * result[name]['iou']:.1f} (95 % interval {100 * low:.1f} to {100 * high:.1f})")


if __name__ == "__main__":
    try:
        main(tyro.cli(Settings, description=__doc__))
    except RedosegError as error:
        sys.exit(f"pseudo_labels: {error}")
    except KeyboardInterrupt:
        print("stopped: the same command with --resume continues from the last checkpoint", file=sys.stderr)
        sys.exit(130)
