"""The extractor that the second stage of a run gave: saved, found again, and taken over by another run."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import onnx
from torch import Tensor, nn

from redoseg.config.recipe import anywhere, from_values, to_values
from redoseg.config.schema import Config
from redoseg.errors import ModelError
from redoseg.files import at_home, printable
from redoseg.inference.model_file import find_model
from redoseg.inference.segmenter import Segmenter
from redoseg.nets.mask_extractor import MaskExtractor
from redoseg.nets.unet import UNet
from redoseg.onnx_export.unet import unet_tensors
from redoseg.run_folder import CONFIG_FILE, MODEL_FILE, STATE_FILE, WEIGHTS_FILE, RunFolder
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


def take_over(extractor: MaskExtractor | UNet, learnt: str) -> None:
    """Load into `extractor` what a run learnt, with the object in region 0.

    `learnt` is the run's folder, of which the second stage's masks are taken if that has finished; or its model folder;
    or the file or name of a mask.onnx, of a U-Net. Raises ModelError where it is none of these, has not said yet which
    region is the object, or has another network.
    """
    path = at_home(learnt)
    if (path / STATE_FILE).is_file():
        region = _take_over_run(extractor, RunFolder(path))
    elif (path / WEIGHTS_FILE).is_file():
        tensors, _ = load_saved(path / WEIGHTS_FILE)
        restore(extractor, part("extractor", tensors), path)
        found = RunFolder(path).read_about().get("object_region")
        if found is None:
            raise ModelError(
                f"{printable(path / CONFIG_FILE)} does not say which region is the object; export the model again, or "
                "choose another"
            )
        region = found
    else:
        region = _take_over_graph(extractor, learnt)
    if region == 1:  # of two regions the head gives the logit of the first; the other is the rest
        for values in extractor.head.parameters():
            values.data.neg_()


def network_digest(model: str) -> str:
    """A hash of the weights in a model's mask.onnx and of its object region; its name does not count.

    Raises ModelError if there is no such model.
    """
    file = _as_onnx(model)
    region = [one.value for one in file.metadata_props if one.key == "object_region"]
    digest = hashlib.sha256(repr(region).encode())
    for constant in file.graph.initializer:
        digest.update(constant.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _as_onnx(model: str) -> onnx.ModelProto:
    found = find_model(model)
    try:
        return onnx.load_from_string(found.content)
    except Exception:  # protocol buffers have errors of their own
        raise ModelError(f"{found.where} is not an ONNX model: choose a run folder or its {MODEL_FILE}") from None


def _take_over_run(extractor: MaskExtractor | UNet, folder: RunFolder) -> int:
    """Load it from a run's checkpoints; returns the object's region."""
    tensors, about = load_saved(folder.state)
    config = from_values(about["config"], str(folder.state))
    found = load_refined(folder.refined, config, step=about.get("step", 0), restarts=about["restarts"])
    seen = folder.read_outcome().get("object_region")
    if seen is None or (found is None and not about.get("step")):
        raise ModelError(
            f"nets.extractor_from is {printable(folder.path)}, which has no masks yet; choose a run that has finished"
        )
    restore(extractor, found or part("average.extractor", tensors), folder.path)
    return seen


def _take_over_graph(extractor: MaskExtractor | UNet, model: str) -> int:
    """Load it from a mask.onnx; returns the object's region."""
    try:
        region = Segmenter(model).object_region
    except ModelError as error:
        raise ModelError(
            f"nets.extractor_from is {printable(model)}, which is not a run folder; choose one made by "
            f"`redoseg train`, or a model ({error})"
        ) from None
    try:
        if not isinstance(extractor, UNet):
            raise ValueError
        extractor.load_state_dict(unet_tensors(_as_onnx(model).graph, extractor))
    except ValueError:
        raise ModelError(
            f"nets.extractor_from is {printable(model)}, an ONNX file of another network than the settings'; choose a "
            "run folder, or set --nets.extractor unet and the --nets.extractor-width of that file (12 in the package)"
        ) from None
    return region
