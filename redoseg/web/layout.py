"""The page's tabs and buttons, and what they answer. Imports gradio."""

from __future__ import annotations

import functools
import itertools
import re
import traceback
from abc import ABCMeta
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from redoseg.errors import ConfigError, DataError, RedosegError
from redoseg.files import MARK, printable
from redoseg.images.kinds import IMAGE_SUFFIXES
from redoseg.system import cores
from redoseg.web.cuts import Cuts
from redoseg.web.progress import run_names, run_progress

MAX_REDRAWINGS = 12
WAITING = 64  # jobs; a request beyond them gets the answer that the queue is full
_REFRESH = 10  # seconds between two readings of a run folder

CSS = """
.gradio-container { width: 100%; max-width: 1400px !important; margin: 0 auto; }
.gradio-container h1 { margin: 0; }
#save-mask, #save-cutout, #save-soft { white-space: nowrap; padding-inline: 4px; }
@media (max-width: 480px) { #save-mask, #save-cutout, #save-soft { font-size: 12px; } }
#several:empty { display: none; }
#said { min-height: 1.6em; }
#photo img, #overlay img, #mask img, #cutout img { width: 100%; height: 100%; object-fit: contain; }
footer { opacity: .6; }
"""

# Of several files that are dropped or pasted, gradio takes the first and says nothing. This stands in the page's head,
# so that it is there before a file can be dropped, and writes again into an element that gradio makes late or again.
HEAD = """<script>{
    let text = "";
    const write = () => {
        const said = document.getElementById("several");
        if (said && said.textContent !== text) said.textContent = text;
    };
    const seen = data => {
        if (!data || !data.files.length) return;
        const count = data.files.length;
        text = count < 2 ? "" :
            `${count} photographs were dropped. This page takes one at a time, the first: ${data.files[0].name}. ` +
            "For several, drop them one after another, or run redoseg segment on their folder.";
        write();
    };
    document.addEventListener("drop", event => seen(event.dataTransfer), true);
    document.addEventListener("paste", event => seen(event.clipboardData), true);
    new MutationObserver(write).observe(document, {childList: true, subtree: true});
}</script>"""

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


def _in_a_line(function: Callable[..., Any]) -> Callable[..., Any]:
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


def build_page(answers: Answers, examples: Sequence[Path]) -> gr.Blocks:
    """The page, not served yet. `examples` are photographs that a click tries, below the folder of `answers`."""
    with gr.Blocks(title="redoseg", analytics_enabled=False) as page:
        gr.Markdown(
            "# redoseg\nCuts the object out of a photograph; learnt without a single mask. "
            "What you drop here stays on the computer that serves this page."
        )
        with gr.Tab("Cut out"):
            _cut_out_tab(answers, examples)
        with gr.Tab("Training"):
            _training_tab(answers, page)
    _refuse_wrong_values(page)
    page.queue(max_size=WAITING, default_concurrency_limit=cores(), api_open=False)
    return page


def _refuse_wrong_values(page: gr.Blocks) -> None:
    """Values of other types than a call takes are one line for the caller, and nothing in the log."""
    changeable: Any = page
    process = page.process_api

    async def processed(block_fn: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return await process(block_fn, *arguments, **named)
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception:  # gradio's, of many kinds; our own have been reported (`_in_a_line`)
            function: Any = page.fns[block_fn] if isinstance(block_fn, int) else block_fn
            kinds = ", ".join(f"{block.label} ({_kind_of(block)})" for block in function.inputs)
            raise gr.Error(
                f"The values of this call cannot be used. Expected: {kinds}. /gradio_api/info describes them.",
                print_exception=False,
            ) from None

    changeable.process_api = processed


def _kind_of(block: Any) -> str:
    if isinstance(block, gr.Image):
        return "an uploaded file"
    return "a text" if isinstance(block, gr.Dropdown) else "a number"


def _cut_out_tab(answers: Answers, examples: Sequence[Path]) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            photo = _photo_input(answers.folder)
            threshold = gr.Slider(
                0, 1, 0.5, step=0.01, label="Threshold", elem_id="threshold",
                info="How sure the model must be. A lower value makes the object larger, a higher one smaller.",
            )  # fmt: skip
            with gr.Row():
                downloads = [
                    gr.DownloadButton(f"↓ {label}", interactive=False, size="md", min_width=90, elem_id=f"save-{name}")
                    for label, name in (("Mask", "mask"), ("Cut-out", "cutout"), ("Soft mask", "soft"))
                ]
            gr.HTML('<p id="several" role="status"></p>')
            words = gr.Markdown("", elem_id="said")
            why = gr.State("")
        with gr.Column(scale=3, min_width=320):
            overlay = _shown_image("Overlay", "overlay", 360)
            with gr.Row():
                mask = _shown_image("Mask", "mask", 280)
                cut = _shown_image("Cut-out", "cutout", 280)
    if examples:
        gr.Examples([[str(path)] for path in examples], photo, cache_examples=False, preload=False)
    if answers.redraw is None:
        gr.Markdown("*This model makes no redrawings: it was exported without the part that draws.*")
    else:
        _redrawings(answers, photo)
    shown_now = gr.on(
        [photo.change, threshold.change], _in_a_line(answers.show), [photo, threshold, why],
        [photo, why, overlay, mask, cut, words, *downloads],
        api_visibility="private", trigger_mode="always_last", show_progress="minimal",
        show_progress_on=overlay, **_work(),
    )  # fmt: skip
    shown_now.success(
        _in_a_line(answers.save), [photo, threshold], downloads, api_visibility="private", show_progress="hidden",
        trigger_mode="always_last", **_work(),
    )  # fmt: skip
    gr.on(
        gr.Button(visible=False).click, _in_a_line(answers.segment), [photo, threshold], downloads, api_name="segment",
        api_description="Mask, cut-out and soft mask of a photograph, as PNG files of its size.", **_work(),
    )  # fmt: skip


def _redrawings(answers: Answers, photo: gr.Image) -> None:
    with gr.Row(equal_height=True):
        count = gr.Slider(1, MAX_REDRAWINGS, 4, step=1, label="Redrawings")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1)
        button = gr.Button("Redraw the object", elem_id="redraw")
    gallery = gr.Gallery(label="Redrawings", columns=4, object_fit="contain", format="png", elem_id="redrawings")
    gr.on(
        button.click, _in_a_line(answers.redrawings), [photo, count, seed], gallery, api_name="redraw",
        api_description="Redraw the object of a photograph: files.", **_work(),
    )  # fmt: skip


def _training_tab(answers: Answers, page: gr.Blocks) -> None:
    if not answers.runs:
        gr.Markdown("No run folder was chosen. Start with `redoseg serve --run FOLDER` to see one here.")
        return
    with gr.Row():
        run = gr.Dropdown(list(answers.runs), value=next(iter(answers.runs)), label="Run", scale=4, elem_id="run")
        refresh = gr.Button("Look again", scale=1, min_width=120, size="md")
    words = gr.Markdown(elem_id="words")
    with gr.Row():
        curves = _shown_image("Losses, sizes and scores", "curves")
        grids = _shown_image("Samples", "samples")
    gr.on(
        [refresh.click, run.change, page.load, gr.Timer(_REFRESH).tick], _in_a_line(answers.progress), run,
        [words, curves, grids], api_name="progress", show_progress="hidden", trigger_mode="once",
        api_description="How far a run is: words, curves, samples.", concurrency_limit=1,
    )  # fmt: skip


def _work() -> dict[str, Any]:
    """Jobs that compute share one limit: as many at a time as there are cores."""
    return {"concurrency_limit": cores(), "concurrency_id": "work"}


def _shown_image(label: str, name: str, height: int | None = None) -> gr.Image:
    """An image that the page shows and nobody changes; without a height it has no label in its corner."""
    return gr.Image(
        label=label,
        show_label=height is not None,
        elem_id=name,
        height=height,
        min_width=120 if height else 320,
        interactive=False,
        format="png",
        buttons=["fullscreen"],
        type="pil",
    )


def _photo_input(uploads: Path) -> gr.Image:
    """The upload. It gives the path of an uploaded file, which gradio neither decodes nor fetches from elsewhere."""

    async def local_only(self: gr.Image, path: Any) -> Any:
        if "://" in str(path):
            raise gr.Error("The page reads files, not addresses. Upload the photograph.", print_exception=False)
        return await gr.Image.async_move_resource_to_block_cache(self, path)

    def path_of(_: gr.Image, payload: Any) -> str | None:
        if payload is None:
            return None
        if not payload.path:
            raise gr.Error(
                "The request names no file. Send the photograph to /upload first, then the path from its answer."
            )
        path = Path(payload.path).resolve()
        if not path.is_relative_to(uploads):
            raise gr.Error(
                "The page opens only photographs that were uploaded to it. Upload this one first.",
                print_exception=False,
            )
        return str(path)

    # A class, since gradio makes a component of the same class again when it changes one. Past its metaclass, which
    # would write a type stub beside this file.
    methods = {"async_move_resource_to_block_cache": local_only, "preprocess": path_of}
    kind: Any = ABCMeta.__new__(type(gr.Image), "Image", (gr.Image,), methods | {"__module__": gr.Image.__module__})
    photo: gr.Image = kind(
        label="Photograph",
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        height=360,
        elem_id="photo",
        buttons=["fullscreen"],
    )
    return photo
