"""What the page's buttons and endpoints answer, and how a mistake becomes one line. Imports gradio."""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
import secrets
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from redoseg.errors import ConfigError, DataError, RedosegError
from redoseg.files import in_shell, printable
from redoseg.images.kinds import listed
from redoseg.images.photo import Photo
from redoseg.inference.redraw import at_most
from redoseg.inference.request import Request
from redoseg.own_results import MARK
from redoseg.web import corrections
from redoseg.web.cutout import CutOut, number_of
from redoseg.web.cuts import Cuts
from redoseg.web.drawings import LIKE, Drawings, Redraw
from redoseg.web.progress import run_names, run_progress
from redoseg.web.several import request_of, segment_several

_PROGRESS = gr.Progress()


class Answers:
    """What buttons and endpoints answer. The names of parameters are those of the HTTP interface.

    Args:
        cuts: the photographs and their masks.
        redraw: None if the model cannot redraw.
        runs: run folders that are shown.
        folder: where uploads are, and files to download are written.
        sweep: deletes the oldest of them if there are too many.
        corrected: where corrected masks are saved; offered as an archive if None.
    """

    def __init__(
        self,
        cuts: Cuts,
        redraw: Redraw | None,
        runs: Sequence[Path],
        folder: Path,
        sweep: Callable[[], None],
        *,
        corrected: Path | None = None,
    ) -> None:
        self.cuts, self.redraw, self.runs, self.folder = cuts, redraw, run_names(runs), folder
        self.sweep, self.corrected = sweep, corrected

    def show(self, photo: Any, threshold: Any, why: Any, *look: Any) -> Any:
        """Photograph, why it was refused, overlay, mask, cut-out, words, and what waits for `compare` and `save`.

        A photograph that cannot be used is removed from the page. The page then asks again, without one, and still
        shows why. `look` has the fields of `CutOut`.
        """
        level = number_of(threshold, 0, 1, "The threshold")
        waiting = [gr.skip(), *itertools.repeat(gr.DownloadButton(value=None, interactive=False), 3)]
        if not photo:
            return [gr.skip(), "", None, None, None, str(why or ""), None, *waiting[1:]]
        try:
            self.cuts.of(_uploaded(photo))
        except RedosegError as error:
            reason = f"**That did not work.** {_plain(str(error))}"
            return [None, reason, None, None, None, reason, None, *waiting[1:]]
        try:
            images, words = self.cuts.previews(_uploaded(photo), level, self._cutout(*look))
        except RedosegError as error:  # the photograph can stay
            return [gr.skip(), "", gr.skip(), gr.skip(), None, f"**No cut-out.** {_plain(str(error))}", *waiting]
        _mark(images)
        return [gr.skip(), "", *images, words, gr.skip(), *itertools.repeat(gr.DownloadButton(interactive=False), 3)]

    def compare(self, photo: Any, threshold: Any, *look: Any) -> Any:
        """Photograph and cut-out for the slider, if there is a photograph."""
        if not photo:
            return None
        with contextlib.suppress(RedosegError):  # `show` has said why
            level = number_of(threshold, 0, 1, "The threshold")
            written = self.cuts.before_after(_uploaded(photo), level, self.folder, self._cutout(*look))
            return tuple(map(str, written))
        return gr.skip()

    def save(self, photo: Any, threshold: Any, *look: Any) -> Any:
        """The three files to download, if there is a photograph."""
        if not photo:
            return [gr.skip()] * 3
        try:
            return self._files(photo, threshold, self._cutout(*look))
        except RedosegError:  # `show` has said why
            return [gr.skip()] * 3

    def segment(self, photo: Any, threshold: Any) -> Any:
        """The three files to download."""
        return self._files(photo, threshold, CutOut().request(self.cuts.ground))

    def _files(self, photo: Any, threshold: Any, cutout: Request) -> Any:
        level = number_of(threshold, 0, 1, "The threshold")
        written = self.cuts.files(_uploaded(photo), level, self.folder, cutout)
        self.sweep()
        return [gr.DownloadButton(value=str(path), interactive=True) for path in written]

    def _cutout(self, *look: Any) -> Request:
        return CutOut(*look).request(self.cuts.ground)

    def several(
        self,
        photographs: Any,
        kinds: Any,
        threshold: Any,
        parts: Any,
        label: Any,
        ground: Any,
        colour: Any,
        picture: Any,
        frame: Any,
        side: Any,
        margin: Any,
        form: Any,
        progress: gr.Progress = _PROGRESS,
    ) -> Any:
        """An archive of the results, small pictures of all, and words."""
        if not photographs:
            raise DataError("There are no photographs yet. Drop some on the page first.")
        level = number_of(threshold, 0, 1, "The threshold")
        cutout = self._cutout(ground, colour, picture, frame, side, margin, form)
        request = request_of(cutout, kinds or (), level, bool(parts), str(label or "")[:100])
        try:
            batch = segment_several(
                self.cuts,
                [Path(path) for path in photographs],
                request,
                self.folder,
                lambda done, total: progress((done, total), unit="photographs"),
            )
        finally:
            self.sweep()
        return gr.DownloadButton(value=str(batch.archive), interactive=True), batch.tiles, _plain(batch.words)

    def open_mask(self, photo: Any, threshold: Any) -> Any:
        """What the editor shall show, which is new each time, the button that saves, and words."""
        level = number_of(threshold, 0, 1, "The threshold")
        path = _uploaded(photo)
        self.cuts.of(path)
        words = (
            f"{_plain(path.name)}, at a threshold of {level:.2f}. Paint what is missing, and rub out what is too much."
        )
        return (str(path), level, secrets.token_hex(4)), gr.Button(interactive=True), words

    def to_paint(self, opened: Any) -> tuple[Image.Image, Image.Image]:
        """A small copy of the photograph that is open, and its mask as paint."""
        small, mask, _ = self.cuts.to_correct(Path(opened[0]), opened[1])
        return small, corrections.painted(mask)

    def correct(self, layer: Any, opened: Any, saved: Any) -> Any:
        """The corrected mask is saved: an archive of all that this browser has saved, its folder, and words."""
        if not opened or layer is None:
            raise DataError("There is no mask in the editor yet. Open one first.")
        path = Path(opened[0])
        small, shown, mask = self.cuts.to_correct(path, opened[1])
        paint = corrections.read_layer(Path(layer), small.size) if layer else None
        result = corrections.corrected(mask, shown, paint)
        folder = self.corrected or Path(saved or self.folder / secrets.token_hex(16) / "corrected")
        count = corrections.save(path, result, folder)
        said = f"{_plain(path.name)} is saved, with its mask. There {'is 1' if count == 1 else f'are {count}'} now"
        if self.corrected:
            where = in_shell(folder).replace("`", "'")
            return (
                gr.skip(),
                None,
                f"{said} in the folder. To learn from them: `redoseg refine RUN --corrected {where}`",
            )
        packed = corrections.archive(folder, folder.parent / "corrected.zip")
        self.sweep()
        return gr.DownloadButton(value=str(packed), interactive=True), str(folder), f"{said} in the archive."

    def redrawings(self, photo: Any, count: Any, seed: Any, what: Any, like: Any, form: Any) -> Any:
        """The redrawings as RGB images, or one film; with the texture of the photograph `like`, if there is one."""
        assert self.redraw is not None
        wanted, path, other = Drawings(count, seed, what, form), _uploaded(photo), None
        if like:  # made small first: who holds two photographs could wait for another who does
            with self.cuts.held(_uploaded(like)) as cut:
                other = Photo(at_most(cut.photo, LIKE))
        with self.cuts.held(path) as cut:
            made = wanted.made(self.redraw, cut.photo, other, self.folder)
        _mark([one for one in made if isinstance(one, Image.Image)])
        self.sweep()
        return made

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


def _uploaded(photo: Any) -> Path:
    if not isinstance(photo, str) or not photo:
        raise DataError("There is no photograph yet. Drop one on the page first.")
    path = Path(photo)
    kind = listed(path)
    if kind is False and path.exists():
        raise DataError(f"{printable(path.name)} has a format that redoseg does not read. Save it as JPEG or PNG.")
    if isinstance(kind, str):
        raise DataError(f"{printable(path.name)}: {kind}")
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
