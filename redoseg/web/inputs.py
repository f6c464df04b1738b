"""The page's inputs, which take uploaded files alone. Imports gradio."""

from __future__ import annotations

from abc import ABCMeta
from pathlib import Path
from typing import Any

import gradio as gr


def photo_input(uploads: Path) -> gr.Image:
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
