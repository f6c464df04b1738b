"""What became of a picture or of many: counted while they are segmented, and handed back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from redoseg.files import printable
from redoseg.images.cut_short import notes_of
from redoseg.images.read import note_results
from redoseg.inference.doubt import is_doubtful
from redoseg.inference.one_picture import Plan
from redoseg.inference.steps import Done
from redoseg.storage import Place


@dataclass(frozen=True)
class SegmentReport:
    """What became of a picture or of many."""

    done: int
    failed: tuple[tuple[Place, str], ...]
    """Pictures without a result, each with its reason."""
    written: tuple[Place, ...] = ()
    notes: tuple[str, ...] = ()
    """What else a user should know."""
    doubtful: int = 0
    """How many of those done look doubtful, by the network's confidence."""
    skipped: int = 0
    """Pictures whose result was there already."""
    differing: tuple[Place, ...] = ()
    """Pictures whose result was there and stays, but is of other settings or of a picture that has changed since."""


OnItem = Callable[[Place, int, int, str | None], None]
"""Called with a picture, the pictures done, their total, and why it failed if it did. With shards for pictures where
those are segmented."""


@dataclass
class Tally:
    """What became of the pictures so far."""

    failed: list[tuple[Place, str]] = field(default_factory=list)
    own: int = 0
    """Pictures that redoseg itself made."""
    done: int = 0
    skipped: int = 0
    doubtful: int = 0
    differing: list[Place] = field(default_factory=list)
    written: list[Place] = field(default_factory=list)
    cut_short: list[tuple[str, str]] = field(default_factory=list)

    def take(self, one: Done) -> None:
        """Count one picture."""
        job, result = one
        if result is None:
            self.own += 1
        elif isinstance(result, str):
            self.failed.append((job.image, result))
        else:
            self.differing += [job.image] if result.differs else []
            if isinstance(result, Plan):
                self.skipped += not result.differs
                return
            self.done += not result.differs
            self.doubtful += is_doubtful(result.confidence)
            if result.note:
                self.cut_short.append((printable(job.image), result.note))

    def add(self, other: Tally) -> None:
        """Add what another one has counted."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def report(self) -> SegmentReport:
        """All of it."""
        return SegmentReport(
            self.done,
            tuple(self.failed),
            tuple(self.written),
            (*notes_of(self.cut_short), *note_results(self.own)),
            self.doubtful,
            self.skipped,
            tuple(self.differing),
        )
