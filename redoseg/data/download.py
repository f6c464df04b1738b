"""The official archives of the research sets: fetched, checked, unpacked. A cut download continues where it stopped.

pooch was weighed: it cannot resume a cut download, and these servers are slow and their archives large.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.client import responses
from pathlib import Path

from redoseg.errors import DataError
from redoseg.files import cache_dir, describe_error, locked, printable, suggest_fix

TIMEOUT = 30.0  # seconds without a byte after which a connection counts as cut
PAUSE = 1.0  # seconds before the next try, doubled after each that brought nothing
TRIES = 4  # in a row that may bring nothing

_CHUNK = 2**14  # bytes; what a cut may lose
_CUT = "the connection was cut"


OnBytes = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes that are here and their total if it is known."""


@dataclass(frozen=True)
class Archive:
    """A file to fetch, and what it leaves behind."""

    url: str
    makes: str
    """The file or folder that is there once it is unpacked; its own name if it is not an archive."""
    md5: str | None
    """None if it is not known."""
    needed: bool = True
    """Whether the set is of no use without it."""

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/flowers"
_CALTECH = "https://data.caltech.edu/records"
_AMHERST = "http://vis-www.cs.umass.edu/lfw"

ARCHIVES: dict[str, tuple[Archive, ...]] = {
    "flowers102": (
        Archive(f"{_OXFORD}/102/102flowers.tgz", "jpg", "52808999861908f626f3c1f4e79d11fa"),
        Archive(f"{_OXFORD}/102/102segmentations.tgz", "segmim", "51375996b6c4f367a4b9f4492d7ecef5"),
        Archive(f"{_OXFORD}/102/setid.mat", "setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"),
    ),
    "flowers17": (
        Archive(f"{_OXFORD}/17/17flowers.tgz", "jpg", None),
        Archive(f"{_OXFORD}/17/trimaps.tgz", "trimaps", None),
    ),
    "lfw": (
        Archive(f"{_AMHERST}/lfw-funneled.tgz", "lfw_funneled", "1b42dfed7d15c9b2dd63d5e5840c86ad"),
        Archive(
            f"{_AMHERST}/part_labels/parts_lfw_funneled_gt_images.tgz",
            "parts_lfw_funneled_gt_images",
            None,
            needed=False,  # its server is often off line
        ),
    ),
    "cub200-2011": (
        Archive(f"{_CALTECH}/65de6-vp158/files/CUB_200_2011.tgz", "CUB_200_2011", "97eceeb196236b17998738112f37df78"),
        Archive(f"{_CALTECH}/w9d68-gec53/files/segmentations.tgz", "segmentations", "4d47ba1228eae64f2fa547c47bc65255"),
    ),
}
"""Name of a set -> its archives."""


def cache_folder(name: str) -> Path:
    """Where the archives of the set `name` are kept unless another folder is named."""
    return cache_dir() / "archives" / name


def fetch(
    name: str,
    folder: str | Path,
    on_bytes: OnBytes | None = None,
    timeout: float = TIMEOUT,
    pause: float = PAUSE,
) -> tuple[str, ...]:
    """Bring the set `name` (one of ARCHIVES) into `folder` in its official layout; returns notes on what is missing.

    What an archive makes is the mark that it is there: it is not fetched again, and the archive itself is
    removed once it is unpacked. One that was put into the folder by hand is used instead of being fetched. A
    download that was stopped, however it was, leaves `NAME.part`, and the next call asks only for the rest.

    Args:
        name: the set.
        folder: where to; made if it is missing.
        on_bytes: called as bytes come in.
        timeout: without a byte after which a connection counts as cut [seconds].
        pause: before another try [seconds].

    Raises:
        DataError: a set without archives, a server that cannot be reached or has no such file, a connection
            cut again and again, a wrong checksum, a damaged or unsafe archive, a full disk, or another download
            into the same folder.
    """
    if name not in ARCHIVES:
        raise DataError(
            f"set {name!r} cannot be downloaded; choose one of {', '.join(ARCHIVES)}, or a folder that you have"
        )
    folder = Path(folder)
    if all(os.path.lexists(folder / archive.makes) for archive in ARCHIVES[name]):
        return ()
    notes: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder) as mine:
            if not mine:
                raise DataError(
                    f"another download into {printable(folder)} is running: run the same command when it has ended"
                )
            for archive in ARCHIVES[name]:
                if os.path.lexists(folder / archive.makes):
                    continue
                try:
                    _bring(archive, folder / archive.name, on_bytes, timeout, pause)
                except DataError as error:
                    if archive.needed:
                        raise
                    notes.append(f"{archive.name} could not be fetched ({error}); the set is without {archive.makes}/")
                else:
                    if archive.md5 is None:
                        notes.append(f"{archive.name}: checksum not known, not checked")
    except OSError as error:
        raise DataError(
            f"{printable(folder)}: cannot be written ({describe_error(error)}): {suggest_fix(error, folder)}"
        ) from error
    return tuple(notes)


def _bring(archive: Archive, path: Path, on_bytes: OnBytes | None, timeout: float, pause: float) -> None:
    """One archive as `path`, fetched if it is not there, then unpacked beside it."""
    by_hand = path.is_file()
    if by_hand:
        seen = _md5(path)
        if archive.md5 not in (None, seen):
            raise DataError(
                f"{printable(path)} is damaged, or another file: its MD5 is {seen}, but must be {archive.md5}; "
                "remove it and run the same command again, which downloads it"
            )
    else:
        _download(archive, path, on_bytes, timeout, pause)
    if archive.makes == archive.name:
        return
    try:
        _unpack(path, archive.makes)
    except DataError:
        if not by_hand:  # its checksum is not known, and it is not what it should be
            path.unlink()
        raise
    path.unlink()


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


# ---------------------------------------------------------------------------------------------- downloading


class _Cut(Exception):
    """A try did not bring the whole file. What it brought is kept."""

    def __init__(self, why: str, total: int | None = None, reached: bool = True) -> None:
        super().__init__(why)
        self.total = total
        self.reached = reached
        """Whether there was a server at all."""


def _download(archive: Archive, path: Path, on_bytes: OnBytes | None, timeout: float, pause: float) -> None:
    """Fetch to `path` by way of `path`.part, which stays for another run if this one fails."""
    part, tag = _beside(path, ".part"), _beside(path, ".part.tag")
    by_hand = f"put {archive.name} into {printable(path.parent)} by hand"
    most, idle, total, reached = _size(part), 0, None, False
    while True:
        try:
            _get(archive, part, tag, on_bytes, timeout)
            break
        except _Cut as cut:
            why, total, reached = str(cut), cut.total or total, cut.reached or reached
        if not reached:
            raise DataError(f"{archive.url}: cannot be reached ({why}); check the network, or {by_hand}")
        # more than ever before, not more than last time: a server that always starts again would never end
        idle = 0 if _size(part) > most else idle + 1
        most = max(most, _size(part))
        if idle == TRIES:
            got = f"{most / 1e6:.1f} of {total / 1e6:.1f} MB" if total else f"{most / 1e6:.1f} MB"
            raise DataError(
                f"{archive.url}: only {got} arrived, and {TRIES} more tries brought nothing new ({why}); "
                f"run the same command again to continue, or {by_hand}"
            )
        time.sleep(pause * 2**idle)
    seen = _md5(part)
    if archive.md5 not in (None, seen):
        part.unlink()
        tag.unlink(missing_ok=True)
        raise DataError(
            f"{archive.url}: the file that arrived has the MD5 {seen}, but must have {archive.md5}; run the "
            "same command again; if this happens twice, the file at that address has changed or is replaced on the "
            f"way: {by_hand}"
        )
    os.replace(part, path)
    tag.unlink(missing_ok=True)


def _get(archive: Archive, part: Path, tag: Path, on_bytes: OnBytes | None, timeout: float) -> None:
    """One try to make `part` whole. Its version, as the server calls it, is kept in the file `tag`.

    Raises _Cut if another try may help, else DataError.
    """
    import requests
    from urllib3.exceptions import HTTPError, ProtocolError

    version = _read(tag)
    have = _size(part) if version else 0
    # Some servers call a .tgz a compressed .tar: its stored bytes are taken.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    try:
        response = requests.get(archive.url, headers=headers, stream=True, timeout=timeout)
    except requests.RequestException as error:
        reached = isinstance(error, requests.ReadTimeout) or any(isinstance(e, ProtocolError) for e in error.args)
        raise _Cut(_why(error, timeout, _CUT if reached else describe_error(error)), reached=reached) from error
    with response:
        status = response.status_code
        answer = f"the server answers {status} {responses.get(status, '')}".rstrip()
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        if have and status in (206, 416):
            found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", response.headers.get("Content-Range", ""))
            start, total = (found[1], int(found[2])) if found else (None, None)
            if status == 416 and total == have:  # stopped between the last byte and the check
                return
            # A server may take no notice of If-Range: halves of two files are never put together.
            now = response.headers.get("ETag" if version.startswith('"') else "Last-Modified", version)
            if status == 416 or start != str(have) or now != version:
                part.unlink()
                raise _Cut("the file at that address has changed")
        elif status >= 500 or status in (408, 429):
            raise _Cut(answer)
        elif status != 200:
            raise DataError(
                f"{archive.url}: {answer}; find the new address, download it by hand and put it into "
                f"{printable(part.parent)}"
            )
        with open(part, "ab" if status == 206 else "wb") as file:
            if status == 200:
                have = 0
                tag.write_text(_version(response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")))
            try:
                for chunk in response.raw.stream(_CHUNK, decode_content=False):
                    file.write(chunk)
                    have += len(chunk)
                    if on_bytes is not None:
                        on_bytes(archive.name, have, total)
            except HTTPError as error:
                raise _Cut(_why(error, timeout, _CUT), total) from error
            if total is not None and have < total:
                raise _Cut(_CUT, total)
            file.flush()
            os.fsync(file.fileno())


def _version(etag: str, modified: str) -> str:
    """What to ask for the rest of this very file with; empty if the server gives nothing to ask with."""
    # A weak ETag (W/...) may not be asked with, RFC 9110, 13.1.5.
    version = etag if etag.startswith('"') else modified
    return version if version.isascii() and version.isprintable() else ""


def _read(tag: Path) -> str:
    try:
        return _version("", tag.read_text("latin-1").strip())
    except FileNotFoundError:
        return ""


def _why(error: BaseException, timeout: float, otherwise: str) -> str:
    """The system's word for it, from below the layers of two libraries; `otherwise` if it has none."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return describe_error(inner)
        if isinstance(inner, TimeoutError):
            return f"nothing came for {timeout:g} s"
        inner = inner.__cause__ or next((e for e in inner.args if isinstance(e, BaseException)), None)
    return otherwise


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _size(path: Path) -> int:
    """Bytes; 0 for a file that is not there."""
    return path.stat().st_size if path.exists() else 0


# ------------------------------------------------------------------------------------------------ unpacking


def _unpack(path: Path, makes: str) -> None:
    """Unpack a .tgz beside itself, whole or not at all; what is already there is left alone."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    partial.mkdir()
    try:
        try:
            # read as a stream: to seek back by a single byte would unpack it from its start
            with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as members:
                for member in members:
                    _unpack_member(members, member, partial, path)
                while stream.read(_CHUNK):  # up to its checksum
                    pass
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
            raise DataError(
                f"{printable(path)} cannot be unpacked ({describe_error(error)}), so it is not a whole .tgz archive; "
                "remove it if it is still there, and run the same command again"
            ) from error
        if not os.path.lexists(partial / makes):
            raise DataError(
                f"{printable(path)} does not contain {makes}, so it is not the archive that its makers publish; "
                "delete it, and run the same command again"
            )
        # what marks the archive as unpacked comes last
        for entry in sorted(partial.iterdir(), key=lambda entry: entry.name == makes):
            target = path.with_name(entry.name)
            if not os.path.lexists(target):
                os.rename(entry, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unpack_member(members: tarfile.TarFile, member: tarfile.TarInfo, partial: Path, path: Path) -> None:
    """Our own check and not tarfile's data filter, which Python 3.11.0 to 3.11.3 lack."""
    inside = Path(member.name)
    target = partial / inside
    if not (member.isreg() or member.isdir()):
        seen = "neither a file nor a folder"
    elif ".." in inside.parts or not target.is_relative_to(partial):
        seen = "a path outside the folder that it is unpacked into"
    else:
        data = members.extractfile(member)
        if data is None:
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with data, open(target, "wb") as file:
            shutil.copyfileobj(data, file)
        return
    raise DataError(
        f"{printable(path)} contains {printable(member.name)}, which is {seen}; "
        "do not use this archive, fetch the official one"
    )
