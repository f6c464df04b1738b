"""What a bug report needs: versions, machine, devices, and whether a picture can be segmented.

Nothing here fails: a value that is not known comes with the reason. The user's folder is written as ~. Of the
environment only settings are printed, no tokens.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from redoseg import __version__
from redoseg.errors import RedosegError
from redoseg.files import describe_error
from redoseg.system import cores, free_memory

# instruction sets that decide speed: vectors, bfloat16, bytes (int8)
_INSTRUCTIONS = (
    *("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve"),
)
_SETTINGS = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "XDG_CACHE_HOME", "PYTHONPATH", "TMPDIR"),
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "GRADIO_SERVER_PORT"),
)
_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def examine() -> dict[str, Any]:
    """Everything, as plain values for JSON."""
    parts: dict[str, Callable[[], Any]] = {
        "python": lambda: f"{platform.python_version()} ({platform.python_implementation()}) at {sys.executable}",
        "platform": platform.platform,
        "processor": _processor,
        "memory": _memory,
        "packages": _packages,
        "optional parts": _optional_parts,
        "torch": _torch,
        "onnxruntime": _onnxruntime,
        "weights in the package": _weights,
        "cache": _cache,
        "free disk space": _disk,
        "environment": _environment,
        "self-test": _self_test,
    }
    found: dict[str, Any] = {"redoseg": __version__}
    for name, part in parts.items():
        try:
            found[name] = part()
        # a broken install can fail in any of these ways, and is what a report is for
        except (ImportError, OSError, RuntimeError, ValueError, AttributeError, TypeError, LookupError) as error:
            found[name] = f"not known: {describe_error(error)}"
    result: dict[str, Any] = _without_home(found)
    return result


def lines(found: Mapping[str, Any]) -> list[str]:
    """What `examine` found, to be read."""
    said = []
    for name, value in found.items():
        if isinstance(value, Mapping):
            said += [f"{name}:", *(f"  {key}: {_shown(one)}" for key, one in value.items())]
        else:
            said.append(f"{name}: {_shown(value)}")
    return said


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _without_home(value: Any) -> Any:
    """The same with ~ for the user's folder, which has the user's name in it."""
    if isinstance(value, Mapping):
        return {key: _without_home(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_home(one) for one in value]
    home = os.path.expanduser("~")
    if isinstance(value, str) and len(home) > 1:
        return re.sub(re.escape(home) + r"(?![\w.-])", "~", value)
    return value


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _processor() -> dict[str, Any]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:  # no Linux
        text = ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.M)
    has = flags[1].split() if flags else []
    return {
        "model": model[1] if model else platform.processor() or platform.machine(),
        "cores that this process may use": cores(),
        "cores": os.cpu_count() or "not known",
        "instruction sets": [name for name in _INSTRUCTIONS if name in has] if flags else "not known",
    }


def _memory() -> dict[str, str]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    told = Path("/proc/meminfo").exists()  # where it is not, free_memory() is a guess
    return {
        "total": _gib(total) if total else "not known",
        "free for this process": _gib(free_memory()) if told else "not known",
    }


def _requirements() -> dict[str, list[str]]:
    """Optional part, or "" for what is always needed -> packages."""
    found: dict[str, list[str]] = {"": []}
    for line in metadata.requires("redoseg") or []:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)", marker)
        name = re.match(r"[\w.-]+", requirement.strip())
        if name and name[0] != "redoseg":
            found.setdefault(extra[1] if extra else "", []).append(name[0])
    return found


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _packages() -> dict[str, str]:
    parts = _requirements()
    return {name: _version(name) for part, names in parts.items() if part != "dev" for name in names}


def _optional_parts() -> dict[str, str]:
    said = {}
    for part, names in _requirements().items():
        missing = [name for name in names if _version(name) == "not installed"]
        if part:
            said[part] = "complete" if not missing else f"lacks {', '.join(missing)}"
    return said


def _torch() -> dict[str, Any] | str:
    try:
        torch = import_module("torch")
    except ModuleNotFoundError:
        return "not installed"
    cuda = torch.cuda.is_available()
    return {
        "threads": torch.get_num_threads(),
        "CUDA": torch.version.cuda or "built without",
        "GPUs": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        "mps": bool(torch.backends.mps.is_available()),
    }


def _onnxruntime() -> dict[str, Any]:
    return {"providers": list(import_module("onnxruntime").get_available_providers())}


def _weights() -> list[str]:
    from redoseg.inference.model_file import weights

    return weights()


def _cache() -> dict[str, str]:
    from redoseg.files import cache_dir

    folder = cache_dir()
    size = 0
    for path in folder.rglob("*") if folder.is_dir() else ():
        try:
            size += path.lstat().st_size
        except OSError:  # just removed
            continue
    return {"folder": str(folder), "size": _gib(size)}


def _disk() -> dict[str, str]:
    places = {"here": Path.cwd(), "in the temporary folder": Path(tempfile.gettempdir()), "at home": Path.home()}
    return {name: _gib(shutil.disk_usage(path).free) for name, path in places.items()}


def _environment() -> dict[str, str]:
    said = {name: _public(os.environ[name]) for name in _SETTINGS if name in os.environ}
    return said | {name: "set" for name in _SECRETS if os.environ.get(name)}


def _public(value: str) -> str:
    """An address without the name and password that may be in it."""
    return re.sub(r"//[^/@\s]*@", "//", value)


def _self_test() -> str:
    """Segment a made picture, a disc on a ground, with the weights in the package."""
    import numpy as np

    from redoseg.inference.model_file import weights
    from redoseg.inference.segmenter import Segmenter

    if not weights():
        return "error: the package has no weights. Install it again."
    rows, columns = np.mgrid[:64, :96]
    disc = (rows - 32) ** 2 + (columns - 48) ** 2 < 20**2
    image = np.where(disc[..., None], (230, 200, 20), (30, 90, 40)).astype(np.uint8)
    name = "flowers" if "flowers" in weights() else weights()[0]  # the picture is like one
    try:
        started = time.monotonic()
        mask = Segmenter(name)(image)
    except RedosegError as error:
        return f"error: {name}: {describe_error(error)}"
    if mask.shape != disc.shape:
        return f"error: {name}: the picture has {disc.shape} rows and columns, but its mask {mask.shape}"
    return f"ok: {name} segmented a picture in {time.monotonic() - started:.2f} s"
