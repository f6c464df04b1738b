"""Shards: many pictures in one file, WebDataset's .tar or Parquet, read one after the other from wherever they are."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from redoseg.errors import DataError, MissingError
from redoseg.files import describe_error, printable
from redoseg.images.kinds import HEIC_SUFFIXES, IMAGE_SUFFIXES
from redoseg.images.read import MAX_BYTES
from redoseg.storage import Address, Place, streamed

TAR, PARQUET = ".tar", ".parquet"
_BLOCK = 512  # bytes of a tar; it ends in such blocks of zeros
ROWS = 64  # of a Parquet file that are read at a time

_IMAGES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "image_bytes", "content", "bytes")
_MASKS = ("mask", "masks", "label", "segmentation", "annotation", "gt", "mask_bytes")
_MASK_ENDINGS = ("mask.png", "seg.png", "label.png", "png")  # of a tar's member; png where the picture is none


class Sample(NamedTuple):
    """One picture of a shard."""

    key: str
    """What its members have in common in a tar, the number of its row in Parquet."""
    name: str
    content: bytes
    mask: bytes | None = None
    problem: str = ""
    """Why the picture cannot be used."""


def is_shard(place: Place) -> bool:
    """Whether a place is a shard, by its name."""
    return place.suffix.lower() in (TAR, PARQUET)


def samples_of(shard: Place) -> Generator[Sample, None, None]:
    """The pictures of a shard in their order. Raises DataError where it cannot be read to its end, MissingError."""
    with _one_line(shard), opened(shard) as file:
        yield from _of_parquet(file, shard) if shard.suffix.lower() == PARQUET else _of_tar(file)


@contextlib.contextmanager
def _one_line(shard: Place) -> Iterator[None]:
    try:
        yield
    except (DataError, MissingError, GeneratorExit):
        raise
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:  # pyarrow's errors are ValueErrors or OSErrors
        raise DataError(
            f"{printable(shard)}: cannot be read to its end ({describe_error(error)}); repair or remove it"
        ) from error


@contextlib.contextmanager
def opened(shard: Place) -> Iterator[IO[bytes]]:
    """The file of a shard, open to be read. Raises OSError, DataError."""
    if isinstance(shard, Address):
        with streamed(shard) as file:
            yield file
    else:
        with open(shard, "rb") as file:
            yield file


# ------------------------------------------------------------------------------------------------------ tar


def key_and_ending(member: str) -> tuple[str, str]:
    """A member's key and what follows it, as WebDataset parts a name: at the first dot of its last part."""
    folder, slash, name = member.removeprefix("./").rpartition("/")
    stem, _, ending = name.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


def _of_tar(file: IO[bytes]) -> Iterator[Sample]:
    """The pictures of a tar. The members of a key follow each other."""
    group: dict[str, bytes | None] = {}
    last = ""
    watched = _Watched(file)
    with tarfile.open(fileobj=watched, mode="r|") as archive:  # type: ignore[call-overload]
        for member in archive:
            key, ending = key_and_ending(member.name)
            if not member.isfile() or not key.rpartition("/")[2]:
                continue
            if key != last and group:
                yield from _sample(last, group)
                group = {}
            last = key
            if f".{ending}" in (*IMAGE_SUFFIXES, *HEIC_SUFFIXES) or ending in _MASK_ENDINGS:
                taken = archive.extractfile(member) if member.size <= MAX_BYTES else None
                group[ending] = taken.read() if taken is not None else None
    while watched.read(2**20):
        pass
    if watched.tail.strip(b"\0") or len(watched.tail) < _BLOCK:  # tarfile takes an end in the middle for the end
        raise EOFError("its end is missing")
    yield from _sample(last, group)


class _Watched:
    """A file of which the last bytes that were read are kept."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.tail = file, b""

    def read(self, count: int) -> bytes:
        data = self._file.read(count)
        self.tail = (self.tail + data)[-_BLOCK:] if len(data) < _BLOCK else data[-_BLOCK:]
        return data


def _sample(key: str, group: dict[str, bytes | None]) -> Iterator[Sample]:
    """The picture of a key; where it has a PNG and another picture, the PNG is a mask."""
    images = [ending for ending in group if "." not in ending]
    images.sort(key=lambda ending: ending == "png")
    if not images:
        return
    ending = images[0]
    mask = next((group[name] for name in _MASK_ENDINGS if name in group and name != ending), None)
    content = group[ending]
    problem = "" if content is not None else f"has more than {MAX_BYTES // 10**6} MB, the most that are read"
    yield Sample(key, f"{key}.{ending}", content or b"", mask, problem)


# -------------------------------------------------------------------------------------------------- Parquet


class Columns(NamedTuple):
    """What the columns of a Parquet file are."""

    image: str
    mask: str | None
    others: list[str]
    """All that are neither, nor other pictures."""


def pyarrow_parquet() -> Any:
    """The module pyarrow.parquet. Raises MissingError."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingError.of("pyarrow, which Parquet needs,", "parquet") from None
    return pyarrow.parquet


def columns_of(schema: Any, shard: Place) -> Columns:
    """Which column has the pictures: bytes, or bytes and path as in Hugging Face's datasets. Raises DataError."""
    import pyarrow as pa

    def has_bytes(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return any(kind.field(i).name == "bytes" and has_bytes(kind.field(i).type) for i in range(kind.num_fields))
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    binary = [field.name for field in schema if has_bytes(field.type)]
    named = _first(_IMAGES, binary)
    rest = [name for name in binary if name.lower() not in _MASKS]
    if named is None and len(rest) != 1:
        seen = f"has {len(rest)} columns of bytes ({', '.join(rest)})" if rest else "has no column of pictures"
        raise DataError(
            f"{printable(shard)} {seen}, but expected one that is called image; rename the column of the pictures"
        )
    image = named or rest[0]
    mask = _first(_MASKS, [name for name in binary if name != image])
    return Columns(image, mask, [name for name in schema.names if name not in binary])


def _first(names: Sequence[str], there: Sequence[str]) -> str | None:
    small = {name.lower(): name for name in there}
    return next((small[name] for name in names if name in small), None)


def _of_parquet(file: IO[bytes], shard: Place) -> Iterator[Sample]:
    table = pyarrow_parquet().ParquetFile(file)
    columns = columns_of(table.schema_arrow, shard)
    number = 0
    wanted = [columns.image, *([columns.mask] if columns.mask else [])]
    for batch in table.iter_batches(batch_size=ROWS, columns=wanted):
        for row in batch.to_pylist():
            content, path = _bytes_in(row[columns.image])
            mask = _bytes_in(row[columns.mask])[0] if columns.mask else None
            problem = "" if content is not None else "has no picture; expected its bytes"
            yield Sample(str(number), Path(path).name if path else str(number), content or b"", mask, problem)
            number += 1


def _bytes_in(cell: Any) -> tuple[bytes | None, str]:
    """The content and the path of a picture in a cell."""
    if isinstance(cell, dict):
        return cell.get("bytes"), str(cell.get("path") or "")
    return cell, ""
