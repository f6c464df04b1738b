"""A run folder, at any point of its training -> the model folder that is shared.

A model folder has config.json, model.safetensors (extractor, generators, latent encoder: weights alone, float32),
mask.onnx, redraw.onnx, and README.md, a model card. One of a run without a first stage has no generators, no encoder
and no redraw.onnx.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import torch
from torch import Tensor, nn

from redoseg import metrics
from redoseg.config.recipe import from_values, to_values
from redoseg.config.schema import Config
from redoseg.errors import DataError, ModelError
from redoseg.files import at_home, in_shell, printable, whole_folder, write_atomic
from redoseg.inference.segmenter import Segmenter
from redoseg.nets.image_encoder import latent_encoder
from redoseg.nets.region_generator import RegionGenerator
from redoseg.nets.unet import first_extractor, student_extractor
from redoseg.onnx_export.generators import redrawer_bytes
from redoseg.onnx_export.mask_extractor import export_extractor
from redoseg.run_folder import (
    CARD_FILE,
    CONFIG_FILE,
    MODEL_FILE,
    REDRAW_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    About,
    RunFolder,
)
from redoseg.sharing.model_card import Statements, write_card
from redoseg.train.checkpoint import Saved, load_saved, part, prefixed, restore, save_checkpoint
from redoseg.train.loader import ImageStore
from redoseg.train.measure import LOOKED_AT, evenly_spaced, soft_masks
from redoseg.train.refined import load_refined
from redoseg.train.stage_data import open_training_images
from redoseg.train.third_stage import finished_drawings


@dataclass(frozen=True)
class TrainedNets:
    """What a run has learnt, and what its folder says about it."""

    config: Config
    extractor: nn.Module
    """The second stage's, if the run has finished; else the moving average's."""
    generators: nn.ModuleList | None
    """None where the run has no first stage, so that they have learnt nothing."""
    encoder: nn.Module
    object_region: int
    mask_size: int
    """Side of the extractor's pictures and masks [pixels]."""
    about: About
    drawing: Config | None = None
    """Settings of generators and encoder, where a third stage has others."""
    drawing_region: int = 0
    """Which of its generators draws the object."""


def read_run(folder: Path) -> TrainedNets:
    """The networks of a run folder as its last checkpoint has them. Raises ModelError if it has none."""
    files = RunFolder(folder)
    if not files.state.is_file():
        raise ModelError(
            f"{printable(folder)} has no {STATE_FILE}, so it is not a run folder; choose one made by `redoseg train`"
        )
    tensors, saved = load_saved(files.state)
    config = from_values(saved["config"], str(files.state))
    nets, data = config.nets, config.data
    generators = nn.ModuleList(RegionGenerator(nets, data.size, data.value_range) for _ in range(nets.regions))
    extractor: nn.Module = first_extractor(nets)
    encoder = latent_encoder(nets, data.size)
    for module, prefix in (
        (extractor, "average.extractor"),
        (generators, "average.generators"),
        (encoder, "redrawer.encoder"),  # it has no moving average
    ):
        restore(module, part(prefix, tensors), files.state)

    if not all(isinstance(saved.get(key), int) for key in ("step", "restarts")):
        raise ModelError(f"{printable(files.state)} is damaged: it does not say its step; choose another run folder")
    about = files.read_about()
    about["step"], about["restarts"] = saved["step"], saved["restarts"]
    refined = load_refined(files.refined, config, step=saved["step"], restarts=saved["restarts"])
    if refined is not None:
        extractor = student_extractor(config)
        restore(extractor, refined, files.refined)
        about["refined"] = True
    elif not config.first_steps:
        raise ModelError(
            f"{printable(folder)} has no masks yet; expected a run that has finished; continue it with "
            f"`redoseg train --resume --out {in_shell(folder)}`"
        )
    # what was written down counts only as far as it is of these weights: a run may have continued since
    saved_at = (saved["restarts"], saved["step"])
    entries = [e for e in files.log.entries() if (e["restarts"], e["step"]) <= saved_at]
    outcome = files.read_outcome()
    if (outcome.get("restarts"), outcome.get("step")) != saved_at or "rounds_left" in outcome:
        outcome = {}  # of other weights, or of a round of a second stage that is not finished
    regions = [e["object_region"] for e in entries if "object_region" in e and 0 <= e["object_region"] < nets.regions]
    if 0 <= outcome.get("object_region", -1) < config.nets.regions:
        regions.append(outcome["object_region"])
    if not regions:  # nothing was looked at yet; which one was chosen may still stand in what was exported
        regions = [_region_found(folder, extractor, config)]
    about["object_region"] = int(regions[-1])
    if entries:
        about["seconds"] = entries[-1].get("seconds", 0.0)
    if "scores" in outcome and ("scores_before_refining" in outcome) == (refined is not None):
        about["scores"] = outcome["scores"]
    for net in (extractor, generators, encoder):
        net.eval().requires_grad_(False)
    about["mask_size"] = config.data.size if refined is None else config.refined_size
    if config.masks_stay:
        about["mask_size"] = Segmenter(folder).size  # that of the model which they come from
    drawn = generators if saved["step"] or config.first_steps else None
    drawings = finished_drawings(files)
    if drawings is not None:
        third = read_run(drawings.path)
        about["redraw_steps"], about["drawing_size"] = third.about["step"], third.config.data.size
        return TrainedNets(
            config=config,
            extractor=extractor,
            generators=third.generators,
            encoder=third.encoder,
            object_region=about["object_region"],
            mask_size=about["mask_size"],
            about=about,
            drawing=third.config,
            drawing_region=third.object_region,
        )
    return TrainedNets(
        config=config,
        extractor=extractor,
        generators=drawn,
        encoder=encoder,
        object_region=about["object_region"],
        mask_size=about["mask_size"],
        about=about,
    )


def _region_found(folder: Path, extractor: nn.Module, config: Config) -> int:
    """The object's region as the run's mask.onnx has it, else chosen on its training pictures, as a run does.

    Raises ModelError where neither is there: a wrong guess would turn every mask inside out.
    """
    with contextlib.suppress(ModelError):
        return Segmenter(folder).object_region
    try:
        images = open_training_images(config).resized(config.data.size)
        store = ImageStore(images, config, torch.device("cpu"))
        return metrics.object_region(soft_masks(extractor.eval(), store, evenly_spaced(len(store), LOOKED_AT)))
    except DataError as error:
        raise ModelError(
            f"{printable(folder)} has not chosen its object region yet, and its pictures cannot be opened ({error}); "
            f"continue it first, with `redoseg train --resume --out {in_shell(folder)}`"
        ) from None


def export_run(run: str | Path, out: str | Path, statements: Statements | None = None) -> dict[str, int]:
    """Write the model folder `out` of the run folder `run`; returns the files' sizes in bytes.

    A kill leaves no half folder of that name. Raises ModelError if `run` is none, RedosegError if `out` exists,
    DataError if it cannot be written.
    """
    run, out = at_home(run), at_home(out)
    nets = read_run(run)
    with whole_folder(out, "model folder") as partial:
        return _write(nets, partial, out.resolve().name, statements or Statements())


def _write(nets: TrainedNets, folder: Path, name: str, statements: Statements) -> dict[str, int]:
    config, region = shareable(nets.config), nets.object_region
    about: About = {**nets.about, "config": to_values(config)}
    write_atomic(folder / CONFIG_FILE, (json.dumps(about, indent=2) + "\n").encode())
    tensors: dict[str, Tensor] = {}
    learnt = {"extractor": nets.extractor}
    if nets.generators is not None:
        learnt |= {"generators": nets.generators, "encoder": nets.encoder}
    for prefix, net in learnt.items():
        tensors |= prefixed(prefix, net.state_dict())
    described: Saved = {"config": to_values(config), "step": about["step"], "restarts": about["restarts"]}
    save_checkpoint(folder / WEIGHTS_FILE, tensors, described)
    export_extractor(nets.extractor, config, folder / MODEL_FILE, name=name, object_region=region, size=nets.mask_size)
    if nets.generators is not None:
        drawing = (config, region) if nets.drawing is None else (nets.drawing, nets.drawing_region)
        content = redrawer_bytes(nets.generators, nets.encoder, drawing[0], name=name, object_region=drawing[1])
        write_atomic(folder / REDRAW_FILE, content)
    files = [file for file in (MODEL_FILE, REDRAW_FILE, WEIGHTS_FILE) if (folder / file).exists()]
    sizes = {file: (folder / file).stat().st_size for file in files}
    write_atomic(folder / CARD_FILE, write_card(name, config, about, sizes, statements).encode())
    return sizes


def shareable(config: Config) -> Config:
    """The settings without the places on a disk where the pictures lie: of a path to somewhere, the last part."""

    def name(place: str) -> str:
        return PurePath(place).name if PurePath(place).is_absolute() or ".." in PurePath(place).parts else place

    data, refine = config.data, config.refine
    refine = replace(refine, start=name(refine.start), corrected=name(refine.corrected))
    return replace(
        config, refine=refine, data=replace(data, source=name(data.source), evaluate_on=name(data.evaluate_on))
    )
