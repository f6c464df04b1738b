"""The page: drop a photograph and see its mask, cut-out and redrawings; a second tab tells how training goes.

It needs no internet and asks for none. What comes in is bounded: bytes of a request, pixels of a picture, waiting
and running jobs, and what lies on disk, all in one temporary folder that goes when the page does.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import itertools
import json
import os
import re
import secrets
import shutil
import socket
import stat
import tempfile
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.errors import ConfigError, DataError, RedosegError
from redoseg.files import describe_error, printable, write_atomic
from redoseg.images.draw import checkerboard
from redoseg.images.read import IMAGE_SUFFIXES, list_images, read_image
from redoseg.inference.redraw import RedrawModel
from redoseg.inference.segment_files import Kind, as_png, drawn, is_large
from redoseg.inference.segmenter import REDRAW_FILE, Segmenter, weights
from redoseg.system import cores
from redoseg.train.health import ADVICE
from redoseg.train.log import RunLog
from redoseg.train.report import ending

PREVIEW = 1024  # pixels, the longer side of what the page shows; downloads have the photograph's size
WAITING = 64  # jobs; whoever comes after them is told that the queue is full
MAX_REDRAWINGS = 12
EXAMPLES = 8

_KEPT = 3600  # seconds that an upload and its results stay
_DISK = 2**30  # bytes that they may take together; the oldest go first
_TEXT = 2**20  # bytes of a request that is no upload
_STAYS = "examples"  # the folder of what is not deleted while the page is served
_PATIENCE = 3  # seconds for the rest of a request that is too large
_LAST_LOOK = 10  # seconds between two looks at a run folder

# What of gradio is reached. Its other routes fetch addresses for the caller, keep histories or edit code.
_SERVED = re.compile(
    r"/(?:(?:config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)?|(?:assets|static|svelte)/.+"
    r"|gradio_api/(?:info|app_id|config|theme\.css|startup-events|upload|upload_progress|reset|cancel|queue/(?:join|data)"
    r"|(?:call|run|heartbeat)/.+|file=(?!.*://).+))/?",
    re.S,
)
_HEADERS = [
    (
        b"content-security-policy",  # whatever a later gradio wants to load from elsewhere, the browser will not
        b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_CSS = """
.gradio-container { width: 100%; max-width: 1400px !important; margin: 0 auto; }
.gradio-container h1 { margin: 0; }
#save-mask, #save-cutout, #save-soft { white-space: nowrap; padding-inline: 4px; }
#said { min-height: 1.6em; }
#photo img, #overlay img, #mask img, #cutout img { width: 100%; height: 100%; object-fit: contain; }
footer { opacity: .6; }
"""

Redraw = Callable[[Image.Image, int, int], Sequence[Image.Image]]
"""Redrawings of an RGB picture: their number and a seed are given, RGB pictures come back."""


def find_redraw(model: str) -> Redraw | None:
    """What redraws a picture with this model; None where the model, or this redoseg, cannot."""
    path = Path(model).expanduser()
    if path.is_dir() and not (path / REDRAW_FILE).is_file():
        return None  # a run that is older than redraw.onnx: looking at it should not write into it
    if not path.exists() and model in weights() and model not in weights(REDRAW_FILE):
        return None
    if path.is_file():
        return None
    drawing = RedrawModel(model)
    return lambda image, count, seed: drawing.redraw(image, count, seed=seed)


class HasSoft(Protocol):
    """What the page needs of a segmenter."""

    def soft(self, image: Image.Image) -> NDArray[np.float32]:
        """The object's soft mask (H, W)."""


class Cuts:
    """Photographs with their soft masks, the latest of them kept, so that another threshold asks no network.

    Args:
        segmenter: what makes soft masks.
        most: pixels of one photograph, and of all that are kept together; 7 bytes each.
    """

    def __init__(self, segmenter: HasSoft, most: int) -> None:
        self.segmenter, self.most = segmenter, most
        self._kept: OrderedDict[tuple[str, int], tuple[Image.Image, NDArray[np.float32]]] = OrderedDict()
        self._lock = threading.Lock()
        self.one_large = threading.Lock()

    def of(self, path: Path) -> tuple[Image.Image, NDArray[np.float32]]:
        """The upright photograph (RGB) and its soft mask (H, W). Raises DataError of one line without the folder."""
        try:
            key = str(path), path.stat().st_mtime_ns
        except (OSError, ValueError):
            raise DataError("the photograph is no longer kept, one of this hour expected: drop it again") from None
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        try:
            image = read_image(path, most=self.most)
        except DataError as error:
            raise DataError(str(error).replace(printable(path), printable(path.name))) from None
        with self.one_large if is_large(image) else contextlib.nullcontext():
            found = image, self.segmenter.soft(image)
        with self._lock:
            self._kept[key] = found
            while sum(soft.size for _, soft in self._kept.values()) > self.most and len(self._kept) > 1:
                self._kept.popitem(last=False)
        return found

    def files(self, path: Path, threshold: float, folder: Path) -> list[Path]:
        """Write mask, cut-out and soft mask of the photograph's own size into a new folder under `folder`."""
        image, soft = self.of(path)
        place = folder / secrets.token_hex(16)
        place.mkdir(parents=True)
        written = []
        kinds: tuple[tuple[Kind, str], ...] = (("mask", ""), ("cutout", "-cutout"), ("soft", "-soft"))
        with self.one_large if is_large(image) else contextlib.nullcontext():
            for kind, ending in kinds:
                target = place / f"{path.stem}{ending}.png"
                write_atomic(target, as_png(drawn(image, soft, kind, threshold)))
                written.append(target)
        return written

    def previews(self, path: Path, threshold: float) -> tuple[list[Image.Image], str]:
        """Overlay, mask and cut-out of at most PREVIEW pixels a side, and what is seen in words."""
        image, soft = self.of(path)
        said = (
            f"{image.width} × {image.height} pixels; the object covers "
            f"{100 * float((soft > threshold).mean()):.1f} % at a threshold of {threshold:.2f}."
        )
        shrink = min(1.0, PREVIEW / max(image.size))
        if shrink < 1:
            size = max(1, round(image.width * shrink)), max(1, round(image.height * shrink))
            image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
            soft = np.asarray(Image.fromarray(soft).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)
        cut = drawn(image, soft, "cutout", threshold)
        on_checks = Image.alpha_composite(checkerboard(cut.size), cut).convert("RGB")
        return [drawn(image, soft, "overlay", threshold), drawn(image, soft, "mask", threshold), on_checks], said


# ---------------------------------------------------------------------------------------------- a run folder


@dataclass(frozen=True)
class Progress:
    """How far a run is, for people."""

    words: str
    """Markdown."""
    curves: Image.Image | None
    samples: Image.Image | None


def run_progress(folder: Path) -> Progress:
    """What a run folder tells now, whether the run goes on or has ended. Raises DataError if there is no folder."""
    if not folder.is_dir():
        raise DataError(f"{printable(folder)} does not exist, a run folder expected: name another with --run")
    images = []
    grids = [p for p in (folder / "samples").glob("*.png") if not p.name.startswith(".")]
    latest = max(grids, key=lambda p: p.stat().st_mtime, default=None)
    for path in (folder / "curves.png", latest):
        image = None
        with contextlib.suppress(DataError):  # not there yet
            image = read_image(path) if path else None
        images.append(image)
    try:
        words = _words(folder)
    except (KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        raise DataError(
            f"{printable(folder)}: its log cannot be read ({describe_error(error)}), that of a run of redoseg "
            "expected: "
            "name another with --run"
        ) from error
    if latest:
        rows = "pictures, their masks, each region redrawn, and the truth where there is one"
        words += f"\n\nSamples in `{printable(latest.name)}`: {rows}."
    return Progress(words, *images)


def _words(folder: Path) -> str:
    entries = RunLog(folder / "log.jsonl").entries()
    if not entries:
        return "No line in `log.jsonl` yet: the run is starting, or this is no run folder."
    config, outcome = (_json(folder / name) for name in ("config.json", "outcome.json"))
    steps, last = config.get("steps"), entries[-1]
    trained = next((e for e in reversed(entries) if "sizes" in e), last)
    lines = []
    if outcome.get("health") == "diverged":
        lines.append(f"**Diverged** at step {outcome['step']:,}.")
    elif outcome and outcome["step"] >= last["step"]:
        lines.append(f"**{ending(outcome).capitalize()}**, {last['step']:,} steps in {_minutes(last['seconds'])}.")
    else:
        share = f" of {steps:,} ({100 * last['step'] / steps:.0f} %)" if steps else ""
        speed = trained.get("steps_per_s")
        left = f", about {_minutes((steps - last['step']) / speed)} left" if steps and speed else ""
        stage = f", second stage, round {last['refine_round']}" if "refine_round" in last else ""
        lines.append(f"**Step {last['step']:,}{share}**{stage}, {_minutes(last['seconds'])} so far{left}.")
    if "steps_per_s" in trained:
        sizes = " and ".join(f"{100 * share:.0f} %" for share in trained["sizes"])
        lines.append(f"{trained['steps_per_s']:.2f} steps a second. The regions cover {sizes} of the pictures.")
    scored = next((e for e in reversed(entries) if "iou" in e or "iou_matched" in e), None)
    if scored:
        kind, figure = ("IoU", scored["iou"]) if "iou" in scored else ("matched IoU", scored["iou_matched"])
        lines.append(f"Last score, at step {scored['step']:,}: {kind} {figure:.3f}.")
    if last.get("restarts"):
        lines.append(f"Started anew {last['restarts']} times after a collapse.")
    health = outcome.get("health") if outcome.get("health") == "diverged" else trained.get("health")
    if health:
        advice = f": {ADVICE[health]}" if health in ADVICE else ""
        lines.append(f"\n\nHealth: **{health}**{advice}.")
    return " ".join(lines)


def _json(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        return found if isinstance(found, dict) else {}
    return {}


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


# ------------------------------------------------------------------------------------ what stands before gradio


class _TooLarge(Exception):
    pass


class Guard:
    """An ASGI application before another: what is not needed, too large or for another host is refused in one line.

    Args:
        app: what answers the rest.
        upload: bytes of an upload.
        hosts: names that a request may call this host; any if empty. A web page elsewhere that has its name
            point here could otherwise read what a loopback address serves.
    """

    def __init__(self, app: Any, upload: int, hosts: frozenset[str] = frozenset()) -> None:
        self.app, self.upload, self.hosts = app, upload, hosts

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        headers = dict(scope["headers"])
        path: str = scope["path"]
        # what surrounds a file in a form is small
        most = self.upload + _TEXT if path.rstrip("/").endswith("/upload") else _TEXT
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self.hosts and re.sub(r":\d+$", "", host) not in self.hosts:
            return await _refuse(send, 403, "this page is for this computer alone")
        if headers.get(b"sec-fetch-site") == b"cross-site" or _elsewhere(headers.get(b"origin"), host):
            return await _refuse(send, 403, "another page may not send anything here")
        if not _SERVED.fullmatch(path):
            return await _refuse(send, 404, "not here")
        stated = headers.get(b"content-length", b"0")
        if not stated.isdigit() or int(stated) > most:
            await _read_on(receive)
            return await _refuse(send, 413, f"more than {most / 1e6:.0f} MB: send a smaller file")
        got, started = 0, False

        async def counted() -> Any:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > most:
                raise _TooLarge
            return message

        async def answered(message: dict[str, Any]) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = message | {"headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        try:
            await self.app(scope, counted, answered)
        except _TooLarge:
            if not started:
                await _read_on(receive)
                await _refuse(send, 413, f"more than {most / 1e6:.0f} MB: send a smaller file")
        except Exception as error:  # what gradio makes of a request that no browser sends
            if started:
                raise
            await _refuse(send, 400, f"a request that is not understood ({type(error).__name__})")


def _elsewhere(origin: bytes | None, host: str) -> bool:
    """Whether a browser says that the request comes from a page of another host."""
    return origin is not None and origin.decode("latin-1").lower().rpartition("//")[2] != host


async def _read_on(receive: Any) -> None:
    """Take what is still being sent, for a moment: most senders listen only when they are through."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            more = True
            while more:
                more = (await receive()).get("more_body", False)


async def _refuse(send: Any, status: int, why: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close"), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": why.encode()})


def tidy(folder: Path, seconds: float, most: int) -> None:
    """Delete what is older below `folder`, and of the other files the oldest above `most` bytes together.

    Examples stay. An upload that its sender broke off leaves a file that gradio forgets: so the folder is looked at.
    """
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            seen = path.lstat()
            if stat.S_ISREG(seen.st_mode) and path.relative_to(folder).parts[0] != _STAYS:
                found.append((max(seen.st_mtime, seen.st_ctime), seen.st_size, path))
    found.sort(reverse=True)
    total = 0
    for written, size, path in found:
        total += size
        if total > most or written < time.time() - seconds:
            with contextlib.suppress(OSError):
                path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):  # each upload has a folder of its own
        with contextlib.suppress(OSError):
            if path.is_dir() and path.stat().st_mtime < time.time() - seconds:
                path.rmdir()  # if nothing is left in it


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches what listens at `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for 0. Raises ConfigError if nothing can listen there."""
    try:
        if not 0 <= port < 2**16:  # of which the system would take the remainder
            raise OverflowError("no such port")
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            if os.name == "posix":  # elsewhere it lets two listen at once
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            found: int = listener.getsockname()[1]
            return found
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(
            f"nothing can listen at port {port} of {printable(host)} ({describe_error(error)}), a free port of this "
            "computer "
            "expected: end what uses it, or give another --port or --host"
        ) from None


# -------------------------------------------------------------------------------------------------- the page


@contextlib.contextmanager
def serving(
    model: str = "flowers",
    runs: Sequence[Path] = (),
    host: str = "127.0.0.1",
    port: int = 7860,
    max_mb: float = 30,
    max_megapixels: float = 50,
    examples: Path | None = None,
) -> Iterator[str]:
    """Serve the page within the block; gives its address.

    Args:
        model: as `Segmenter` takes it.
        runs: run folders that the page shows; nothing else of the disk can be read through it.
        host: where to listen; only this computer reaches the default.
        port: 0 takes a free one.
        max_mb: largest upload [MB].
        max_megapixels: most pixels of a picture [millions].
        examples: a folder whose first pictures can be tried.

    Raises ModelError, DataError or ConfigError before anything is served. Within the block the environment is
    gradio's: no proxy, and the hub off line.
    """
    if not 0 < max_mb <= 1024 or not 0 < max_megapixels <= 128:
        raise ConfigError(
            f"--max-mb {max_mb:g} and --max-megapixels {max_megapixels:g} seen, more than 0 and at most 1024 MB and "
            "128 million pixels expected: change them"
        )
    port = _free_port(host, port)
    segmenter = Segmenter(model)
    for run in runs:
        run_progress(run)
    tries = list_images(examples).images[:EXAMPLES] if examples else []
    redraw = find_redraw(model)
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())  # once for all threads: see segment_paths
        warnings.simplefilter("ignore")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="redoseg-", ignore_cleanup_errors=True)))
        folder = folder.resolve()
        stack.callback(_restore_environment, dict(os.environ))
        for name in list(os.environ):  # only what is said here counts, and nothing goes through a proxy
            if name.startswith("GRADIO_") or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
                del os.environ[name]
        os.environ |= {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_RUN_HISTORY": "False",
            "GRADIO_TEMP_DIR": str(folder),
            "GRADIO_EXAMPLES_CACHE": str(folder),
            "HF_HUB_OFFLINE": "1",
        }
        samples = [folder / _STAYS / str(i) / path.name for i, path in enumerate(tries)]
        for path, copy in zip(tries, samples, strict=True):
            copy.parent.mkdir(parents=True)
            shutil.copyfile(path, copy)
        cuts = Cuts(segmenter, round(max_megapixels * 1e6))
        address, close = _launch(cuts, redraw, list(runs), samples, folder, host, port, round(max_mb * 1e6))
        stack.callback(close)
        ended = threading.Event()
        stack.callback(ended.set)

        def tidy_now_and_then() -> None:
            while not ended.wait(10):
                with contextlib.suppress(OSError):  # what is looked at may go meanwhile
                    tidy(folder, _KEPT, _DISK)

        threading.Thread(target=tidy_now_and_then, daemon=True).start()
        yield address


def _restore_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _launch(
    cuts: Cuts,
    redraw: Redraw | None,
    runs: list[Path],
    samples: list[Path],
    folder: Path,
    host: str,
    port: int,
    max_bytes: int,
) -> tuple[str, Callable[[], None]]:
    """Build the page and start to serve it: its address, and what ends it."""
    import gradio as gr
    from starlette.middleware import Middleware

    def in_a_line(function: Callable[..., Any]) -> Callable[..., Any]:
        """The user's mistakes as one line on the page, and no traceback anywhere."""

        @functools.wraps(function)
        def answer(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except RedosegError as error:
                raise gr.Error(str(error), title="That did not work", print_exception=False) from None

        return answer

    def number(value: Any, least: float, most: float, what: str) -> float:
        if isinstance(value, (int, float)) and least <= value <= most:
            return float(value)
        raise ConfigError(f"{what} {str(value)[:40]!r} seen, a number from {least:g} to {most:g} expected: change it")

    def uploaded(photo: Any) -> Path:
        if not isinstance(photo, str) or not photo:
            raise DataError("no photograph seen, one expected: drop one on the page first")
        path = Path(photo)
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise DataError(
                f"{printable(path.name)}: not a format that is read, JPEG, PNG, WebP, TIFF ... expected: export it as "
                "one"
            )
        return path

    def show(photo: Any, threshold: Any) -> Any:
        if not photo:  # taken away
            return [None, None, None, "", *itertools.repeat(gr.DownloadButton(value=None, interactive=False), 3)]
        images, said = cuts.previews(uploaded(photo), number(threshold, 0, 1, "threshold"))
        return [*images, said, *itertools.repeat(gr.DownloadButton(interactive=False), 3)]

    def segment(photo: Any, threshold: Any) -> Any:
        if not photo:
            return [gr.skip()] * 3
        written = cuts.files(uploaded(photo), number(threshold, 0, 1, "threshold"), folder)
        return [gr.DownloadButton(value=str(path), interactive=True) for path in written]

    def redrawn(photo: Any, count: Any, seed: Any) -> Any:
        image, _ = cuts.of(uploaded(photo))
        wanted = int(number(count, 1, MAX_REDRAWINGS, "number of redrawings"))
        assert redraw is not None
        return list(redraw(image, wanted, int(number(seed, 0, 2**31 - 1, "seed"))))

    names = _run_names(runs)

    def look(run: Any) -> Any:
        if not isinstance(run, str) or run not in names:
            raise ConfigError(f"run {str(run)[:40]!r} is not shown here, one of the list expected: pick one")
        seen = run_progress(names[run])
        return seen.words, seen.curves, seen.samples

    work = {"concurrency_limit": cores(), "concurrency_id": "work"}
    with gr.Blocks(title="redoseg", analytics_enabled=False) as page:
        gr.Markdown(
            "# redoseg\nCuts the object out of a photograph; learnt without a single mask. "
            "Nothing that you drop here leaves the computer that serves this page."
        )
        with gr.Tab("Cut out"):
            with gr.Row():
                with gr.Column(scale=2, min_width=320):
                    photo = gr.Image(
                        label="Photograph",
                        type="filepath",
                        image_mode=None,
                        sources=["upload", "clipboard"],
                        height=360,
                        elem_id="photo",
                        buttons=["fullscreen"],
                    )
                    _take_files_only(gr, photo, folder)
                    threshold = gr.Slider(
                        0, 1, 0.5, step=0.01, label="Threshold", elem_id="threshold",
                        info="How sure the model must be. Lower takes in more, higher leaves out more.",
                    )  # fmt: skip
                    with gr.Row():
                        downloads = [
                            gr.DownloadButton(
                                f"↓ {label}", interactive=False, size="md", min_width=90, elem_id=f"save-{name}"
                            )
                            for label, name in (("Mask", "mask"), ("Cut-out", "cutout"), ("Soft mask", "soft"))
                        ]
                    said = gr.Markdown("", elem_id="said")
                with gr.Column(scale=3, min_width=320):
                    overlay = _shown_image(gr, "Overlay", "overlay", 360)
                    with gr.Row():
                        mask = _shown_image(gr, "Mask", "mask", 280)
                        cut = _shown_image(gr, "Cut-out", "cutout", 280)
            if samples:
                gr.Examples([[str(path)] for path in samples], photo, cache_examples=False, preload=False)
            if redraw is None:
                gr.Markdown("*This model makes no redrawings: it was exported without the part that draws.*")
            else:
                with gr.Row(equal_height=True):
                    count = gr.Slider(1, MAX_REDRAWINGS, 4, step=1, label="Redrawings")
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1)
                    again = gr.Button("Redraw the object", elem_id="redraw")
                drawings = gr.Gallery(
                    label="Redrawings", columns=4, object_fit="contain", format="png", elem_id="redrawings"
                )
                gr.on(
                    again.click, in_a_line(redrawn), [photo, count, seed], drawings, api_name="redraw",
                    api_description="Redraw the object of a photograph: files.", **work,
                )  # fmt: skip
            results = [overlay, mask, cut, said, *downloads]
            shown_now = gr.on(
                [photo.change, threshold.change], in_a_line(show), [photo, threshold], results,
                api_visibility="private", trigger_mode="always_last", show_progress="minimal",
                show_progress_on=overlay, **work,
            )  # fmt: skip
            shown_now.success(
                in_a_line(segment), [photo, threshold], downloads, api_name="segment", show_progress="hidden",
                trigger_mode="always_last",
                api_description="Mask, cut-out and soft mask of a photograph, as PNG files of its size.", **work,
            )  # fmt: skip
        with gr.Tab("Training"):
            if not names:
                gr.Markdown("No run folder was named: start with `redoseg serve --run FOLDER` to see one here.")
            else:
                with gr.Row():
                    run = gr.Dropdown(list(names), value=next(iter(names)), label="Run", scale=4, elem_id="run")
                    refresh = gr.Button("Look again", scale=1, min_width=120, size="md")
                words = gr.Markdown(elem_id="words")
                with gr.Row():
                    curves = _shown_image(gr, "Losses, sizes and scores", "curves")
                    grids = _shown_image(gr, "Samples", "samples")
                gr.on(
                    [refresh.click, run.change, page.load, gr.Timer(_LAST_LOOK).tick], in_a_line(look), run,
                    [words, curves, grids], api_name="progress", show_progress="hidden", trigger_mode="once",
                    api_description="How far a run is: words, curves, samples.", concurrency_limit=1,
                )  # fmt: skip
    page.queue(max_size=WAITING, default_concurrency_limit=cores(), api_open=False)
    hosts = frozenset({"localhost", "127.0.0.1", "[::1]", host}) if is_loopback(host) else frozenset()
    try:
        page.launch(
            server_name=f"[{host}]" if ":" in host and "[" not in host else host,
            server_port=port,
            share=False,
            quiet=True,
            inline=False,
            prevent_thread_lock=True,
            max_file_size=max_bytes,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            footer_links=["api"],
            theme=gr.themes.Default(
                font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace"), primary_hue="pink"
            ),
            css=_CSS,
            app_kwargs={"middleware": [Middleware(Guard, upload=max_bytes, hosts=hosts)]},
        )
    except OSError as error:
        raise ConfigError(
            f"port {port} of {printable(host)} cannot be used ({describe_error(error)}), a free one expected: give "
            "another --port"
        ) from None
    return str(page.local_url), functools.partial(page.close, verbose=False)


def _shown_image(gr: Any, label: str, name: str, height: int | None = None) -> Any:
    """A picture that the page shows and nobody changes; one without a given height has no label in its corner."""
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


def _run_names(runs: Sequence[Path]) -> dict[str, Path]:
    """Run folders by names that tell them apart: their own, or whole paths where two have the same."""
    own = [run.resolve().name for run in runs]
    return {
        (printable(name) if own.count(name) == 1 else printable(run.resolve())): run
        for name, run in zip(own, runs, strict=True)
    }


def _take_files_only(gr: Any, photo: Any, uploads: Path) -> None:
    """Have the component give the path of what was uploaded: not decoded before our caps, not fetched from elsewhere.

    Set on the one component: of a subclass gradio would write a type stub beside this file.
    """
    move = photo.async_move_resource_to_block_cache

    async def local_only(path: Any) -> Any:
        if "://" in str(path):
            raise gr.Error("An address seen, a file expected: upload the photograph.", print_exception=False)
        return await move(path)

    def path_of(payload: Any) -> str | None:
        if payload is None or not payload.path:
            return None
        path = Path(payload.path).resolve()
        if not path.is_relative_to(uploads):
            raise gr.Error("Not a file that was uploaded, one expected: upload it.", print_exception=False)
        return str(path)

    photo.async_move_resource_to_block_cache, photo.preprocess = local_only, path_of
