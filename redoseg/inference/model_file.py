"""A model's ONNX file: where it is, what it says about itself, and running it. No torch.

`mask.onnx` takes `picture` (batch, 3, S, S) and gives `masks` (batch, n, S, S), soft and summing to one. `redraw.onnx`
is described in `inference/redraw.py`. The metadata of both say what S, n and the object region are.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from redoseg.errors import ModelError, RedosegError, did_you_mean
from redoseg.files import describe_error, in_shell, printable
from redoseg.inference.devices import ONE_AT_A_TIME, start_session
from redoseg.inference.hub import HUB, fetch
from redoseg.inference.model_check import UnsafeModel, check_operators
from redoseg.inference.model_cost import check_cost
from redoseg.run_folder import CONFIG_FILE, MODEL_FILE, STATE_FILE

FORMAT = "1"
_RANGES = {"-1 1": (2 / 255, -1.0), "0 1": (1 / 255, 0.0)}  # picture_range -> factor and offset of a byte
_FIXED = ("picture", "masks")  # their shapes follow from the metadata
_BEYOND = 0.05  # how far values of masks may be beyond 0 to 1 by rounding
_MOST_BYTES = 2**30
_SIZES, _REGIONS = range(4, 2049), range(2, 17)
_MODELS = "a run folder, a model folder"


class ModelFile(NamedTuple):
    """An ONNX file that was found."""

    where: str
    """Its path, or the name of the packaged weights, for messages."""
    content: bytes


def weights(file: str = MODEL_FILE) -> list[str]:
    """Names of the weights that come with the package and have `file`."""
    folder = resources.files("redoseg") / "weights"
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if (entry / file).is_file())


def find_model(model: str | Path, file: str = MODEL_FILE) -> ModelFile:
    """`file` of a model: of a run folder, a model folder, packaged weights or `hf://user/name`.

    `model` may also be the path of a mask.onnx itself. Raises ModelError if there is no such file.
    """
    if not isinstance(model, str | os.PathLike):
        raise ModelError(
            f"the model is of type {type(model).__name__}, but must be a path or a name as text: choose {_MODELS} or "
            f"weights that come with redoseg ({', '.join(weights(file))})"
        )
    model = fetched(model if isinstance(model, str) else Path(model), (CONFIG_FILE, file))
    path = expanded(model)
    packaged = weights(file)
    try:
        if (path / file).is_file():
            return _read(path / file)
        if path.is_file() and file == MODEL_FILE:
            return _read(path)
        if str(model) in packaged:
            content = (resources.files("redoseg") / "weights" / str(model) / file).read_bytes()
            return ModelFile(f"weights {model}", content)
    except OSError as error:
        raise ModelError(
            f"{printable(path)} cannot be read ({describe_error(error)}): change its permissions"
        ) from error
    seen, also = "is not a file" if path.exists() else "does not exist", "an .onnx file"
    if path.is_dir() or str(model) in weights():
        seen = f"has no {file}"
    if (path / STATE_FILE).is_file() and not (path / MODEL_FILE).is_file():
        raise ModelError(
            f"{printable(path)} is a run that has not written its model yet: make a model folder with "
            f"`redoseg export {in_shell(path)} --out FOLDER`"
        )
    if file != MODEL_FILE:
        also = f"{HUB}user/name"
        if path.is_file():
            seen = f"is a file, but {file} must be in a folder"
    hint = did_you_mean(str(model), packaged) if seen == "does not exist" else ""
    raise ModelError(
        f"model {printable(path)} {seen}: {hint}choose {_MODELS}, {also} or weights "
        f"that come with redoseg ({', '.join(packaged) or 'none in this build'})"
    )


def _read(path: Path) -> ModelFile:
    """Raises OSError, and ModelError for a file that is too large."""
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise ModelError(
            f"{printable(path)} has {size // 10**6:,} MB, but a model has at most {_MOST_BYTES // 10**6:,} MB: choose "
            f"{_MODELS} or another .onnx file"
        )
    return ModelFile(printable(path), path.read_bytes())


def expanded(model: str | Path) -> Path:
    """The path with ~ at its start replaced. Raises ModelError for a user who does not exist."""
    try:
        return Path(model).expanduser()
    except RuntimeError as error:
        raise ModelError(
            f"model {printable(model)} cannot be found ({describe_error(error).rstrip('.')}); correct the path or name"
        ) from None


def fetched(model: str | Path, files: Sequence[str]) -> str | Path:
    """`hf://user/name` (or `...@revision`) -> the folder that its `files` were fetched to; anything else unchanged."""
    if not str(model).startswith(HUB):
        return model
    repo, _, revision = str(model).removeprefix(HUB).partition("@")
    return fetch(repo, files, revision or None)


class Network:
    """An ONNX file of redoseg in a session on one thread.

    Args:
        found: the file.
        values: names of its inputs and outputs with their number of axes.
        trust: take a file with operators that redoseg does not write. Such a file can use any memory and time.
        device: one of `devices.Device`; what it cannot compute is done by the processor.

    Raises MissingError if the device is not there or does not start, ModelError if it is not an ONNX file of redoseg
    with these inputs and outputs.
    """

    name: str
    size: int
    """Side S of images and masks [pixels]."""
    regions: int
    object_region: int
    value_range: tuple[float, float]
    """Factor and offset that bring a byte into the range that the network sees."""
    latent: int
    """Length of a region's latent; 0 for a mask extractor."""

    def __init__(self, found: ModelFile, values: Mapping[str, int], trust: bool = False, device: str = "cpu") -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what matters is raised; the rest would land on stderr
        # Within one image two threads wait for each other at every layer; two images at a time are much quicker.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        where = found.where
        if not trust:
            try:
                check_operators(found.content)
                check_cost(found.content)
            except UnsafeModel as error:
                raise ModelError(
                    f"{where} {error}. Such a model can take all memory and never end. Choose another, or, if you "
                    "trust its author, add --trust to segment or serve, or trust=True to Segmenter."
                ) from None
            except ValueError:
                raise ModelError(f"{where} is not an ONNX model: choose {_MODELS} or an .onnx file") from None
        try:
            session = start_session(found.content, options, device)
        except RedosegError:
            raise
        except Exception:  # ONNX Runtime has no error tree of its own
            raise ModelError(f"{where} is not an ONNX model: choose {_MODELS} or an .onnx file") from None
        try:
            metadata = dict(session.get_modelmeta().custom_metadata_map)  # ValueError where that is not UTF-8
            if metadata["redoseg_format"] != FORMAT:
                seen = printable(metadata["redoseg_format"])[:40]
                raise ModelError(
                    f"{where} has format {seen}, but this redoseg reads format {FORMAT}: "
                    "use the redoseg that wrote it, or export it again"
                )
            self.name = printable(metadata.get("name") or Path(where).stem)[:100]
            self.size, self.regions = int(metadata["size"]), int(metadata["regions"])
            self.object_region = int(metadata["object_region"])
            self.value_range = _RANGES[metadata["picture_range"]]
            self.latent = int(metadata.get("latent", 0))
            declared = [*session.get_inputs(), *session.get_outputs()]
            axes = {value.name: len(value.shape) for value in declared}
            if axes != values or any(value.type != "tensor(float)" for value in declared):
                raise ValueError
            fits = self.size in _SIZES and self.regions in _REGIONS and 0 <= self.object_region < self.regions
            if not fits or not 0 <= self.latent <= 2**16:
                raise ValueError
            for value in declared:
                shape = self._shape(value.name) if value.name in _FIXED else ()
                if any(isinstance(d, int) and d != e for d, e in zip(value.shape[1:], shape, strict=False)):
                    raise ValueError
        except (KeyError, ValueError):
            raise ModelError(
                f"{where} is an ONNX file, but not one of redoseg: choose a run folder or its {MODEL_FILE}"
            ) from None
        self._session, self._found, self._values, self._trust = session, found, dict(values), trust
        self._device = device
        self._turn = threading.Lock() if device in ONE_AT_A_TIME else contextlib.nullcontext()
        if "masks" in [value.name for value in session.get_outputs()]:  # shapes that are not declared show here
            declared_count = session.get_inputs()[0].shape[0]
            count = declared_count if isinstance(declared_count, int) else 2
            self.run(["masks"], {"picture": np.zeros((count, *self._shape("picture")), np.float32)})

    def _shape(self, name: str) -> tuple[int, ...]:
        """The shape of `picture` or `masks` without its first axis."""
        return (3 if name == "picture" else self.regions), self.size, self.size

    def __getstate__(self) -> dict[str, Any]:
        """What a copy in another process needs: the file, from which it starts a session of its own."""
        return {"found": self._found, "values": self._values, "trust": self._trust, "device": self._device}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["found"], state["values"], state["trust"], state["device"])  # type: ignore[misc]

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """These outputs for these inputs. Raises ModelError if the network fails."""
        try:
            with self._turn:
                found: list[NDArray[np.float32]] = self._session.run(list(outputs), dict(inputs))
        except Exception as error:  # ONNX Runtime has no error tree of its own
            raise ModelError(f"model {self.name} failed ({describe_error(error)}): export it again") from error
        count = len(inputs["picture"])
        for name, values in zip(outputs, found, strict=True):
            if name in _FIXED and values.shape != (count, *self._shape(name)):
                raise ModelError(
                    f"model {self.name} gives {name} of shape {values.shape} for {count} images, but its metadata say "
                    f"{self._shape(name)} an image: export it again"
                )
            low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
            allowed = (-_BEYOND, 1 + _BEYOND) if name == "masks" else (-np.inf, np.inf)
            if not (np.isfinite((low, high)).all() and allowed[0] <= low and high <= allowed[1]):
                raise ModelError(
                    f"model {self.name} gives {name} with values from {low:g} to {high:g}, but they must be "
                    f"{'from 0 to 1' if name == 'masks' else 'finite'}: export it again"
                )
        return found
