"""ONNX Runtime for browsers, of one pinned version: fetched from the npm registry once, or taken from a local copy.

Every file is compared with its SHA-512 below, wherever it comes from. To take another version: `npm pack` it, and write
its `dist.integrity` (`npm view onnxruntime-web dist`) and the sums of the two files here.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import urllib.request
import zlib
from base64 import b64decode
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from redoseg.errors import DataError
from redoseg.files import at_home, cache_dir, describe_error, make_folder, printable, why_not_there, write_atomic

VERSION = "1.30.0"
NAME = f"onnxruntime-web-{VERSION}"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""SHA-512 of the package, in base64 as npm has it."""
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
SUMS = {
    SCRIPT: "d4a705f0258065eaad4dcbcb80a3ed38c5c86e459e87ef8b0c24290e14390115"
    "711c02f554d2f9aebd0e23e3314db98d200365744fc0feaf8ee2048a81232359",
    WASM: "1adeded62203219fcf5c484cfce5657aa5875689b490423f86cf1ca1dd1cad77"
    "15f630c6337f41db71ee42794e3a00ce0b7c78939a71220b5d83368bf6ea7730",
}

REGISTRY = "https://registry.npmjs.org"
_TIMEOUT = 30.0  # seconds without a byte
_LARGEST = 2**27  # bytes of a package; this one has 33 MB
_CHUNK = 2**18
_BY_HAND = f"run `npm pack onnxruntime-web@{VERSION}` where there is a network, and pass the file as --runtime"

OnBytes = Callable[[int, int | None], None]
"""Called with the bytes that are here and their total if it is known."""


class Runtime(NamedTuple):
    """What runs a network in a browser."""

    script: str
    """A plain script that defines `ort`, which loads nothing."""
    wasm: bytes


def find_runtime(copy: Path | None = None, on_bytes: OnBytes | None = None) -> Runtime:
    """The runtime from a local `copy`, the user's cache, or the npm registry, which fills the cache.

    `copy` is the package that `npm pack` gives, or a folder with its files. Raises DataError if it cannot be fetched or
    read, or if it is another file than the pinned one.
    """
    if copy is not None:
        return _runtime(_local(at_home(copy)))
    kept = cache_dir() / NAME
    found = {name: content for name in SUMS if _right(name, content := _content(kept / name))}
    if len(found) < len(SUMS):
        found = _fetched(on_bytes)
        make_folder(kept)
        for name, content in found.items():
            write_atomic(kept / name, content)
    return _runtime(found)


def _runtime(files: dict[str, bytes]) -> Runtime:
    return Runtime(plain_script(files[SCRIPT].decode()), files[WASM])


def plain_script(module: str) -> str:
    """The module as a script that defines `ort`: browsers load no modules from files."""
    body, _, rest = module.rpartition("export{")
    pairs = [pair.split(" as ") for pair in rest.partition("}")[0].split(",")]
    exported = ",".join(f"{name}:{inner}" for inner, name in pairs if name in ("InferenceSession", "Tensor", "env"))
    # its own address is used only to load what is passed to it here
    body = body.replace("import.meta.url", '"blob:ort"')
    return f"const ort=(()=>{{{body}return{{{exported}}}}})();"


def _right(name: str, content: bytes) -> bool:
    return hashlib.sha512(content).hexdigest() == SUMS[name]


def _content(path: Path) -> bytes:
    """Empty if there is no such file."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _local(copy: Path) -> dict[str, bytes]:
    """The files of a package or a folder."""
    if copy.is_file():
        return _unpacked(_content(copy), printable(copy))
    if not copy.is_dir():
        raise DataError(
            f"--runtime {printable(copy)} {why_not_there(copy)}. Expected {NAME}.tgz or its folder. {_hint()}"
        )
    found = {}
    for name in SUMS:
        path = next(filter(Path.is_file, (copy / below / name for below in ("", "dist", "package/dist"))), None)
        if path is None:
            raise DataError(f"--runtime {printable(copy)} has no {name}. Expected the files of {NAME}. {_hint()}")
        found[name] = _content(path)
        _check(name, found[name], printable(path))
    return found


def _hint() -> str:
    return _BY_HAND[0].upper() + _BY_HAND[1:] + "."


def _check(name: str, content: bytes, where: str) -> None:
    if not _right(name, content):
        seen = hashlib.sha512(content).hexdigest()[:12]
        raise DataError(
            f"{where} has the SHA-512 {seen}..., but {name} of {NAME} has {SUMS[name][:12]}...; it is damaged or of "
            f"another version: {_BY_HAND}"
        )


def _unpacked(package: bytes, where: str) -> dict[str, bytes]:
    """The two files of a package. Raises DataError if they are not in it, or are others."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as members:
            for member in members:
                name = member.name.rpartition("/")[2]
                file = members.extractfile(member) if name in SUMS and member.size < _LARGEST else None
                if file is not None:
                    found[name] = file.read()
    except (tarfile.TarError, zlib.error, OSError, EOFError) as error:
        raise DataError(f"{where} is not a package of npm ({describe_error(error)}): {_BY_HAND}") from None
    for name in SUMS:
        if name not in found:
            raise DataError(f"{where} has no {name}, so it is not {NAME}: {_BY_HAND}")
        _check(name, found[name], where)
    return found


def registry() -> str:
    """The address of the npm registry: that of the environment, as npm reads it, or the public one."""
    named = (value for key, value in os.environ.items() if key.lower() == "npm_config_registry" and value)
    return next(named, REGISTRY).rstrip("/")


def _fetched(on_bytes: OnBytes | None) -> dict[str, bytes]:
    """The files of the package in the registry."""
    address = f"{registry()}/onnxruntime-web/-/{NAME}.tgz"
    shown = re.sub(r"//[^/@]*@", "//", printable(address))  # a mirror's address may have a password
    try:
        if not address.startswith(("https://", "http://")):
            raise OSError("not the address of a registry")
        with urllib.request.urlopen(address, timeout=_TIMEOUT) as answer:
            length = answer.headers.get("Content-Length", "")
            package = bytearray()
            while piece := answer.read(_CHUNK):
                package += piece
                if len(package) > _LARGEST:
                    raise OSError(f"more than {_LARGEST // 10**6} MB came")
                if on_bytes is not None:
                    on_bytes(len(package), int(length) if length.isdecimal() else None)
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None)  # what is below urllib's own error
        why = describe_error(reason if isinstance(reason, BaseException) else error)
        raise DataError(f"{shown} cannot be fetched ({why}); check the network, or {_BY_HAND}") from None
    if hashlib.sha512(package).digest() != b64decode(INTEGRITY):
        raise DataError(
            f"{shown} has another SHA-512 than the one that redoseg expects, so it was changed or cut on its way; run "
            f"the same command again, or {_BY_HAND}"
        )
    return _unpacked(bytes(package), shown)
