"""Everything that changes in the second stage, and how it is saved: what train/state.py is to the first.

It is saved in two files, since targets are large and stay the same while a student learns from them. Each file says of
which round it is. After a kill between the two writes the targets are those of another round, and are made again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from redoseg.config.recipe import to_values
from redoseg.config.schema import Config
from redoseg.errors import DivergedError, ModelError
from redoseg.files import printable
from redoseg.nets.mask_extractor import MaskExtractor
from redoseg.nets.unet import UNet, student_extractor
from redoseg.run_folder import Entry, Outcome, RunFolder
from redoseg.train import checkpoint, health
from redoseg.train.compute import Adam, placed
from redoseg.train.refined import is_of_run


@dataclass
class Targets:
    """The masks that a round learns from, as far as they are made."""

    regions: UInt8[np.ndarray, "p s s"]
    """Region of each pixel of each image that is considered; zeros from image number `made` on."""
    made: int = 0
    kept: Int[np.ndarray, " k"] | None = None
    """Numbers of the images that are learnt from, once all masks are made."""


@dataclass
class Student:
    """The extractor that learns in a round, and how far it is."""

    network: MaskExtractor | UNet
    optimiser: torch.optim.Optimizer
    loss: Float[Tensor, ""]
    """Running mean, to be reported."""
    step: int = 0

    @classmethod
    def fresh(cls, config: Config, device: torch.device) -> Student:
        """A new one, with weights from PyTorch's random state."""
        network = placed(student_extractor(config), config, device)
        return cls(network, Adam(network.parameters()), torch.zeros((), device=device))


@dataclass
class RefineState:
    """How far the second stage of a run is."""

    config: Config
    restarts: int
    count: int
    """Images that are considered."""
    device: torch.device
    labels: str = ""
    """Hash of the corrected masks; empty without."""
    round: int = 1
    """The round under way, from 1; one more than there are once all are finished."""
    teacher: MaskExtractor | UNet | None = None
    """The student of the round before; None in the first round."""
    targets: Targets = field(init=False)
    student: Student | None = None
    """None until the targets are chosen."""
    entries: list[Entry] = field(default_factory=list)
    """Lines of the log that this stage has written."""

    def __post_init__(self) -> None:
        self.targets = self._no_targets()

    @property
    def done(self) -> bool:
        """Whether all rounds are finished."""
        return self.round > self.config.refine.rounds

    @property
    def between_rounds(self) -> bool:
        """Whether a round has just been finished, and the next one, which there is, has not begun."""
        return not self.fresh and not self.done and self.student is None and not self.targets.made

    @property
    def fresh(self) -> bool:
        """Whether no round is finished."""
        return self.round == 1

    def left(self) -> Outcome:
        """What the outcome of a run says of a second stage that is not finished."""
        return {"rounds_left": self.config.refine.rounds - self.round + 1}

    def _no_targets(self) -> Targets:
        size = self.config.round_size(self.round)
        return Targets(np.zeros((self.count, size, size), np.uint8))

    def end_round(self) -> None:
        """Make the student the teacher of the next round."""
        assert self.student is not None
        self.teacher = self.student.network.eval().requires_grad_(False)
        self.round, self.student = self.round + 1, None
        self.targets = self._no_targets()

    def save(self, folder: RunFolder, also_targets: bool) -> None:
        """Write everything that a resumed second stage needs; targets that have not changed need no second write.

        Raises DivergedError rather than save what is not finite.
        """
        about: dict[str, Any] = {
            "config": to_values(self.config),
            "restarts": self.restarts,
            "round": self.round,
        } | ({"labels": self.labels} if self.labels else {})
        student, tensors = self.student, dict[str, Tensor]()
        if also_targets:
            targets = {"regions": torch.from_numpy(self.targets.regions[: self.targets.made])}
            if self.targets.kept is not None:
                targets["kept"] = torch.from_numpy(self.targets.kept)
            checkpoint.save_checkpoint(folder.targets, targets, about)
        if self.teacher is not None:
            tensors |= checkpoint.prefixed("teacher", self.teacher.state_dict())
        if student is not None:
            if not all(p.isfinite().all() for p in student.network.parameters()):
                raise DivergedError(
                    f"a weight of the second stage is not a finite number after step {student.step} of round "
                    f"{self.round}; the run folder keeps the last good state; {health.REFINE_AGAIN}"
                )
            tensors |= checkpoint.prefixed("student", student.network.state_dict())
            tensors |= checkpoint.prefixed("optimiser", checkpoint.optimiser_tensors(student.optimiser))
            tensors["loss"] = student.loss
            about["refine_step"] = student.step
        checkpoint.save_checkpoint(folder.refining, tensors, about | {"entries": self.entries})

    @staticmethod
    def remove(folder: RunFolder) -> None:
        """Remove the files that `save` wrote, once the stage is finished."""
        folder.refining.unlink(missing_ok=True)
        folder.targets.unlink(missing_ok=True)

    @classmethod
    def load(
        cls,
        folder: RunFolder,
        config: Config,
        *,
        restarts: int,
        count: int,
        device: torch.device,
        labels: str = "",
    ) -> RefineState | None:
        """The state that `save` wrote; None where there is none, or it is of other settings or another attempt.

        Raises ModelError where a file is damaged, or was made with other corrected masks than those of hash `labels`.
        """
        if not folder.refining.is_file():
            return None
        tensors, about = checkpoint.load_saved(folder.refining)
        if not is_of_run(about, config, restarts, folder.refining):
            return None
        described = cast(dict[str, Any], about)
        if described.get("labels", "") != labels:
            raise ModelError(f"the corrected masks of {printable(config.refine.corrected)} have changed")
        if not isinstance(described.get("round"), int) or not isinstance(described.get("entries"), list):
            raise ModelError(f"{printable(folder.refining)} is damaged: it does not say which round it is of")
        found = cls(config, restarts, count, device, labels, round=described["round"], entries=described["entries"])
        if found.round > 1:
            found.teacher = placed(student_extractor(config), config, device)
            checkpoint.restore(found.teacher, checkpoint.part("teacher", tensors), folder.refining)
            found.teacher.eval().requires_grad_(False)
        found._load_targets(folder)
        if "refine_step" in described and found.targets.kept is not None:
            student = Student.fresh(config, device)
            checkpoint.restore(student.network, checkpoint.part("student", tensors), folder.refining)
            checkpoint.restore_optimiser(student.optimiser, checkpoint.part("optimiser", tensors))
            student.loss, student.step = tensors["loss"].to(device), described["refine_step"]
            found.student = student
        return found

    def _load_targets(self, folder: RunFolder) -> None:
        """Take over the targets of this round, as far as an earlier session has made them."""
        if not folder.targets.is_file():
            return
        tensors, about = checkpoint.load_saved(folder.targets)
        of_round = cast(dict[str, Any], about).get("round") == self.round
        regions = tensors.get("regions")
        if regions is None or not of_round or not is_of_run(about, self.config, self.restarts, folder.targets):
            return
        if len(regions) > self.count or regions.shape[1:] != self.targets.regions.shape[1:]:
            raise ModelError(f"{printable(folder.targets)} is damaged: it has masks of other images")
        self.targets.made = len(regions)
        self.targets.regions[: len(regions)] = regions.numpy()
        if "kept" in tensors:
            self.targets.kept = tensors["kept"].numpy()
