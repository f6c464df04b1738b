"""The page's inputs, which take uploaded files alone. Imports gradio."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from redoseg.images.read import OBJECT, UNLABELLED
from redoseg.web.corrections import OPACITY, PAINT


def photo_input(
    uploads: Path, label: str = "Photograph", name: str = "photo", height: int = 360, visible: bool = True
) -> gr.Image:
    """The upload of a picture. It gives the path of its file, which gradio neither decodes nor fetches."""

    def path_of(_: gr.Image, payload: Any) -> str | None:
        return None if payload is None else _uploaded(payload.path, uploads)

    photo: gr.Image = _uploads_alone(gr.Image, path_of)(
        label=label,
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        height=height,
        elem_id=name,
        visible=visible,
        buttons=["fullscreen"],
    )
    return photo


def photos_input(uploads: Path) -> gr.File:
    """The upload of several files. It gives their paths."""

    def paths_of(_: gr.File, payload: Any) -> list[str]:
        return [] if payload is None else [_uploaded(file.path, uploads) for file in payload.root]

    photos: gr.File = _uploads_alone(gr.File, paths_of)(
        label="Photographs", file_count="multiple", height=240, elem_id="photos"
    )
    return photos


def mask_editor(uploads: Path, image: Image.Image, layer: Image.Image) -> gr.ImageEditor:
    """A picture with a layer of paint of its size. It gives the path of that layer's file; gradio decodes nothing.

    The path is empty where there is no paint, and None where the picture has been removed too.
    """

    def layer_of(_: gr.ImageEditor, payload: Any) -> str | None:
        if payload is None or payload.background is None:
            return None
        return _uploaded(payload.layers[0].path, uploads) if payload.layers else ""

    colours: list[Any] = [(PAINT[value], OPACITY) for value in (OBJECT, UNLABELLED)]
    editor: gr.ImageEditor = _uploads_alone(gr.ImageEditor, layer_of)(
        {"background": image, "layers": [layer], "composite": None},
        label="Mask",
        type="filepath",
        canvas_size=image.size,  # elsewhere the layer is not in its place
        interactive=True,
        format="png",
        sources=(),
        transforms=(),
        layers=False,
        brush=gr.Brush(colors=colours, default_color=colours[0], color_mode="fixed"),
        buttons=["fullscreen"],
        height=520,
        elem_id="editor",
    )
    return editor


def _uploaded(path: Any, uploads: Path) -> str:
    """The path of an uploaded file. Raises gr.Error for any other."""
    if not path:
        raise gr.Error(
            "The request names no file. Send the photograph to /upload first, then the path from its answer."
        )
    resolved = Path(path).resolve()
    if not resolved.is_relative_to(uploads):
        raise gr.Error(
            "The page opens only photographs that were uploaded to it. Upload this one first.",
            print_exception=False,
        )
    return str(resolved)


def _uploads_alone(kind: Any, preprocess: Callable[[Any, Any], Any]) -> Any:
    """A class of components whose values are uploaded files, from a function that takes what a request has."""

    async def local_only(self: Any, path: Any) -> Any:
        if "://" in str(path):
            raise gr.Error("The page reads files, not addresses. Upload the photograph.", print_exception=False)
        return await kind.async_move_resource_to_block_cache(self, path)

    # A class, since gradio makes a component of the same class again when it changes one. Past its metaclass, which
    # would write a type stub beside this file.
    methods = {"async_move_resource_to_block_cache": local_only, "preprocess": preprocess}
    return ABCMeta.__new__(type(kind), kind.__name__, (kind,), methods | {"__module__": kind.__module__})
