"""README.md of a Hugging Face Space: a static one, which serves the page of `site.py` and runs no program."""

from __future__ import annotations

import json

from redoseg.inference.hub import licence_identifier

CARD = "README.md"


def space_card(name: str, size: int, licence: str, notes: list[str]) -> str:
    """The card's text, whose first lines say to the hub what the Space is.

    `name` is the model's, `size` the side of the pictures that it sees [pixels]. `notes` are further paragraphs.
    """
    header = {
        "title": f"redoseg: {name}",
        "emoji": "✂️",
        "colorFrom": "pink",
        "colorTo": "indigo",
        "sdk": "static",
        "app_file": "index.html",
        "pinned": False,
        "license": licence_identifier(licence),
        "short_description": "Cuts the object out of a photograph, in your browser",
        "tags": ["redoseg", "image-segmentation", "onnx"],
    }
    about = (
        f"Drop a photograph, and get its mask and cut-out. The model `{name}` ({size} x {size} pixels) runs in the "
        "browser with ONNX Runtime Web. No photograph leaves it."
    )
    lines = ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items()), "---"]
    return "\n\n".join(["\n".join(lines), f"# redoseg: {name}", about, *notes]) + "\n"
