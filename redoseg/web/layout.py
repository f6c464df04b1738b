"""The page's tabs, fields and buttons. Imports gradio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from redoseg.inference.request import MOST_SQUARE
from redoseg.inference.results import MARGIN
from redoseg.system import cores
from redoseg.web.answers import Answers, in_a_line
from redoseg.web.cutout import (
    BOX,
    COLOUR,
    FORMATS,
    FRAMES,
    GROUNDS,
    MOST_MARGIN,
    PICTURE,
    SIDE,
    SQUARE,
    TRANSPARENT,
    WHOLE,
)
from redoseg.web.drawings import MOST, PICTURES, REGIONS, forms
from redoseg.web.inputs import mask_editor, photo_input, photos_input
from redoseg.web.several import NAMES, kinds_offered

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
            photo, threshold = _cut_out_tab(answers, examples)
        with gr.Tab("Several"):
            _several_tab(answers)
        with gr.Tab("Correct"):
            _correct_tab(answers, photo, threshold)
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
    for kind, name in (
        (gr.Image, "an uploaded file"),
        (gr.File, "uploaded files"),
        (gr.CheckboxGroup, "a list of texts"),
        (gr.Checkbox, "true or false"),
        ((gr.Dropdown, gr.Radio, gr.Textbox, gr.ColorPicker), "a text"),
    ):
        if isinstance(block, kind):
            return str(name)
    return "a number"


def _cut_out_tab(answers: Answers, examples: Sequence[Path]) -> tuple[gr.Image, gr.Slider]:
    """One photograph; returns its field and that of the threshold."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            photo = photo_input(answers.folder)
            threshold = _threshold("threshold")
            with gr.Row():
                downloads = [
                    gr.DownloadButton(f"↓ {label}", interactive=False, size="md", min_width=90, elem_id=f"save-{name}")
                    for label, name in (("Mask", "mask"), ("Cut-out", "cutout"), ("Soft mask", "soft"))
                ]
            gr.HTML('<p id="several" role="status"></p>', padding=False)
            words = gr.Markdown("", elem_id="said")
            look = _look_fields(answers, "")
            why = gr.State("")
        with gr.Column(scale=3, min_width=320):
            compare = gr.ImageSlider(
                label="Before and after", elem_id="compare", height=420, max_height=420, interactive=False,
                buttons=["fullscreen"], type="filepath",
            )  # fmt: skip
            with gr.Row():
                overlay = _shown_image("Overlay", "overlay", 240)
                mask = _shown_image("Mask", "mask", 240)
                cut = _shown_image("Cut-out", "cutout", 240)
    if examples:
        gr.Examples([[str(path)] for path in examples], photo, cache_examples=False, preload=False)
    if answers.redraw is None:
        gr.Markdown("*This model makes no redrawings: it was exported without the part that draws.*")
    else:
        _redrawings(answers, photo)
    quietly: dict[str, Any] = {"api_visibility": "private", "trigger_mode": "always_last"} | _work()
    gr.on(
        [field.change for field in (photo, threshold, *look)], in_a_line(answers.show), [photo, threshold, why, *look],
        [photo, why, overlay, mask, cut, words, compare, *downloads],
        show_progress="minimal", show_progress_on=overlay, **quietly,
    ).success(
        in_a_line(answers.compare), [photo, threshold, *look], compare, show_progress="hidden", **quietly
    ).success(
        in_a_line(answers.save), [photo, threshold, *look], downloads, show_progress="hidden", **quietly
    )  # fmt: skip
    gr.on(
        gr.Button(visible=False).click, in_a_line(answers.segment), [photo, threshold], downloads, api_name="segment",
        api_description="Mask, cut-out and soft mask of a photograph, as PNG files of its size.", **_work(),
    )  # fmt: skip
    return photo, threshold


def _threshold(name: str) -> gr.Slider:
    return gr.Slider(
        0, 1, 0.5, step=0.01, label="Threshold", elem_id=name,
        info="How sure the model must be. A lower value makes the object larger, a higher one smaller.",
    )  # fmt: skip


def _look_fields(answers: Answers, prefix: str) -> list[Any]:
    """The fields of `CutOut`, in its order. Those that a choice makes needless are hidden."""
    with gr.Accordion("Cut-out: ground, frame, format", open=False, elem_id=f"{prefix}look"):
        ground = gr.Radio(list(GROUNDS), value=TRANSPARENT, label="Ground", elem_id=f"{prefix}ground")
        colour = gr.ColorPicker("#ffffff", label="Colour", visible=False, elem_id=f"{prefix}colour")
        picture = photo_input(answers.folder, "Picture for the ground", f"{prefix}picture", 180, False)
        frame = gr.Radio(list(FRAMES), value=WHOLE, label="Shows", elem_id=f"{prefix}frame")
        with gr.Row():
            side = gr.Number(
                SIDE, label="Side of the square [pixels]", precision=0, minimum=16, maximum=MOST_SQUARE, visible=False,
                elem_id=f"{prefix}side", min_width=120,
            )  # fmt: skip
            margin = gr.Slider(
                0, MOST_MARGIN, MARGIN, step=0.01, label="Margin", visible=False, elem_id=f"{prefix}margin",
                info="A share of the object's longer side.", min_width=160,
            )  # fmt: skip
        names = {"png": "PNG", "jpg": "JPEG", "webp": "WebP"}
        form = gr.Radio([(names[form], form) for form in FORMATS], value="png", label="Format", elem_id=f"{prefix}form")
    ground.change(
        lambda chosen: [gr.update(visible=chosen == COLOUR), gr.update(visible=chosen == PICTURE)], ground,
        [colour, picture], api_visibility="private", show_progress="hidden",
    )  # fmt: skip
    frame.change(
        lambda chosen: [gr.update(visible=chosen == SQUARE), gr.update(visible=chosen in (BOX, SQUARE))], frame,
        [side, margin], api_visibility="private", show_progress="hidden",
    )  # fmt: skip
    return [ground, colour, picture, frame, side, margin, form]


def _several_tab(answers: Answers) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            photographs = photos_input(answers.folder)
            kinds = gr.CheckboxGroup(
                [(NAMES[kind], kind) for kind in kinds_offered()], value=["mask", "cutout"], label="Results",
                elem_id="kinds", info="Masks and pictures, files for labelling tools, and a table of measures.",
            )  # fmt: skip
            threshold = _threshold("several-threshold")
            parts = gr.Checkbox(
                label="Each part for itself", elem_id="parts",
                info="Parts of a mask that do not touch become objects of their own, each with its own file.",
            )  # fmt: skip
            label = gr.Textbox(
                "", label="Name of the object", placeholder="flower", elem_id="label", max_length=100,
                info="For labelling tools; the name of the model if empty.",
            )  # fmt: skip
            look = _look_fields(answers, "several-")
            start = gr.Button("Segment all", variant="primary", elem_id="segment-all")
            download = gr.DownloadButton("↓ All results (zip)", interactive=False, elem_id="save-all")
            words = gr.Markdown("", elem_id="several-said")
        with gr.Column(scale=3, min_width=320):
            tiles = gr.Gallery(
                label="The least sure first", columns=6, object_fit="contain", height="auto", elem_id="tiles",
                buttons=["fullscreen"], interactive=False,
            )  # fmt: skip
    gr.on(
        start.click, in_a_line(answers.several), [photographs, kinds, threshold, parts, label, *look],
        [download, tiles, words], api_name="segment_several", trigger_mode="once", show_progress_on=tiles,
        api_description="The results of several photographs: a zip file, small pictures of all, and words.", **_work(),
    )  # fmt: skip


def _correct_tab(answers: Answers, photo: gr.Image, threshold: gr.Slider) -> None:
    gr.Markdown(
        "A mask that you correct can teach the model. Drop a photograph on the first tab, open its mask here, paint "
        "with the green brush what is missing, and rub out what is too much. What is orange counts neither way."
    )
    opened, saved = gr.State(None), gr.State(None)
    with gr.Row():
        start = gr.Button("Open the mask", elem_id="open-mask", min_width=120)
        done = gr.Button("Save the mask", variant="primary", interactive=False, elem_id="save-corrected", min_width=120)
        download = gr.DownloadButton(
            "↓ All corrections (zip)", interactive=False, visible=answers.corrected is None, elem_id="save-corrections",
            min_width=120,
        )  # fmt: skip
    words = gr.Markdown("", elem_id="correct-said")
    gr.on(
        start.click, in_a_line(answers.open_mask), [photo, threshold], [opened, done, words],
        api_visibility="private", **_work(),
    )  # fmt: skip

    def editor_of(which: Any) -> None:
        """Another editor for each mask: one that is there keeps the size of its canvas."""
        if which is None:
            return
        editor = mask_editor(answers.folder, *in_a_line(answers.to_paint)(which))
        gr.on(
            done.click, in_a_line(answers.correct), [editor, opened, saved], [download, saved, words],
            api_visibility="private", show_progress_on=words, **_work(),
        )  # fmt: skip

    gr.render(inputs=opened, triggers=[opened.change], **_work())(editor_of)


def _redrawings(answers: Answers, photo: gr.Image) -> None:
    with gr.Row(equal_height=True):
        count = gr.Slider(1, MOST, 4, step=1, label="Redrawings")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1)
        button = gr.Button("Redraw", elem_id="redraw")
    with gr.Accordion("What is redrawn", open=False, elem_id="redraw-fields"):
        what = gr.Radio(list(REGIONS), value="object", label="Region", elem_id="redraw-what")
        form = gr.Radio(forms(), value=PICTURES, label="As", elem_id="redraw-form")
        like = photo_input(answers.folder, "Texture of another photograph", "redraw-like", 180)
    gallery = gr.Gallery(label="Redrawings", columns=4, object_fit="contain", format="png", elem_id="redrawings")
    gr.on(
        button.click, in_a_line(answers.redrawings), [photo, count, seed, what, like, form], gallery,
        api_name="redraw", api_description="Redraw the object or ground of a photograph: pictures, or a film.",
        **_work(),
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
        min_width=100 if height else 320,
        interactive=False,
        format="png",
        buttons=["fullscreen"],
        type="pil",
    )
