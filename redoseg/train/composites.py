"""Objects of a training batch put on other grounds, with exact masks: by their present masks, not by labels.

Copy-paste as in Ghiasi et al. (CVPR 2021), here without labels: what a network learns from a set alone includes the
grounds of that set, so that a flower on white is lost. Half of the new grounds are plain, half come from other images.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from redoseg.images.grounds import box_mean, on_ground, own_ground

SLOPE = 80.0  # greatest change of a plain ground from side to side [grey levels of 255]
NOISE = 8.0  # greatest standard deviation of its noise [grey levels of 255]


def on_other_grounds(
    images: UInt8[Tensor, "b h w 3"],
    objects: Bool[np.ndarray, "b h w"],
    share: float,
    rng: np.random.Generator,
) -> UInt8[Tensor, "b h w 3"]:
    """The images, of which about `share` show their objects on new grounds, so that the masks of objects stay right.

    A ground is one colour, every second time a grey, with a gradient and noise; or that of another image of the batch
    with its own object filled in from around it.
    """
    changed = images.cpu().numpy().copy()
    colours = changed.astype(np.float32)
    count, height, width = objects.shape
    for i in np.flatnonzero(rng.random(count) < share):
        if rng.random() < 0.5:
            ground = _plain(height, width, rng)
        else:
            other = (i + rng.integers(1, count)) % count if count > 1 else i
            ground = own_ground(colours[other], objects[other])
        alpha = box_mean(objects[i].astype(np.float32), 1)  # a seam that is as soft as edges in photographs
        changed[i] = on_ground(colours[i], alpha, ground).round().clip(0, 255)
    return torch.from_numpy(changed).to(images.device)


def _plain(height: int, width: int, rng: np.random.Generator) -> Float[np.ndarray, "h w 3"]:
    """A plain ground: a colour or a grey, brighter to one side, with noise."""
    colour = rng.uniform(0, 255, 3) if rng.random() < 0.5 else np.repeat(rng.uniform(0, 255), 3)
    y, x = np.linspace(-0.5, 0.5, height)[:, None], np.linspace(-0.5, 0.5, width)[None]
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, SLOPE)
    values = colour + slope * (np.cos(angle) * x + np.sin(angle) * y)[..., None]
    values = values + rng.uniform(0, NOISE) * rng.standard_normal((height, width, 3))
    return values.clip(0, 255).astype(np.float32)
