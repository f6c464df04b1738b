"""The files of a run folder: their names, the log, and how a run ended. Training writes them, everything else reads.

The model folder that is made of a run to share it has some files of the same names; they are here too.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast, get_args, get_origin, get_type_hints, is_typeddict

from redoseg.config.recipe import from_values
from redoseg.config.schema import Config
from redoseg.errors import RunError
from redoseg.files import cannot_write, describe_error, printable, write_atomic

CONFIG_FILE = "config.json"
MODEL_FILE = "mask.onnx"
REDRAW_FILE = "redraw.onnx"
STATE_FILE = "state.safetensors"
# of a model folder only
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
MODEL_FOLDER_FILES = (CARD_FILE, CONFIG_FILE, MODEL_FILE, REDRAW_FILE, WEIGHTS_FILE)

LossName = Literal["redrawer", "latent", "floor", "border", "self_redraw", "critic_real", "critic_fake"]


class Entry(TypedDict, total=False):
    """A line of `log.jsonl`. Each has `step`, `restarts` and `seconds`; the other keys depend on what was due."""

    step: int
    """Steps of the first stage done in this attempt."""
    restarts: int
    """Attempts before this one that ended in a collapse."""
    seconds: float
    """Time that training has taken, in all sessions of the run together [s]."""
    pictures: int
    """Images learnt from so far; in a line of the second stage, images that were scored."""
    steps_per_s: float
    waited: float
    """Share of the time that training waited for images, 0 to 1."""
    sizes: list[float]
    """Mean share of each region over the batch, 0 to 1."""
    health: str

    # losses of the batch (`critic_*` are the discriminator's), and two measures
    redrawer: float
    latent: float
    floor: float
    border: float
    self_redraw: float
    critic_real: float
    critic_fake: float
    penalty: float
    """The discriminator's squared gradient at real images, in a step that takes it."""
    grey: float
    latent_read: float

    # what the moving average makes of training images and of the labelled ones that are watched
    object_region: int
    average_sizes: list[float]
    watched_sizes: list[float]
    texture: float
    """Distance of drawn objects to real ones by texture, of training images, in a run whose masks stay."""
    texture_real: float
    """The same of other real objects: the floor."""
    iou: float
    accuracy: float
    iou_oracle_flip: float
    accuracy_oracle_flip: float
    iou_matched: float
    accuracy_matched: float

    collapsed: int
    """The region that has collapsed."""

    # the second stage, while a round is under way
    refining: int
    """Number of the round, from 1."""
    targets: int
    """Masks to learn from that are made."""
    refine_step: int
    """Steps of the round that are done."""
    refine_loss: float
    """Running mean of the loss."""

    # the second stage, at the end of a round
    refine_round: int
    """Number of the round, from 1."""
    kept: int
    """Images whose masks were learnt from in this round; corrected ones are not among them."""
    corrected: int
    """Masks that a person gave or accepted, which were learnt from too: labels."""
    refused: int
    """Images that were not learnt from, since a person refused their masks."""


class Outcome(TypedDict, total=False):
    """`outcome.json`: how a run ended. One that diverged has `step`, `steps` and `health` alone."""

    step: int
    steps: int
    """Length of the first stage."""
    stopped: bool
    """Whether somebody stopped it before its end."""
    computed_in: str
    """float32 or bfloat16: what `precision` was on the machine where it ended."""
    rounds_left: int
    """Rounds of the second stage that are not done; missing where there are none."""
    redraw_steps: int
    """Steps of the third stage that are done; missing where there are none."""
    restarts: int
    object_region: int
    sizes: list[float]
    """Mean share of each region over training images, 0 to 1."""
    collapsed: bool
    health: str
    scores: dict[str, float | int]
    """Figures on the labelled images, as `redoseg evaluate --json` names them."""
    scores_before_refining: dict[str, float | int]
    corrected: int
    """Masks that a person gave or accepted, which the second stage learnt from: labels. Missing without them."""
    refused: int
    """Images that it did not learn from, since a person refused their masks."""
    left_out: int
    """Images that could not be read. Not in the file."""


class TrainedOn(TypedDict):
    """The set that a run learnt from."""

    name: str
    pictures: int
    size: int
    """Side of the images [pixels]."""


class Contents(TypedDict):
    """Hashes of what a run reads. The same run continues with the same contents, wherever these lie."""

    size: int
    """Side of the hashed images [pixels]."""
    pictures: str
    """Of the images to learn from."""
    watched: NotRequired[str]
    """Of the labelled images, their masks included."""
    start: NotRequired[str]
    """Of the files of masks that the second stage starts from."""
    extractor: NotRequired[str]
    """Of the weights of a network whose masks stay."""
    corrected: NotRequired[str]
    """Of the corrected masks and their pictures."""


class Labels(TypedDict):
    """What a person decided and a run learnt from."""

    corrected: int
    """Masks that were given or accepted."""
    refused: int
    """Training images that were left out, since their masks were refused."""


def labels_in_words(labels: Labels) -> str:
    """As "12 corrected masks, 1 refused picture"."""
    parts = []
    for count, one, more in (
        (labels["corrected"], "corrected mask", "corrected masks"),
        (labels["refused"], "refused picture", "refused pictures"),
    ):
        if count:
            parts.append(f"{count:,} {one if count == 1 else more}")
    return ", ".join(parts)


class About(TypedDict, total=False):
    """`config.json`. A run's has the first five keys; a model folder's has what its card says too."""

    format: int
    config: dict[str, Any]
    """The settings, as `recipe.to_values` gives them."""
    trained_on: TrainedOn
    contents: Contents
    made_with: dict[str, str | int]
    """Versions, device and threads."""
    labels: Labels
    """What the second stage learns from beside its own masks, where there is any."""
    earlier_labels: Labels
    """The same of the run that the mask extractor comes from (`nets.extractor_from`)."""

    step: int
    restarts: int
    object_region: int
    mask_size: int
    """Side of the extractor's images and masks [pixels]."""
    seconds: float
    """Time that training took, where it is known [s]."""
    refined: bool
    """Whether the extractor is that of the second stage."""
    redraw_steps: int
    """Steps of the third stage that generators and encoder come from, where they do."""
    drawing_size: int
    """Side of its drawings [pixels]."""
    scores: dict[str, float | int]
    """Figures of just these weights, where there are any."""


class RunFolder:
    """Paths of what a run folder contains; none of them has to exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / CONFIG_FILE
        self.log = RunLog(path / "log.jsonl")
        self.picture_scores = path / "picture_scores.jsonl"
        self.curves = path / "curves.png"
        self.samples = path / "samples"
        self.last_sample = self.samples / "last.png"
        self.state = path / STATE_FILE
        self.refined = path / "refined.safetensors"
        # of a second stage that is not finished
        self.refining = path / "refining.safetensors"
        self.targets = path / "targets.safetensors"
        self.mask = path / MODEL_FILE
        self.redraw = path / REDRAW_FILE
        self.drawings = path / "drawings"
        """The third stage: a run folder."""
        self.report = path / "report.md"
        self.outcome = path / "outcome.json"

    def sample(self, restarts: int, step: int) -> Path:
        """The sample grid of this step of this attempt."""
        return self.samples / f"{restarts}-{step:06}.png"

    def samples_in_order(self) -> list[Path]:
        """The sample grids of all steps, in the order of training; `last_sample` is not among them."""
        return sorted(self.samples.glob("*-*.png"))

    def read_outcome(self) -> Outcome:
        """How the run ended; empty where it has not, or where the file is broken. Else it has what each has."""
        found = _fitting(read_object(self.outcome), _OUTCOME)
        needed = {"step", "steps"} if found.get("health") == "diverged" else {"step", "steps", "stopped", "collapsed"}
        return cast(Outcome, found if needed <= found.keys() else {})

    def read_about(self) -> About:
        """What `config.json` says; without what is damaged, and empty where the file is."""
        return cast(About, _fitting(read_object(self.config), _ABOUT))

    def read_config(self) -> Config:
        """The configuration of the run. Raises RunError where there is none or it is damaged."""
        try:
            values = dict(read_object(self.config)["config"])
        except (KeyError, TypeError, ValueError):
            seen = "is not a run folder"
            if self.state.is_file() and self.config.exists():
                seen = f"is not a run folder that can be read: its {CONFIG_FILE} is damaged"
            raise RunError(
                f"{printable(self.path)} {seen}. Expected a folder made by `redoseg train`; choose one"
            ) from None
        return from_values(values, str(self.config))


class RunLog:
    """`log.jsonl`: one JSON object a line, appended as training goes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[Entry]:
        """All lines of a log; one that a kill or a power cut broke, or that is of another kind, is skipped."""
        found = [
            cast(Entry, line)
            for line in read_lines(self.path)
            if {"step", "restarts"} <= line.keys() and len(_fitting(line, _ENTRY)) == len(_ENTRY.keys() & line.keys())
        ]
        regions = next((len(entry["sizes"]) for entry in found if "sizes" in entry), 0)
        return [entry for entry in found if len(entry.get("sizes", [0] * regions)) == regions]

    def damaged(self) -> int:
        """How many lines `entries` skips, blank ones aside."""
        with contextlib.suppress(RunError):
            lines = _text_of(self.path).splitlines()
            return sum(bool(line.strip()) for line in lines) - len(self.entries())
        return 0

    def rewind(self, restarts: int, step: int, refining: Sequence[Entry] = ()) -> None:
        """Forget what came after this step of attempt `restarts`, which is about to be done again.

        Of the second stage, which comes after the first, the lines `refining` are kept.
        """
        first = [e for e in self.entries() if not e.keys() & {"refining", "refine_round"}]
        write_lines(self.path, [*(e for e in first if (e["restarts"], e["step"]) <= (restarts, step)), *refining])

    def append(self, entry: Entry) -> None:
        """Write one line through to the file. Raises DataError if it cannot be written."""
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise cannot_write(error, self.path) from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; broken lines are skipped, and a file that does not exist has none.

    Raises RunError if it is a folder or cannot be read.
    """
    if not path.exists():
        return []
    found = []
    for line in _text_of(path).splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)
    return found


def _text_of(path: Path) -> str:
    try:
        if not path.is_file():  # a FIFO is never waited for
            raise OSError("not a file")
        return path.read_text(errors="replace")
    except OSError as error:
        raise RunError(
            f"{printable(path)} cannot be read ({describe_error(error)}), but must be a file of a run: put it back, or "
            "remove what has its name"
        ) from error


def write_lines(path: Path, objects: Sequence[Mapping[str, Any]]) -> None:
    """Write a JSON-lines file, whole or not at all. Raises DataError if it cannot be written."""
    write_atomic(path, "".join(json.dumps(value) + "\n" for value in objects).encode())


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where the file does not exist or is broken."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        values = json.loads(path.read_text()) if path.is_file() else {}
        return values if isinstance(values, dict) else {}
    return {}


_ENTRY, _OUTCOME, _ABOUT = get_type_hints(Entry), get_type_hints(Outcome), get_type_hints(About)


def _fitting(values: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are of their type, numbers among them finite; without those that have no hint."""
    return {key: value for key, value in values.items() if key in hints and _is_a(value, hints[key])}


def _is_a(value: object, hint: Any) -> bool:
    if hint is Any:
        return True
    if is_typeddict(hint):
        asked = get_type_hints(hint, include_extras=True)
        needed = {key for key, kind in asked.items() if get_origin(kind) != cast(Any, NotRequired)}
        return isinstance(value, dict) and needed <= _fitting(value, get_type_hints(hint)).keys() == value.keys()
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_is_a(one, get_args(hint)[0]) for one in value)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(_is_a(one, get_args(hint)[1]) for one in value.values())
    kinds = get_args(hint) or (hint,)
    if isinstance(value, float):
        return float in kinds and math.isfinite(value)
    if type(value) is int:
        return (int in kinds or float in kinds) and abs(value) < 2**53
    return type(value) in kinds
