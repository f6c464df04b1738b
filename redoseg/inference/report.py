"""What became of pictures and films: counted while they are segmented, and handed back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from redoseg.files import printable
from redoseg.images.cut_short import notes_of
from redoseg.images.read import note_results
from redoseg.inference.doubt import is_doubtful
from redoseg.inference.film_sources import Films
from redoseg.inference.one_image import Plan
from redoseg.inference.steps import Done
from redoseg.storage import Place


@dataclass(frozen=True)
class FilmReport:
    """What became of a film."""

    film: Path
    frames: int = 0
    doubtful: int = 0
    """Frames whose mask looks doubtful, by the network's confidence."""
    agreement: float | None = None
    """Mean IoU of the masks of neighbouring frames, after the camera's own motion; None without two such masks."""
    written: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: bool = False
    """Whether its results were there already."""
    differs: bool = False
    """Whether a result was there and stays, but is of other settings or another film."""
    why: str = ""
    """Why it failed, if it did."""


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
    films: tuple[FilmReport, ...] = ()
    """What became of films, which are not among the numbers above."""


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
            done=self.done,
            failed=tuple(self.failed),
            written=tuple(self.written),
            notes=(*notes_of(self.cut_short), *note_results(self.own)),
            doubtful=self.doubtful,
            skipped=self.skipped,
            differing=tuple(self.differing),
        )


def joined(images: SegmentReport, films: Sequence[FilmReport]) -> SegmentReport:
    """The report of a call that had pictures and films."""
    notes = [f"{printable(one.film)}: {note}" for one in films for note in one.notes]
    return replace(
        images,
        failed=(*images.failed, *((one.film, one.why) for one in films if one.why)),
        written=(*images.written, *(path for one in films for path in one.written)),
        notes=(*images.notes, *notes),
        differing=(*images.differing, *(one.film for one in films if one.differs)),
        films=tuple(films),
    )


def note_films(films: Films) -> tuple[str, ...]:
    """A note on films that a call could not segment; none where there are none."""
    if not films.passed_over:
        return ()
    first = printable(films.passed_over[0])
    return (f"films not segmented: {len(films.passed_over):,} (the first is {first}), since {films.why}",)
