"""The page's tabs, fields and buttons. Imports gradio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from redoseg.system import cores
from redoseg.web.answers import MAX_REDRAWINGS, Answers, in_a_line
from redoseg.web.inputs import photo_input

WAITING = 64  # jobs; a request beyond them gets the answer that the queue is full
_REFRESH = 10  # seconds between two readings of a run folder


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
        except Exception:  # gradio's, of many kinds; our own have been reported (`in_a_line`)
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
            photo = photo_input(answers.folder)
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
        [photo.change, threshold.change], in_a_line(answers.show), [photo, threshold, why],
        [photo, why, overlay, mask, cut, words, *downloads],
        api_visibility="private", trigger_mode="always_last", show_progress="minimal",
        show_progress_on=overlay, **_work(),
    )  # fmt: skip
    shown_now.success(
        in_a_line(answers.save), [photo, threshold], downloads, api_visibility="private", show_progress="hidden",
        trigger_mode="always_last", **_work(),
    )  # fmt: skip
    gr.on(
        gr.Button(visible=False).click, in_a_line(answers.segment), [photo, threshold], downloads, api_name="segment",
        api_description="Mask, cut-out and soft mask of a photograph, as PNG files of its size.", **_work(),
    )  # fmt: skip


def _redrawings(answers: Answers, photo: gr.Image) -> None:
    with gr.Row(equal_height=True):
        count = gr.Slider(1, MAX_REDRAWINGS, 4, step=1, label="Redrawings")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1)
        button = gr.Button("Redraw the object", elem_id="redraw")
    gallery = gr.Gallery(label="Redrawings", columns=4, object_fit="contain", format="png", elem_id="redrawings")
    gr.on(
        button.click, in_a_line(answers.redrawings), [photo, count, seed], gallery, api_name="redraw",
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
        [refresh.click, run.change, page.load, gr.Timer(_REFRESH).tick], in_a_line(answers.progress), run,
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
