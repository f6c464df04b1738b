"""The extractor that the second stage of a run gave: saved, found again, and taken over by another run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from redoseg.config.recipe import anywhere, from_values, to_values
from redoseg.config.schema import Config
from redoseg.errors import ModelError
from redoseg.files import printable
from redoseg.nets.mask_extractor import MaskExtractor
from redoseg.nets.unet import UNet
from redoseg.run_folder import RunFolder
from redoseg.train.checkpoint import Saved, load_saved, part, restore, save_checkpoint


def save_refined(path: Path, extractor: nn.Module, config: Config, restarts: int) -> None:
    """Write the extractor that the second stage of this attempt gave."""
    about: Saved = {"config": to_values(config), "restarts": restarts}
    save_checkpoint(path, extractor.state_dict(), about)


def load_refined(path: Path, config: Config, *, step: int, restarts: int) -> dict[str, Tensor] | None:
    """The weights that `save_refined` wrote, if they belong to a run of this `config` that is at `step`; else None.

    They do not where the run has to redraw further first, has other settings (`speed` and paths of pictures aside), or
    has started again since. ModelError where `path` is another kind of file.
    """
    if step < config.first_steps or not path.is_file():
        return None
    tensors, about = load_saved(path)
    return tensors if is_of_run(about, config, restarts, path) else None


def is_of_run(about: Saved, config: Config, restarts: int, path: Path) -> bool:
    """Whether what `path` has was made with these settings (`speed` and paths of pictures aside), in this attempt."""
    # read as a config, so that a setting that redoseg got later is not a difference
    then = replace(from_values(about["config"], str(path)), speed=config.speed)
    return anywhere(then) == anywhere(config) and about.get("restarts") == restarts


def take_over(extractor: MaskExtractor | UNet, run: str) -> None:
    """Load into `extractor` what the run in this folder learnt, with the object in region 0.

    That is the second stage's, if the run has finished one. Raises ModelError where the folder is not a run, has not
    said yet which region is the object, or has another network.
    """
    folder = RunFolder(Path(run).expanduser())
    if not folder.state.is_file():
        raise ModelError(
            f"nets.extractor_from is {printable(run)}, which is not a run folder; choose one made by `redoseg train`"
        )
    tensors, about = load_saved(folder.state)
    config = from_values(about["config"], str(folder.state))
    found = load_refined(folder.refined, config, step=about.get("step", 0), restarts=about["restarts"])
    seen = folder.read_outcome().get("object_region")
    if seen is None or (found is None and not about.get("step")):
        raise ModelError(
            f"nets.extractor_from is {printable(run)}, which has no masks yet; choose a run that has finished"
        )
    restore(extractor, found or part("average.extractor", tensors), folder.path)
    if seen == 1:  # of two regions the head gives the first one's logit, and the other is the rest
        for values in extractor.head.parameters():
            values.data.neg_()
