"""README.md of a model folder: a model card in Hugging Face's format, with figures of the run and nothing made up."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePath

from redoseg.config.schema import Config
from redoseg.inference.hub import licence_identifier
from redoseg.run_folder import About, labels_in_words
from redoseg.train.report import NAMES

TO_FILL_IN = "not stated"


@dataclass(frozen=True)
class Statements:
    """What only the person who shares a model can say. Empty ones are named as not stated."""

    licence: str = ""
    """Licence of the weights: an identifier as Hugging Face has them, such as apache-2.0, or a short text."""
    data: str = ""
    """Where the pictures come from and what may be done with them."""
    limits: str = ""
    """What the model is bad at."""


def write_card(name: str, config: Config, about: About, sizes: dict[str, int], statements: Statements) -> str:
    """The card's text.

    `about` is what the model folder's config.json says; `sizes` are the files' in bytes.
    """
    header = {
        "license": licence_identifier(statements.licence),
        "library_name": "redoseg",
        "pipeline_tag": "image-segmentation",
        "tags": ["redoseg", "onnx", "unsupervised", "image-segmentation", "foreground-segmentation"],
    }
    labels, draws = _labels_of(about), bool(config.first_steps or about.get("redraw_steps"))
    drawn = about.get("drawing_size", config.data.size)
    if labels:
        header["tags"] = [tag for tag in header["tags"] if tag != "unsupervised"]
    lines = ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items()), "---", ""]
    lines += [
        f"# {name}",
        "",
        *_summary(config, labels, drawn_later=bool(about.get("redraw_steps"))),
        "",
        "```",
        "redoseg segment FOLDER photo.jpg -o out/  # FOLDER: this one, or hf://user/name of where you found it",
        *(["redoseg redraw FOLDER photo.jpg -o out/"] if draws else []),
        "```",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in _facts(config, about, sizes, statements).items()),
        "",
    ]
    if "scores" in about:
        part = f", part {config.data.evaluate_split}" if config.data.evaluate_split else ""
        lines += [f"## Scores on {_last(config.data.evaluate_on)}{part}", "", "| figure | value |", "|---|---|"]
        for key, value in about["scores"].items():
            lines.append(f"| {NAMES.get(key, key)} | {value if key == 'pictures' else f'{value:.4f}'} |")
        other = f"Beside {labels}, no" if labels else "No"
        lines += ["", f"{other} label entered training, stopping, or the choice of which region is the object.", ""]
    seen = about["mask_size"]
    finer = (
        f"**Limits.** It sees {seen} x {seen} pixels: what is finer is lost or guessed from the photograph's colours"
    )
    if draws:
        lines += [
            f"{finer},",
            f"and drawings have no more than {drawn} pixels a side in them. "
            "It knows only the kind of object that it was",
        ]
    else:
        lines += [f"{finer}.", "It knows only the kind of object that it was"]
    lines += [
        f"shown, large in the picture. {statements.limits}".rstrip(),
        "",
        f"**Licence.** Of the weights: {statements.licence or TO_FILL_IN}. Of the code that made them: Apache-2.0.",
        "",
        "Without redoseg:",
        "",
        "```python",
        without_redoseg(config.data.value_range == "signed"),
        "```",
        "",
    ]
    return "\n".join(lines)


def _labels_of(about: About) -> str:
    """What a person corrected and the weights were learnt from, in words; empty where there is nothing."""
    own = about.get("labels") if about.get("refined") else None
    parts = [labels_in_words(labels) for labels in (about.get("earlier_labels"), own) if labels]
    return ", then ".join(parts)


def _summary(config: Config, labels: str, drawn_later: bool) -> list[str]:
    """What the model does, and what its masks were learnt from."""
    if config.first_steps:
        alone = f"and {labels}," if labels else "alone, without a mask,"
        return [
            "Cuts the object out of photographs of one kind of object, and draws object or background again. Learnt",
            f"from pictures {alone} by redrawing (ReDO, Chen, Artières, Denoyer, NeurIPS 2019),",
            "with redoseg.",
        ]
    start = _STARTS.get(config.refine.start, "masks that were given")
    drawings = "Drawings were learnt afterwards, for these masks." if drawn_later else "Nothing was redrawn."
    cut = " and GrabCut" if config.uses_grabcut else ""
    without = ", without a mask" if config.refine.start in _STARTS else ""
    without = f" and {labels}" if labels else without
    return [
        "Cuts the object out of photographs of one kind of object. Learnt from pictures" + without + ", with redoseg:",
        f"from {start}{cut}, then from its own masks. {drawings}",
    ]


def _facts(config: Config, about: About, sizes: dict[str, int], statements: Statements) -> dict[str, str]:
    """The rows of the table."""
    trained_on, made_with = about.get("trained_on"), about.get("made_with", {})
    nets = config.nets
    regions = f"{nets.regions} regions, of which {about['object_region']} is the object"
    first = second = ""
    if config.first_steps:
        first = f"{about['step']} of {config.first_steps} steps of {config.batch} pictures"
    if about.get("refined"):
        second = f"{config.refine.rounds} rounds of {config.refine.steps} steps of the second stage"
        early = config.round_size(1)
        if early != about["mask_size"]:
            second += f" at {early} px, the last at {about['mask_size']} px"
        elif early != config.data.size:
            second += f" at {early} px"
        if not config.first_steps:
            second += (
                f", started from {_STARTS.get(config.refine.start, 'masks that were given, one for each picture')}"
            )
    what = (
        f"mask extractor, region generators and latent encoder of ReDO at {config.data.size} px; {regions}; latents of "
        f"{nets.latent} numbers"
    )
    if not config.first_steps:
        network = "a small U-Net" if config.refine.student == "unet" else "the mask extractor of ReDO"
        what = f"{network} at {about['mask_size']} px; {regions}"
    given = config.refine.start != "run" and config.refine.start not in _STARTS
    masks = _labels_of(about) or ("a mask of each" if given else "no masks")
    rows = {
        "what": what,
        "files": ", ".join(f"`{name}` ({size / 1e6:.2f} MB)" for name, size in sizes.items()),
        "learnt from": f"{trained_on['pictures']:,} pictures of {trained_on['name']}, {masks}" if trained_on else "",
        "the pictures": statements.data or TO_FILL_IN,
        "length": ", then ".join(part for part in (first, second) if part),
        "seed": f"{config.seed}" + (f", restarted {about['restarts']} times" if about["restarts"] else ""),
        "time": f"{about['seconds'] / 60:.1f} minutes" if "seconds" in about else "",
        "made with": ", ".join(f"{key} {value}" for key, value in made_with.items()),
        "score": "below" if "scores" in about else "none was written down for just these weights",
    }
    return {key: value.replace("|", "\\|").replace("\n", " ") for key, value in rows.items() if value}


_STARTS = {
    "disc": "one constant disc",
    "square": "one constant square",
    "ground": "what is on the ground that all pictures share",
}


def _last(place: str) -> str:
    """The last part of a path or name: the folders of a user's disk are private."""
    return PurePath(place).name or place


def without_redoseg(signed: bool = True) -> str:
    """Eight lines of Python that segment photo.jpg with mask.onnx, onnxruntime, numpy and Pillow alone."""
    return _PLAIN.replace("/ 127.5 - 1", "/ 127.5 - 1" if signed else "/ 255")


_PLAIN = """\
import numpy as np, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession("mask.onnx")
meta = session.get_modelmeta().custom_metadata_map
photo, side = Image.open("photo.jpg").convert("RGB"), int(meta["size"])
picture = np.asarray(photo.resize((side, side)), np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
masks = session.run(None, {"picture": picture})[0][0]  # (regions, side, side), summing to one
Image.fromarray(np.uint8(masks[int(meta["object_region"])] * 255)).resize(photo.size).save("mask.png")"""
