"""The page: drop a photograph and see its mask, cut-out and redrawings; another tab shows how training goes.

The HTTP interface (`redoseg.web.api`) is served beside it, or alone.

It works without internet. It bounds what comes in: bytes of a request, pixels of a photograph, waiting and running
jobs, and bytes on disk. All files are in one temporary folder, which is deleted when the page ends.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redoseg.errors import ConfigError, MissingError
from redoseg.files import check_folder, describe_error, printable, temporary_folder
from redoseg.images.read import list_images
from redoseg.inference.devices import Device
from redoseg.inference.redraw import RedrawModel, can_redraw
from redoseg.inference.redraw_files import redrawings
from redoseg.inference.segmenter import Segmenter
from redoseg.web.cuts import Cuts
from redoseg.web.guard import EXAMPLES_FOLDER, Guard, free_port, is_loopback, tidy
from redoseg.web.limits import Limits
from redoseg.web.progress import run_progress
from redoseg.web.proxy import host_of, root_of

if TYPE_CHECKING:
    import gradio as gr

    from redoseg.web.drawings import Redraw

EXAMPLES = 8  # photographs to try, at most

_KEPT = 3600  # seconds that an upload and its results stay
_DISK = 2**30  # bytes that they may take together; the oldest are deleted first
_TOGETHER = 2**28  # bytes of several files that are uploaded at once
_TIDY = 10  # seconds between two searches for files to delete


def find_redraw(model: str, trust: bool = False) -> Redraw | None:
    """What redraws images with this model; None if the model or this installation cannot."""
    if not can_redraw(model):
        return None
    return functools.partial(redrawings, RedrawModel(model, trust=trust))


@contextlib.contextmanager
def serving(
    *,
    model: str = "flowers",
    runs: Sequence[Path] = (),
    host: str = "127.0.0.1",
    port: int = 7860,
    max_mb: float = 30,
    max_megapixels: float = 50,
    examples: Path | None = None,
    trust: bool = False,
    device: Device = "cpu",
    allow_host: Sequence[str] = (),
    root_path: str = "",
    corrected: Path | None = None,
    page: bool = True,
) -> Iterator[str]:
    """Serve page and HTTP interface within the block; yields the address.

    Args:
        model: as `Segmenter` takes it.
        runs: run folders that the page shows. It gives access to no other file of the disk.
        host: where to listen; only this computer reaches the default.
        port: 0 takes a free one.
        max_mb: largest upload [MB, of 2**20 bytes as browsers count them].
        max_megapixels: most pixels of a photograph [millions].
        examples: a folder whose first photographs can be tried with a click.
        trust, device: as `Segmenter` takes them.
        allow_host: names by which a proxy may call this page, beside its own.
        root_path: the path below which a proxy serves it, or the whole address of that.
        corrected: a folder for corrected masks and their photographs; they are offered for download if None.
        page: without it the HTTP interface is served alone, which needs no gradio.

    Raises ModelError, DataError or ConfigError before anything is served. Within the block the environment is
    gradio's: no proxy, and no access to Hugging Face's hub.
    """
    limits = Limits.of(max_mb, max_megapixels)
    others, root = frozenset(map(host_of, allow_host)), root_of(root_path)
    port = free_port(host, port)
    if corrected is not None:
        check_folder(corrected, "--corrected")
    if page and find_spec("gradio") is None:
        raise MissingError.of("gradio", "serve")
    from redoseg.web.api import Api
    from redoseg.web.listen import listening

    segmenter = Segmenter(model, trust=trust, device=device)
    for run in runs:
        run_progress(run)
    tries = list_images(examples).images[:EXAMPLES] if examples else []
    redraw = find_redraw(model, trust) if page else None
    guarded: dict[str, Any] = {
        "hosts": frozenset({"localhost", "127.0.0.1", "[::1]", host}) if is_loopback(host) else frozenset(),
        "others": others,
        "root": root,
        "api": Api(segmenter, limits),
        "api_upload": limits.file_bytes,
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())  # once for all threads: see segment_paths
        warnings.simplefilter("ignore")
        if not page:
            yield stack.enter_context(listening(Guard(None, **guarded), host, port))
            return
        folder = stack.enter_context(temporary_folder("page"))
        stack.enter_context(_environment(folder))
        samples = [folder / EXAMPLES_FOLDER / str(i) / path.name for i, path in enumerate(tries)]
        for path, copy in zip(tries, samples, strict=True):
            copy.parent.mkdir(parents=True)
            shutil.copyfile(path, copy)
        # gradio reads the environment when it is imported
        from redoseg.web.answers import Answers
        from redoseg.web.layout import build_page

        def sweep() -> None:
            tidy(folder, _KEPT, _DISK)

        cuts = Cuts(segmenter, limits.pixels, limits.room)
        answers = Answers(cuts, redraw, runs, folder, sweep, corrected=corrected)
        guarded |= {"upload": max(limits.file_bytes, _TOGETHER), "sweep": sweep}
        address, close = _launch(build_page(answers, samples), host, port, limits.file_bytes, guarded)
        stack.callback(close)
        stack.enter_context(_tidying(sweep))
        yield address


@contextlib.contextmanager
def _environment(folder: Path) -> Iterator[None]:
    """Gradio's settings within the block: these alone, no proxy, and all its files below `folder`."""
    before = dict(os.environ)
    for name in before:
        if name.startswith("GRADIO_") or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            del os.environ[name]
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_RUN_HISTORY": "False",
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_EXAMPLES_CACHE": str(folder),
        "HF_HUB_OFFLINE": "1",
    }
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _tidying(sweep: Callable[[], None]) -> Iterator[None]:
    """A thread deletes old files within the block; those that are too many go after each upload and each result."""
    ended = threading.Event()

    def tidy_now_and_then() -> None:
        while not ended.wait(_TIDY):
            with contextlib.suppress(OSError):  # files may go meanwhile
                sweep()

    threading.Thread(target=tidy_now_and_then, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _launch(
    page: gr.Blocks, host: str, port: int, max_bytes: int, guarded: dict[str, Any]
) -> tuple[str, Callable[[], None]]:
    """Start to serve the page behind a Guard with these arguments; returns its address, and what ends it."""
    import gradio as gr
    from starlette.middleware import Middleware

    from redoseg.web.head import CSS, HEAD

    try:
        page.launch(
            server_name=f"[{host}]" if ":" in host and "[" not in host else host,
            server_port=port,
            share=False,
            quiet=True,
            inline=False,
            prevent_thread_lock=True,
            max_file_size=max_bytes,
            root_path=guarded["root"] or None,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            _frontend=False,  # else a machine so busy that it needs three seconds for an answer serves no page
            footer_links=["api"],
            theme=gr.themes.Default(
                font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace"), primary_hue="pink"
            ),
            css=CSS,
            head=HEAD,
            app_kwargs={"middleware": [Middleware(Guard, **guarded)]},
        )
    except OSError as error:
        raise ConfigError(
            f"Port {port} of {printable(host)} cannot be used ({describe_error(error)}). Choose another --port."
        ) from None
    return str(page.local_url), functools.partial(_close, page)


def _close(page: gr.Blocks) -> None:
    """End at once: a browser keeps its connections open as long as it shows the page."""
    if page.server is not None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it shows how what waits is cut off
        page.server.force_exit = True
    page.close(verbose=False)
