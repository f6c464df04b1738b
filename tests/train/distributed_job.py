"""What tests/train/test_distributed.py runs in two processes at once, and once alone.

Both players' gradients, and all they hold.

Arguments: a list of configurations as JSON, and the file to write to.
"""

from __future__ import annotations

import json
import os
import sys

import torch
from safetensors.torch import save_file
from torch import Tensor

from redoseg.config.recipe import from_values
from redoseg.config.schema import Config
from redoseg.data import open_shapes
from redoseg.train import distributed
from redoseg.train.loader import BatchLoader, ImageStore
from redoseg.train.loop import _of_batch
from redoseg.train.state import TrainState

STEPS = 2  # power iterations and moments have moved by then


def wide(tensor: Tensor) -> Tensor:
    """`Tensor.float` that leaves float64 unchanged: the networks end in float32 whatever they compute in."""
    return tensor if tensor.dtype == torch.float64 else tensor.to(torch.float32)


def gradients(config: Config) -> dict[str, Tensor]:
    """Gradients, losses, weights, buffers and the moving average after STEPS steps in float64."""
    state = TrainState.fresh(config, torch.device("cpu"))
    for module in (state.redrawer, state.discriminator, state.average.nets):
        module.double()
    pictures = open_shapes("shapes", config.data.size, regions=config.nets.regions, split="train", count=24)
    store = ImageStore(pictures, config, torch.device("cpu"))
    redrawer = distributed.wrap_ddp(state.redrawer, state.redrawer.reads)
    discriminator = distributed.wrap_ddp(state.discriminator)
    found: dict[str, Tensor] = {}
    with BatchLoader(store, config) as feed:
        feed.begin(0, 1)
        for step in range(1, STEPS + 1):
            batch = feed.take()
            latents, changes = batch.drawn.latents.double(), batch.drawn.changes.double()
            drawn = (latents, batch.drawn.chosen)
            centre = state.redrawer.centre_pull(step)
            colours = state.redrawer.self_redraw_colours(batch.images.double())
            out = redrawer(
                batch.images.double(),
                *drawn,
                state.discriminator,
                changes=changes[0],
                centre=centre,
                colours=colours,
            )
            state.redrawer_optimiser.zero_grad()
            out["total"].backward()
            state.redrawer_optimiser.step()
            with torch.no_grad():
                fakes = state.redrawer.redraw(batch.images.double(), *drawn)[0]
            judged = discriminator(batch.real.double(), fakes, changes[1])
            state.discriminator_optimiser.zero_grad()
            judged["total"].backward()
            state.discriminator_optimiser.step()
            state.average.update(state.redrawer, step)
    for name, module in (("redrawer", state.redrawer), ("critic", state.discriminator)):
        found |= {f"gradient.{name}.{k}": p.grad for k, p in module.named_parameters() if p.grad is not None}
        found |= {f"state.{name}.{k}": t for k, t in module.state_dict().items()}
    found |= {f"state.average.{k}": t for k, t in state.average.nets.state_dict().items()}
    found |= {f"loss.{k}": t for terms in (out, judged) for k, t in _of_batch(terms).items() if k != "total"}
    return found


def several(configs: list[Config]) -> dict[str, Tensor]:
    """The same of each of these, names led by their number."""
    found: dict[str, Tensor] = {}
    for number, config in enumerate(configs):
        found |= {f"{number}.{k}": t.detach().contiguous().clone() for k, t in gradients(config).items()}
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.Tensor.float = wide  # type: ignore[method-assign]
    with distributed.process_group():
        found = several([from_values(values, "tests") for values in json.loads(sys.argv[1])])
        # what follows from the weights is the same in both, to the bit
        for name, tensor in found.items():
            assert all(torch.equal(other, tensor) for other in distributed.all_gather(tensor[None])), name
    if distributed.is_main():
        save_file(found, sys.argv[2])
    os._exit(0)  # as the command line does
