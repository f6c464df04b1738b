"""The steps of each of many pictures: fetch, segment, write. Whatever runs them, threads or an engine, has these."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from redoseg.errors import DataError, FullError
from redoseg.files import printable
from redoseg.images.crashes import DecodingNotes
from redoseg.images.read import MAX_BYTES, MAX_PIXELS
from redoseg.inference.one_image import Job, Made, Plan, Work
from redoseg.own_results import is_result
from redoseg.system import Room, in_order

_FETCHERS = 16  # at most, each with a file or two in memory


class Done(NamedTuple):
    """What became of a picture."""

    job: Job
    """Without the picture's content."""
    made: Made | Plan | str | None
    """The plan if nothing was to be done; why it failed, if it did; None if redoseg itself made the picture."""


@dataclass
class Steps:
    """What is done with each picture. Safe in several threads."""

    work: Work
    most: int = MAX_PIXELS
    """Pixels that a picture may have."""
    room: Room = field(default_factory=lambda: Room(MAX_PIXELS))
    """So that many large pictures take no more memory than one."""
    most_bytes: int | None = None
    """What decoding a picture may take; None for what is usual."""

    def __post_init__(self) -> None:
        self.notes = DecodingNotes(self.work.store.notes)

    def fetch(self, job: Job) -> Job | Done:
        """The picture with its content, if it is not on this machine."""
        if job.content is not None or isinstance(job.image, Path):
            return job
        try:
            return job._replace(content=job.image.read_bytes(MAX_BYTES))
        except DataError as error:
            return Done(job, _why(error, job))

    def all(self, found: Job | Done) -> Done:
        """Segment a picture and write its results. Raises FullError."""
        return self._done(found, self._written)

    def make(self, found: Job | Done) -> Done:
        """Segment a picture; its results are in memory, for `write`."""
        return self._done(found, _packed)

    def write(self, done: Done) -> Done:
        """Write what `make` gave. Raises FullError."""
        if not isinstance(done.made, Made):
            return done
        try:
            return Done(done.job, self._written(done.made))
        except FullError:
            raise
        except DataError as error:
            return Done(done.job, _why(error, done.job))

    def _done(self, found: Job | Done, finish: Callable[[Made], Made]) -> Done:
        if isinstance(found, Done):
            return found
        try:
            return Done(found._replace(content=None), self._made(found, finish))
        except FullError:
            raise
        except DataError as error:
            return Done(found._replace(content=None), _why(error, found))
        except MemoryError:
            return Done(found._replace(content=None), "does not fit the memory that is free: make it smaller")

    def _made(self, job: Job, finish: Callable[[Made], Made]) -> Made | Plan | str | None:
        if job.content is not None and is_result(job.content):
            return None
        plan = self.work.plan(job)
        if not plan.kinds and not plan.review:
            return plan
        refused = self.work.refused(job, plan)
        if refused:
            return refused
        with self.room.shared() as take:  # results are drawn while they are written, from the picture in memory
            with self.notes.decoding(job.image, content=job.content):
                photo = self.work.read(job, self.most, take, self.most_bytes)
            return finish(self.work.make(photo, job, plan))

    def _written(self, made: Made) -> Made:
        self.work.write(made)
        return replace(made, files=[(path, (), key) for path, _, key in made.files])


def _packed(made: Made) -> Made:
    return replace(made, files=[(path, [b"".join(pieces)], key) for path, pieces, key in made.files])


def by_threads(steps: Steps, jobs: Sequence[Job], threads: int) -> Generator[Done, None, None]:
    """All steps of each picture, on several threads, in the order of the pictures.

    What is not on this machine is fetched some pictures ahead. Raises FullError.
    """
    with contextlib.ExitStack() as stack:
        found: Iterable[Job | Done] = jobs
        if not all(isinstance(job.image, Path) for job in jobs):
            fetched = in_order(steps.fetch, jobs, min(2 * threads, _FETCHERS))
            found = stack.enter_context(contextlib.closing(fetched))
        yield from stack.enter_context(contextlib.closing(in_order(steps.all, found, threads)))


def _why(error: DataError, job: Job) -> str:
    return str(error).removeprefix(f"{printable(job.image)}: ")
