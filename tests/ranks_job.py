"""What tests/test_ranks.py runs in several processes at once: the gradients of both players, and what they hold.

Arguments: the settings as JSON (a list of {"nets.norm": ...}), and the file to write to. Alone, it does the same.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from conftest import TINY
from safetensors.torch import save_file
from torch import Tensor

from redoseg.data import open_shapes
from redoseg.recipe import flat, from_values, nested
from redoseg.train import ranks
from redoseg.train.feed import Feed, PictureBank
from redoseg.train.loop import _of_batch
from redoseg.train.state import TrainState

STEPS = 2  # power iterations and moments have moved by then


def gradients(settings: dict[str, object]) -> dict[str, Tensor]:
    """Gradients, losses, weights, buffers and the moving average after STEPS steps in float64."""
    config = from_values(nested(flat(TINY) | settings), "tests")
    state = TrainState.fresh(config, torch.device("cpu"))
    for module in (state.redrawer, state.critic, state.average.nets):
        module.double()
    pictures = open_shapes("shapes", config.data.size, config.nets.regions, "train", count=24)
    bank = PictureBank(pictures, config, torch.device("cpu"))
    redrawer = ranks.together(state.redrawer, state.redrawer.reads)
    critic = ranks.together(state.critic)
    found: dict[str, Tensor] = {}
    with Feed(bank, config) as feed:
        feed.begin(0, 1)
        for step in range(1, STEPS + 1):
            batch = feed.take()
            latents, changes = batch.drawn.latents.double(), batch.drawn.changes.double()
            out = redrawer(batch.pictures.double(), latents, batch.drawn.chosen, state.critic, step, changes[0])
            state.redrawer_optimiser.zero_grad()
            out["total"].backward()
            state.redrawer_optimiser.step()
            judged = critic(batch.real.double(), out["fakes"], changes[1])
            state.critic_optimiser.zero_grad()
            judged["total"].backward()
            state.critic_optimiser.step()
            state.average.update(state.redrawer, step)
    for name, module in (("redrawer", state.redrawer), ("critic", state.critic)):
        found |= {f"gradient.{name}.{k}": p.grad for k, p in module.named_parameters() if p.grad is not None}
        found |= {f"state.{name}.{k}": t for k, t in module.state_dict().items()}
    found |= {f"state.average.{k}": t for k, t in state.average.nets.state_dict().items()}
    found |= {f"loss.{k}": t for terms in (out, judged) for k, t in _of_batch(terms).items() if k != "total"}
    return found


def main() -> None:
    torch.set_num_threads(1)
    torch.Tensor.float = lambda self: self if self.dtype == torch.float64 else self.to(torch.float32)  # type: ignore[method-assign]
    found: dict[str, Tensor] = {}
    with ranks.joined():
        for number, settings in enumerate(json.loads(sys.argv[1])):
            found |= {f"{number}.{k}": t.detach().contiguous().clone() for k, t in gradients(settings).items()}
        # is what follows from the weights the same on every rank, to the bit?
        for k, t in found.items():
            everywhere = ranks.gathered(t[None])
            assert ".loss." in k or all(torch.equal(other, t) for other in everywhere), k
    save_file(found, Path(sys.argv[2]).with_suffix(f".{ranks.rank()}"))


main()
