"""The HTTP interface: a photograph in, a PNG file out, without a page and without gradio. Imports FastAPI.

What `POST /segment` gives is byte for byte what `redoseg segment` writes. Every mistake is one line of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Any, NamedTuple

import anyio.to_thread
from fastapi import FastAPI, Query
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from redoseg import __version__
from redoseg.config.kinds import DrawnKind
from redoseg.errors import DataError, FormatError, RedosegError, TooLargeError
from redoseg.images.read import read_photo
from redoseg.inference.doubt import DOUBTFUL, is_doubtful
from redoseg.inference.object_mask import CLEANING, HALF
from redoseg.inference.one_image import Job, Places, Work
from redoseg.inference.request import Request
from redoseg.inference.segmenter import Edges, Segmenter, cleaning_for
from redoseg.own_results import marked
from redoseg.system import cores
from redoseg.web.cuts import MOST_BYTES
from redoseg.web.guard import TooLarge
from redoseg.web.limits import Limits

WAITING = 16  # photographs that are received, worked on or sent at a time; each may be on disk twice
_PATIENCE = 600  # seconds for one request, from its first byte to the last of its answer
_IN_MEMORY = 2**20  # bytes of an upload or a result; a larger one is a temporary file
_PIECE = 2**16  # bytes that are sent at a time
_NAMELESS = "the photograph"
_FILES = "redoseg.files"  # in the scope of a request
FIELD = "file"  # of a form


class Options(BaseModel):
    """The parameters of `/segment`, with the names of the options of `redoseg segment`."""

    model_config = ConfigDict(extra="forbid")

    kind: DrawnKind = Field(
        "mask", alias="as", description="mask: 0 and 255; soft: 0 to 255; cutout: RGBA; overlay: drawn on the picture"
    )
    threshold: float = Field(HALF, ge=0, le=1, description="How sure the network must be; soft ignores it")
    edges: Edges = Field("guided", description="guided by the photograph, plain (the network's), or grabcut (slow)")
    clean: bool = Field(True, description="Drop small parts and fill small holes, but not in soft nor with plain edges")
    crop: bool = Field(False, description="Cut the result to the box around the object")


class Model(BaseModel):
    """What `/model` says."""

    name: str
    version: str = Field(description="Of redoseg")
    size: int = Field(description="Side of the picture that the network sees [pixels]")
    regions: int
    object_region: int
    doubtful_below: float = Field(description="A mask whose confidence is lower should be looked at")
    max_mb: float = Field(description="Largest file, in MB of 2**20 bytes")
    max_megapixels: float = Field(description="Largest photograph [million pixels]")


class Health(BaseModel):
    """What `/health` says."""

    status: str = "ok"


class Problem(BaseModel):
    """What every refused request gets."""

    error: str = Field(description="One line: what was found, what is expected, what to do")


class Upload(NamedTuple):
    """A photograph that was received."""

    name: str
    content: IO[bytes]


class Result(NamedTuple):
    """What was made of it."""

    content: IO[bytes]
    size: int
    confidence: float
    note: str


class _Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        self.status, self.why = status, why


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The photograph is missing, empty or damaged."},
    408: {"model": Problem, "description": "The request took too long."},
    413: {"model": Problem, "description": "The photograph has too many bytes or pixels."},
    415: {"model": Problem, "description": "What was sent is not a picture of a format that is read."},
    422: {"model": Problem, "description": "A parameter is wrong."},
    500: {"model": Problem, "description": "Something in redoseg failed."},
    503: {"model": Problem, "description": "Too many photographs are waiting."},
}
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_SENT = {
    "required": True,
    "description": f"The photograph: the field {FIELD} of a form, or the file itself.",
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "required": [FIELD], "properties": {FIELD: _BYTES["schema"]}}
        },
        "image/*": _BYTES,
        "application/octet-stream": _BYTES,
    },
}
_HEADERS = {
    "Redoseg-Confidence": ("number", "How sure the network is, 0 to 1"),
    "Redoseg-Doubtful": ("boolean", "Whether the mask should be looked at"),
    "Redoseg-Note": ("string", "What to know of the file, where it ends early"),
}
_PICTURE = {
    "description": "The result, with the pixels of the upright photograph.",
    "content": {"image/png": _BYTES},
    "headers": {name: {"description": text, "schema": {"type": kind}} for name, (kind, text) in _HEADERS.items()},
}


class Api:
    """An ASGI application with `/segment`, `/model`, `/health` and `/openapi.json`.

    Args:
        segmenter: the model.
        limits: of files and photographs; the page beside it shares its room for pixels.
    """

    def __init__(self, segmenter: Segmenter, limits: Limits) -> None:
        self.segmenter, self.limits = segmenter, limits
        self.busy = 0
        self._turns: anyio.CapacityLimiter | None = None  # made in the loop that uses it
        self.app = self._routes()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        scope = scope | {"root_path": ""}  # a proxy's path is removed before
        if scope["path"] != "/segment":
            return await self.app(scope, receive, send)
        if self.busy >= WAITING:
            why = f"{WAITING} photographs are being worked on already. Send this one again in a moment."
            return await _problem(503, why, {"Retry-After": "2"})(scope, receive, send)
        started = False

        async def noted(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        self.busy += 1
        files = contextlib.ExitStack()  # open until the answer is sent, or nobody takes it
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.app(scope | {_FILES: files}, receive, noted)
        except TimeoutError:
            if started:  # a client that reads so slowly gets no more
                raise
            why = f"The request took more than {_PATIENCE // 60} minutes. Send a smaller photograph, or one at a time."
            await _problem(408, why)(scope, receive, send)
        finally:
            self.busy -= 1
            files.close()

    def _routes(self) -> FastAPI:
        app = FastAPI(
            title="redoseg",
            version=__version__,
            description="Cuts the object out of a photograph.",
            servers=[{"url": "."}],  # beside this schema, wherever a proxy has it
            docs_url=None,  # they would load scripts from elsewhere
            redoc_url=None,
            redirect_slashes=False,
        )

        @app.post(
            "/segment",
            response_class=Response,
            responses={200: _PICTURE, **_PROBLEMS},
            openapi_extra={"requestBody": _SENT},
            summary="The mask or cut-out of a photograph",
        )
        async def segment(request: HttpRequest, options: Annotated[Options, Query()]) -> Response:
            return await self._answer(request, options)

        @app.get("/model", summary="The model and the limits")
        async def model() -> Model:
            return self._model()

        @app.get("/health", summary="Whether it answers")
        async def health() -> Health:
            return Health()

        @app.exception_handler(RequestValidationError)
        async def wrong(_: HttpRequest, error: RequestValidationError) -> Response:
            return _problem(422, _in_words(error))

        @app.exception_handler(HTTPException)
        async def refused(_: HttpRequest, error: HTTPException) -> Response:
            return _problem(error.status_code, f"{error.detail}. See /openapi.json.", dict(error.headers or {}))

        return app

    def _model(self) -> Model:
        return Model(
            name=self.segmenter.name,
            version=__version__,
            size=self.segmenter.size,
            regions=self.segmenter.regions,
            object_region=self.segmenter.object_region,
            doubtful_below=DOUBTFUL,
            max_mb=self.limits.file_bytes / 2**20,
            max_megapixels=self.limits.pixels / 1e6,
        )

    async def _answer(self, request: HttpRequest, options: Options) -> Response:
        self._turns = self._turns or anyio.CapacityLimiter(cores())
        try:
            upload = await self._received(request)
            # abandoned where the server stops, so that nobody waits for a large photograph
            result = await anyio.to_thread.run_sync(
                self._segmented, upload, options, request.scope[_FILES], limiter=self._turns, abandon_on_cancel=True
            )
        except _Refused as refused:
            return _problem(refused.status, refused.why)
        except ClientDisconnect:  # nobody reads this
            return _problem(400, "The sender broke off.")
        except TooLarge as error:
            return _problem(413, str(error))
        except (RedosegError, HTTPException):
            raise
        except Exception:
            traceback.print_exc()
            return _problem(500, "Something in redoseg failed. What it was is printed where the server was started.")
        headers = {
            "Content-Length": str(result.size),
            "Redoseg-Confidence": f"{result.confidence:.4f}",
            "Redoseg-Doubtful": str(is_doubtful(result.confidence)).lower(),
        } | ({"Redoseg-Note": result.note} if result.note else {})
        return StreamingResponse(_pieces(result.content), media_type="image/png", headers=headers)

    async def _received(self, request: HttpRequest) -> Upload:
        """The photograph of a request. Raises _Refused."""
        files: contextlib.ExitStack = request.scope[_FILES]
        kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            try:
                form = await request.form(max_files=1, max_fields=8)
            except HTTPException as error:
                raise _Refused(400, f"The form cannot be read ({_line(str(error.detail))}). {_HOW}") from None
            for value in form.values():
                if not isinstance(value, str):
                    files.callback(value.file.close)
            found = form.get(FIELD)
            if found is None or isinstance(found, str):
                what = "no file" if found is None else 'a text, not a file with filename="..."'
                raise _Refused(400, f"The form has {what} in the field {FIELD!r}. {_HOW}")
            upload = Upload(_name(found.filename or ""), found.file)
        elif kind.startswith("image/") or kind == "application/octet-stream":
            upload = Upload(_NAMELESS, _temporary(files))
            async for piece in request.stream():
                upload.content.write(piece)
        else:
            raise _Refused(415, f"The request is of type {_line(kind)}, but must be a photograph. {_HOW}")
        size, most = upload.content.seek(0, 2), self.limits.file_bytes
        upload.content.seek(0)
        if size > most:
            raise _Refused(413, f"{upload.name} has more than {most / 2**20:g} MB, the most that are taken.")
        return upload

    def _segmented(self, upload: Upload, options: Options, files: contextlib.ExitStack) -> Result:
        """What the command line would write. Raises _Refused."""
        kind: DrawnKind = options.kind
        with self.limits.room.shared() as take:
            content = upload.content.read()
            upload.content.close()
            path = Path(upload.name)
            try:
                segmenter = self.segmenter.with_edges(options.edges)
                photo = read_photo(path, most=self.limits.pixels, content=content, take=take, most_bytes=MOST_BYTES)
            except RedosegError as error:
                raise _Refused(_status(error), str(error)) from None
            request = Request(
                kinds=(kind,),
                threshold=options.threshold,
                cleaning=cleaning_for(options.edges, CLEANING if options.clean else None),
                crop=options.crop,
            )
            work = Work(segmenter, request, Places(Path(), request), set())
            job = Job(path, path.name, path.stem, content)
            try:
                made = work.make(photo, job, work.plan(job))
            except DataError:
                why = "no object was found to crop to. Lower the threshold, or send it without crop."
                raise _Refused(422, f"{upload.name}: {why}") from None
            ((_, pieces, key),) = made.files
            result = _temporary(files)
            for piece in marked(pieces, key):
                result.write(piece)
            size = result.tell()
            result.seek(0)
            return Result(result, size, made.confidence, made.note)


_HOW = f"Send it as in: curl -F {FIELD}=@photo.jpg ADDRESS, or as the body with Content-Type: image/jpeg."


def _temporary(files: contextlib.ExitStack) -> IO[bytes]:
    return files.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY))


def _status(error: RedosegError) -> int:
    """The HTTP status for a photograph that cannot be read, or edges that this model or installation cannot make."""
    if not isinstance(error, DataError):
        return 422
    return 413 if isinstance(error, TooLargeError) else 415 if isinstance(error, FormatError) else 400


def _problem(status: int, why: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": _line(why, 1000)}, status, headers)


def _in_words(error: RequestValidationError) -> str:
    """The first of the parameters that cannot be used."""
    first = error.errors()[0]
    name = str(first["loc"][-1])
    names = ", ".join(field.alias or name for name, field in Options.model_fields.items())
    if first["type"] == "extra_forbidden":
        return f"{_line(name)!r} is not a parameter of /segment. Choose from {names}."
    expected = str(first["msg"]).replace("Input should be", "must be")
    return f"{name} is {_line(str(first['input']))!r}, but {expected[:1].lower() + expected[1:]}."


def _line(text: str, most: int = 100) -> str:
    """A text from outside, in one line."""
    return re.sub(r"\s+", " ", text)[:most]


def _name(given: str) -> str:
    """The name of an upload without folders, as messages have it."""
    return PurePosixPath(given.replace("\\", "/")).name[-100:] or _NAMELESS


def _pieces(content: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: content.read(_PIECE), b"")
