"""A model as one page that needs no server, no Python and no network: `redoseg export MODEL -o site/ --web`.

index.html contains the style, the scripts of `page/`, ONNX Runtime's WebAssembly, the weights and the licences. A
browser that opens it as a file may load neither modules nor other files, and a phone that gets the one file has all of
it.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from redoseg import __version__
from redoseg.browser.runtime import VERSION, OnBytes, Runtime, find_runtime
from redoseg.browser.space import CARD, space_card
from redoseg.files import at_home, whole_folder, write_atomic
from redoseg.inference.model_file import find_model
from redoseg.inference.redraw import RedrawModel, can_redraw
from redoseg.inference.segmenter import Segmenter
from redoseg.run_folder import REDRAW_FILE

PAGE, WORKER = "index.html", "worker.js"
SCRIPTS = ("resize", "guided", "clean", "photo", "segmenter", "cut", "redraw", "png", "zip", "preview", "page")
"""In the order in which the page runs them."""


def write_site(
    model: str | Path,
    out: str | Path,
    notes: Sequence[str] = (),
    *,
    runtime: Path | None = None,
    on_bytes: OnBytes | None = None,
    space: str | None = None,
) -> int:
    """Write the folder `out` with the page of a model; returns its size in bytes.

    Args:
        model: as `Segmenter` takes it. The page also draws if the model has a redraw.onnx.
        out: the folder to make. A kill leaves no half folder of that name.
        notes: texts for the foot of the page, such as the licence of the weights.
        runtime: a local copy of ONNX Runtime Web, as `find_runtime` takes it.
        on_bytes: called while it is fetched.
        space: the licence of the weights, or "", to make the folder of a Space on Hugging Face's hub; None for none.

    Raises ModelError if there is no model, RedosegError if `out` exists, DataError if it cannot be written or ONNX
    Runtime Web cannot be fetched.
    """
    with whole_folder(at_home(out)) as partial:
        drawing = RedrawModel(model) if can_redraw(model) else None
        segmenter = drawing.segmenter if drawing else Segmenter(model)
        networks = {"mask-model": find_model(model).content}
        if drawing:
            networks["redraw-model"] = find_model(model, REDRAW_FILE).content
        page = page_of(about_model(segmenter, drawing), networks, find_runtime(runtime, on_bytes), notes)
        files = {PAGE: page, WORKER: _packaged(WORKER)}
        if space is not None:
            files[CARD] = space_card(segmenter.name, segmenter.size, space, list(notes))
        for name, text in files.items():
            write_atomic(partial / name, text.encode())
        return sum((partial / name).stat().st_size for name in files)


def about_model(segmenter: Segmenter, drawing: RedrawModel | None) -> dict[str, object]:
    """What the scripts have to know of a model."""
    factor, offset = segmenter.value_range
    found: dict[str, object] = {
        "name": segmenter.name,
        "size": segmenter.size,
        "regions": segmenter.regions,
        "object": segmenter.object_region,
        "factor": factor,
        "offset": offset,
    }
    return found | ({"redraw": {"size": drawing.size, "latent": drawing.latent}} if drawing else {})


def page_of(about: dict[str, object], networks: dict[str, bytes], runtime: Runtime, notes: Iterable[str]) -> str:
    """The text of index.html."""
    scripts = "\n".join([runtime.script, *(_packaged(f"{name}.js") for name in SCRIPTS)])
    style = _packaged("style.css")
    blocks = {"runtime": runtime.wasm} | networks
    data = [_block("about-model", "application/json", json.dumps(about).replace("<", "\\u003c"))]
    data += [_block(name, "text/plain", _packed(content)) for name, content in blocks.items()]
    parts = {
        "policy": _policy(scripts, style),
        "name": html.escape(str(about["name"])),
        "version": __version__,
        "runtime": VERSION,
        "notes": "\n  ".join(f"<p>{html.escape(note)}</p>" for note in notes),
        "licences": html.escape(_packaged("licences.txt")),
        "style": style,
        "data": "\n".join(data),
        "scripts": scripts,
    }
    # in one pass, so that nothing within a part is replaced
    return re.sub("{(" + "|".join(parts) + ")}", lambda found: parts[found[1]], _packaged(PAGE))


def _packaged(name: str) -> str:
    return (resources.files("redoseg") / "browser" / "page" / name).read_text("utf-8")


def _block(name: str, kind: str, content: str) -> str:
    return f'<script type="{kind}" id="{name}">{content}</script>'


def _packed(content: bytes) -> str:
    return b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _policy(scripts: str, style: str) -> str:
    """What the browser may run and load: this script and this style alone, and nothing from a network."""

    def digest(text: str) -> str:
        return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {digest(scripts)} 'wasm-unsafe-eval'; style-src {digest(style)}; "
        "img-src blob: data:; worker-src 'self'; base-uri 'none'; form-action 'none'"
    )
