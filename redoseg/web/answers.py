"""What the page's buttons and endpoints answer, and how a mistake becomes one line. Imports gradio."""

from __future__ import annotations

import functools
import itertools
import re
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from redoseg.errors import ConfigError, DataError, RedosegError
from redoseg.files import MARK, printable
from redoseg.images.kinds import IMAGE_SUFFIXES
from redoseg.web.cuts import Cuts
from redoseg.web.progress import run_names, run_progress

MAX_REDRAWINGS = 12

Redraw = Callable[[Image.Image, int, int], Sequence[Image.Image]]
"""From an RGB image, a number of redrawings and a seed to that many RGB images."""


class Answers:
    """What buttons and endpoints answer. The names of parameters are those of the HTTP interface.

    Args:
        cuts: the photographs and their masks.
        redraw: None if the model cannot redraw.
        runs: run folders that are shown.
        folder: where uploads are, and files to download are written.
        sweep: deletes the oldest of them if there are too many.
    """

    def __init__(
        self, cuts: Cuts, redraw: Redraw | None, runs: Sequence[Path], folder: Path, sweep: Callable[[], None]
    ) -> None:
        self.cuts, self.redraw, self.runs, self.folder = cuts, redraw, run_names(runs), folder
        self.sweep = sweep

    def show(self, photo: Any, threshold: Any, why: Any) -> Any:
        """Photograph, why it was refused, overlay, mask, cut-out, words, and the three buttons, which wait for `save`.

        A photograph that cannot be used is removed from the page. The page then asks again, without one, and still
        shows why.
        """
        level = _number(threshold, 0, 1, "The threshold")
        buttons = itertools.repeat(gr.DownloadButton(value=None, interactive=False), 3)
        if not photo:
            return [gr.skip(), "", None, None, None, str(why or ""), *buttons]
        try:
            images, words = self.cuts.previews(_uploaded(photo), level)
            _mark(images)
        except RedosegError as error:
            reason = f"**That did not work.** {_plain(str(error))}"
            return [None, reason, None, None, None, reason, *buttons]
        return [gr.skip(), "", *images, words, *itertools.repeat(gr.DownloadButton(interactive=False), 3)]

    def save(self, photo: Any, threshold: Any) -> Any:
        """The three files to download, if there is a photograph."""
        return self.segment(photo, threshold) if photo else [gr.skip()] * 3

    def segment(self, photo: Any, threshold: Any) -> Any:
        """The three files to download."""
        written = self.cuts.files(_uploaded(photo), _number(threshold, 0, 1, "The threshold"), self.folder)
        self.sweep()
        return [gr.DownloadButton(value=str(path), interactive=True) for path in written]

    def redrawings(self, photo: Any, count: Any, seed: Any) -> Any:
        """The redrawings, as RGB images."""
        assert self.redraw is not None
        found = self.cuts.of(_uploaded(photo)).photo
        number = int(_number(count, 1, MAX_REDRAWINGS, "The number of redrawings"))
        drawings = list(self.redraw(found.rgb, number, int(_number(seed, 0, 2**31 - 1, "The seed"))))
        _mark(drawings)
        return drawings

    def progress(self, run: Any) -> Any:
        """How far a run is: words, curves, samples."""
        if not isinstance(run, str) or run not in self.runs:
            raise ConfigError(f"This page does not show a run {str(run)[:40]!r}. Choose one from the list.")
        now = run_progress(self.runs[run])
        return now.words, now.curves, now.samples


def _mark(images: Sequence[Image.Image]) -> None:
    """Let each have the mark of a result also in the file that gradio makes of it, which a browser can save."""
    for image in images:
        image.info.update(MARK)


def _plain(text: str) -> str:
    """A text whose signs Markdown shows instead of following them."""
    return re.sub(r"([\\\\`*_{}\[\]<>#!|])", r"\\\1", text)


def _number(value: Any, least: float, most: float, what: str) -> float:
    if isinstance(value, (int, float)) and least <= value <= most:
        return float(value)
    raise ConfigError(f"{what} is {str(value)[:40]!r}, but must be a number from {least:g} to {most:g}.")


def _uploaded(photo: Any) -> Path:
    if not isinstance(photo, str) or not photo:
        raise DataError("There is no photograph yet. Drop one on the page first.")
    path = Path(photo)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError(f"{printable(path.name)} has a format that redoseg does not read. Save it as JPEG or PNG.")
    return path


def in_a_line(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show a user's mistake as one line on the page, without a traceback anywhere."""

    @functools.wraps(function)
    def answer(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except RedosegError as error:
            raise gr.Error(str(error), title="That did not work", print_exception=False) from None
        except Exception:
            traceback.print_exc()
            raise gr.Error(
                "Something in redoseg failed. What it was is printed where the page was started.", print_exception=False
            ) from None

    return answer
