"""Segmenting: the network against eager PyTorch, one photograph from the shell, and a folder against a plain loop."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from PIL import Image

from redoseg.bench.reference_step import plain_settings
from redoseg.bench.results import Folder, Network, SegmentResult, Shell
from redoseg.bench.synthetic import DISTINCT, fill_folder, photograph, watched
from redoseg.bench.timing import hardware, side_by_side
from redoseg.config.schema import Config, DataConfig
from redoseg.data.shapes import generate
from redoseg.errors import DataError
from redoseg.files import temporary_folder
from redoseg.images.read import list_images
from redoseg.inference.quantize import quantize
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter
from redoseg.nets.mask_extractor import MaskExtractor
from redoseg.onnx_export.mask_extractor import export_extractor
from redoseg.run_folder import MODEL_FILE
from redoseg.system import cores
from redoseg.train.compute import placed

WIDTH, HEIGHT = 640, 480  # of a photograph [pixels]


def bench_segment(
    *,
    count: int = 256,
    rounds: int = 5,
    size: int = 128,
    starts: int = 7,
    folder: int = 1000,
    small: int = 0,
    many: int = 0,
) -> SegmentResult:
    """The published extractor (with random weights) on made pictures; speed, agreement of masks, and peak memory.

    Args:
        count: how many the network sees, already of its size.
        rounds: times that the ways take turns.
        size: side that the network sees [pixels].
        starts: times that `redoseg segment` is started for one photograph.
        folder: photographs of 640 x 480 in a folder, from decoding to the written mask.
        small: also segment a folder of so many and watch the memory; 0 leaves that out.
        many: the same with another number, to see whether memory grows with it.
    """
    for what, number in (("pictures", count), ("rounds", rounds), ("starts", starts), ("photographs", folder)):
        if number < 1:
            raise DataError(f"{number} {what} cannot be timed; choose 1 or more")
    config = Config(data=DataConfig(size=size))
    with temporary_folder("bench") as place:
        torch.manual_seed(0)
        # the reference's layers are those of the paper
        extractor = placed(MaskExtractor(config.nets), plain_settings(config), torch.device("cpu")).eval()
        model = place / MODEL_FILE
        export_extractor(extractor, config, model, name="bench", object_region=0)
        rng = np.random.default_rng(0)
        images, _ = generate("shapes-hard", DISTINCT, 128, seed=0)
        photographs = [photograph(image, WIDTH, HEIGHT, rng) for image in images]
        fill_folder(place / "folder", photographs, folder)

        quantize(model, place / "folder", place / "int8.onnx")
        models = {"redoseg": model, "redoseg, int8": place / "int8.onnx"}
        segmenters = {name: Segmenter(path, edges="plain") for name, path in models.items()}
        result: SegmentResult = {
            "size": size,
            "hardware": hardware(),
            "network": _network(extractor, segmenters, count, rounds),
            "shell": _shell(model, place / "folder" / "0000" / "0000000.jpg", place / "one", starts),
            "folder": _folder(model, place, rounds),
        }
        watch: tuple[tuple[Literal["small", "many"], int], ...] = (("small", small), ("many", many))
        for key, count in watch:
            if count:
                fill_folder(place / key, photographs, count)
                result[key] = watched(count, "segment", model, place / key, "-o", place / f"{key}-masks")
        return result


def _network(extractor: MaskExtractor, segmenters: dict[str, Segmenter], count: int, rounds: int) -> Network:
    """Bytes to soft masks, on all cores; eager PyTorch's reference is the batch that it is quickest with."""
    images, _ = generate("shapes-hard", count, segmenters["redoseg"].size, seed=1)

    def eager(batch: int) -> NDArray[np.float32]:
        masks = []
        with torch.inference_mode():
            for start in range(0, count, batch):
                planes = torch.from_numpy(images[start : start + batch]).permute(0, 3, 1, 2).float()
                masks.append(extractor(planes / 127.5 - 1).numpy())
        return np.concatenate(masks)

    threads = torch.get_num_threads()
    torch.set_num_threads(cores())
    try:
        masks = eager(4)  # also warms up

        def seconds(batch: int) -> float:
            started = time.perf_counter()
            eager(batch)
            return time.perf_counter() - started

        ways: dict[str, Callable[[], object]] = {
            **{f"eager PyTorch, batches of {batch}": partial(eager, batch) for batch in sorted((4, 32), key=seconds)},
            **{name: partial(segmenter.batch, images) for name, segmenter in segmenters.items()},
        }
        apart = {name: np.abs(masks - segmenter.batch(images)).max() for name, segmenter in segmenters.items()}
        timed = side_by_side(ways, count, rounds)
    finally:
        torch.set_num_threads(threads)
    return {"pictures": count, "largest_difference": {k: float(f"{v:.2g}") for k, v in apart.items()}, **timed}


def _shell(model: Path, photo: Path, out: Path, starts: int) -> Shell:
    """Whole processes, from the shell's point of view."""
    command = [sys.executable, "-m", "redoseg", "segment", str(model), str(photo), "-o", str(out), "--overwrite"]
    seconds = []
    for _ in range(starts):
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - started)
    return {"seconds": [round(s, 3) for s in seconds], "median": round(median(seconds), 3)}


def _folder(model: Path, place: Path, rounds: int) -> Folder:
    """A folder of photographs, from files to files, against `plain_loop`, whose masks are those of plain edges."""
    source = place / "folder"
    images = list_images(source).images
    segmenter, guided = Segmenter(model, edges="plain"), Segmenter(model)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    turn = 0

    def fresh() -> Path:
        nonlocal turn
        turn += 1
        return place / f"masks-{turn}"

    def plain() -> None:
        out = fresh()
        out.mkdir()
        for image in images:
            plain_loop(session, segmenter.size, image, out / f"{image.stem}.png")

    ways: dict[str, Callable[[], object]] = {
        "plain loop": plain,
        "redoseg": lambda: segment_paths(segmenter, source, fresh()),
        "redoseg, guided edges": lambda: segment_paths(guided, source, fresh()),
    }
    return {"pictures": len(images), **side_by_side(ways, len(images), rounds)}


def plain_loop(session: onnxruntime.InferenceSession, size: int, path: Path, target: Path) -> None:
    """The reference, one picture after another: open, resize, run the network with its own settings, resize, save."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    values = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), np.float32) / np.float32(127.5) - 1
    soft = session.run(["masks"], {"picture": values.transpose(2, 0, 1)[None]})[0][0, 0]
    large = np.asarray(Image.fromarray(soft).resize(image.size, Image.Resampling.BILINEAR))
    Image.fromarray((large > 0.5).astype(np.uint8) * 255).save(target, compress_level=3)
