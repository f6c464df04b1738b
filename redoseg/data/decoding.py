"""Decode pictures and masks to one size, on all cores.

The workers are plain Python processes that are fed over a pipe: unlike a `multiprocessing` pool they need no
`if __name__ == "__main__"` in the caller's script, end with their parent however that ends, and a decoder that
crashes on a damaged file costs that one picture (with a single worker there is no other process, and all is over).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.data.listing import Item, MaskReader
from redoseg.errors import DataError, RedosegError
from redoseg.files import describe_error, printable
from redoseg.images.read import fit_square, read_photo

CHUNK_BYTES = 2**20  # about this much is under way to and from each worker
WORTH_A_POOL = 48  # pictures: fewer are done before the workers have started


class Decoded(NamedTuple):
    """What became of one item."""

    image: NDArray[np.uint8] | None
    """(H, W, 3); None if it cannot be used."""
    mask: NDArray[np.uint8] | None
    """(H, W); None if there is none or it cannot be used."""
    problems: tuple[tuple[Path, str], ...] = ()
    """Files that cannot be used, each with its reason."""


def decode_item(item: Item, size: int, nearest: bool = False) -> Decoded:
    """The centre square of an item's picture and mask at `size` [pixels]. Raises nothing that a file can cause.

    `nearest` takes nearest pixels of the whole picture, as the published runs did, instead of smoothed ones. A
    picture whose mask cannot be used is kept as not labelled.
    """
    try:
        photo = read_photo(item.image, None if nearest else size)
        resample = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
        picture = np.asarray(photo.square(size, resample))
    except DataError as error:
        return Decoded(None, None, ((item.image, _why(error, item.image)),))
    if item.mask is None:
        return Decoded(picture, None)
    kept = "; its picture is kept as not labelled"
    try:
        mask = item.labels()
    except DataError as error:
        return Decoded(picture, None, ((item.mask, _why(error, item.mask) + kept),))
    if other_proportions(mask, photo.rgb):
        why = f"mask of {mask.shape[1]}x{mask.shape[0]} beside a picture of other proportions{kept}"
        return Decoded(picture, None, ((item.mask, why),))
    return Decoded(picture, square_mask(mask, size))


def other_proportions(mask: NDArray[np.uint8], image: Image.Image) -> bool:
    """Whether a mask (H, W) cannot be that of the image, of whatever size."""
    (height, width), (w, h) = mask.shape, image.size
    # A JPEG that was decoded reduced is up to a pixel off.
    return bool(abs(np.log(width * h / (height * w))) > max(0.03, 1.5 / min(w, h)))


def square_mask(mask: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The centre square of a mask (H, W) at `size` [pixels], nearest pixels."""
    return np.asarray(fit_square(Image.fromarray(mask), size, Image.Resampling.NEAREST))


def _why(error: DataError, path: Path) -> str:
    return str(error).removeprefix(f"{printable(path)}: ")


def decode(items: Sequence[Item], size: int, nearest: bool = False, workers: int = 1) -> Iterator[Decoded]:
    """What becomes of each item, in their order. With `workers` above 1, that many processes share the work."""
    workers = min(workers, len(items))
    if workers < 2 or len(items) < WORTH_A_POOL or not all(map(_named, {item.read_mask for item in items})):
        yield from (decode_item(item, size, nearest) for item in items)
        return
    chunk = max(1, min(32, CHUNK_BYTES // (4 * size * size), len(items) // (4 * workers)))
    with _Pool(workers, size, nearest) as pool:
        waiting: deque[Future[list[Decoded]]] = deque()
        rest = iter(items)
        while True:
            while len(waiting) < 3 * workers and (some := _chunk(rest, chunk)):
                waiting.append(pool.submit(some))
            if not waiting:
                return
            yield from waiting.popleft().result()


def _chunk(items: Iterator[Item], most: int) -> list[Item]:
    """The next items: up to `most`, fewer of large files, so that what is done is soon written."""
    chunk: list[Item] = []
    size = 0
    while len(chunk) < most and size < CHUNK_BYTES and (item := next(items, None)):
        chunk.append(item)
        with contextlib.suppress(OSError):
            size += os.path.getsize(item.image)
    return chunk


class _Pool:
    """Worker processes, each fed by a thread of its own."""

    def __init__(self, workers: int, size: int, nearest: bool) -> None:
        self.size, self.nearest = size, nearest
        self.closing = threading.Event()
        self.threads = ThreadPoolExecutor(workers)
        self.idle: SimpleQueue[_Worker] = SimpleQueue()
        self.workers: list[_Worker] = []
        try:
            for _ in range(workers):
                self.workers.append(_Worker(size, nearest))
                self.idle.put(self.workers[-1])
        except BaseException:  # no more processes, or Ctrl-C
            self.__exit__()
            raise

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        for worker in self.workers:
            worker.process.kill()
        self.threads.shutdown(cancel_futures=True)
        for worker in self.workers:
            worker.close()

    def submit(self, items: list[Item]) -> Future[list[Decoded]]:
        return self.threads.submit(self._work, items)

    def _work(self, items: list[Item]) -> list[Decoded]:
        worker = self.idle.get()
        try:
            done: list[Decoded] = []
            suspect = -1
            while len(done) < len(items) and not self.closing.is_set():
                done += worker.decode(items[len(done) :])
                if len(done) < len(items) and not self.closing.is_set():  # it died at the next one
                    how = worker.ended()
                    worker.start()
                    if suspect != len(done):  # once may be another's doing: a system without memory kills
                        suspect = len(done)
                        continue
                    why = f"its decoder crashed ({how}); expected a whole picture; replace or remove it"
                    done.append(Decoded(None, None, ((items[len(done)].image, why),)))
            return done
        finally:
            self.idle.put(worker)


class _Worker:
    """One process that decodes."""

    def __init__(self, size: int, nearest: bool) -> None:
        self.arguments = [str(size), str(int(nearest))]
        self.size = size
        self.start()

    def start(self) -> None:
        """Start the process again. Raises RedosegError if Python cannot be started."""
        command = [sys.executable, "-P", "-c", "from redoseg.data.decoding import work; work()", *self.arguments]
        here = str(Path(__file__).parents[2])
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}
        pipe = subprocess.PIPE
        try:
            # a group of its own: Ctrl-C is for the parent
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, env=environment, bufsize=2**17, process_group=0
            )
        except OSError as error:
            raise RedosegError(
                f"a process that decodes pictures cannot be started ({describe_error(error)}); "
                "try again with fewer --workers"
            ) from error
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.to, self.answers = self.process.stdin, self.process.stdout
        self.ready = False

    def decode(self, items: Sequence[Item]) -> Iterator[Decoded]:
        """What becomes of each item; ends early if the process died of one."""
        with contextlib.suppress(BrokenPipeError):
            self.to.write(json.dumps([_described(item) for item in items]).encode() + b"\n")
            self.to.flush()
        if not self.ready and self.answers.read(1) != b"\n":
            raise RedosegError(
                "a process that decodes pictures ended as soon as it started; try again with --workers 1"
            )
        self.ready = True
        for _ in items:
            line = self.answers.readline()
            if not line.endswith(b"\n"):
                return
            channels, problems = json.loads(line)
            data = self.answers.read(self.size**2 * channels)
            if len(data) < self.size**2 * channels:
                return
            planes = np.frombuffer(data, np.uint8)
            image = planes[: 3 * self.size**2].reshape(self.size, self.size, 3) if channels else None
            mask = planes[3 * self.size**2 :].reshape(self.size, self.size) if channels == 4 else None
            yield Decoded(image, mask, tuple((Path(path), why) for path, why in problems))

    def ended(self) -> str:
        """How the process ended, in words."""
        code = self.process.wait()
        self.close()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def close(self) -> None:
        """Leave nothing of the process behind."""
        for pipe in (self.to, self.answers):
            with contextlib.suppress(OSError):
                pipe.close()
        self.process.wait()


def _named(reader: MaskReader) -> bool:
    """Whether a worker finds the function by its name: not one within another, nor one of the caller's script."""
    module, name = reader.__module__, getattr(reader, "__qualname__", "")
    return module != "__main__" and getattr(sys.modules.get(module), name, None) is reader


def _described(item: Item) -> list[str | None]:
    reader = item.read_mask
    return [
        item.name,
        str(item.image),
        None if item.mask is None else str(item.mask),
        f"{reader.__module__}:{reader.__qualname__}",
        item.values,
    ]


def _items(line: bytes) -> Iterable[Item]:
    for name, image, mask, reader, values in json.loads(line):
        module, _, function = reader.partition(":")
        read = getattr(importlib.import_module(module), function)
        yield Item(name, Path(image), None if mask is None else Path(mask), read_mask=read, values=values)


def work() -> None:
    """A worker process: chunks of items on stdin, answers on stdout, until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Windows knows no groups
    size, nearest = int(sys.argv[1]), sys.argv[2] == "1"
    answers: IO[bytes] = os.fdopen(os.dup(1), "wb", buffering=2**17)
    with open(os.devnull, "wb") as nowhere:  # libtiff and others chatter
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    answers.write(b"\n")
    answers.flush()
    with contextlib.suppress(BrokenPipeError):
        for line in sys.stdin.buffer:
            for item in _items(line):
                image, mask, problems = decode_item(item, size, nearest)
                arrays = [array for array in (image, mask) if array is not None]
                channels = (0, 3, 4)[len(arrays)]
                answer = (channels, [(str(path), why) for path, why in problems])
                answers.write(json.dumps(answer).encode() + b"\n")
                for array in arrays:
                    answers.write(array.tobytes())
                answers.flush()
