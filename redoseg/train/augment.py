"""Differentiable augmentation of what the discriminator sees (Zhao et al., NeurIPS 2020): colours and place.

Changed alike for real and redrawn pictures, so that a small set of pictures cannot be learnt by heart.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

FARTHEST = 1 / 8  # of the picture's side, by which it is moved at most


def augmented(images: Float[Tensor, "m 3 h w"], changes: Float[Tensor, "m 5"]) -> Float[Tensor, "m 3 h w"]:
    """Pictures, each with another brightness, saturation and contrast, moved over a grey ground.

    `changes` are numbers in 0..1: brightness, saturation, contrast, and the shift down and to the right. One half
    everywhere changes nothing. Gradients pass through to the pictures.
    """
    brightness, saturation, contrast = (c[:, None, None, None] for c in changes[:, :3].unbind(1))
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * 2 * saturation
    level = images.mean((1, 2, 3), keepdim=True)
    images = level + (images - level) * (0.5 + contrast)

    height, width = images.shape[-2:]
    down, right = (round(FARTHEST * side) for side in (height, width))
    padded = F.pad(images, (right, right, down, down)).movedim(1, -1)
    device = images.device
    rows = torch.arange(height, device=device) + ((1 - changes[:, 3:4]) * 2 * down).round().long()
    columns = torch.arange(width, device=device) + ((1 - changes[:, 4:5]) * 2 * right).round().long()
    which = torch.arange(len(images), device=device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
