"""On which device ONNX Runtime computes: the one that was asked for, or an error, never another one in silence."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

from redoseg.errors import MissingError, ModelError
from redoseg.files import describe_error

Device = Literal["cpu", "cuda", "coreml", "directml", "openvino"]


class _Provider(NamedTuple):
    """What ONNX Runtime calls a device, and where it is available."""

    name: str
    install: str
    """What to do where it is missing."""
    options: Mapping[str, str] = MappingProxyType({})


_INSTEAD = "install {} instead of onnxruntime (`pip uninstall onnxruntime`, then `pip install {}`)"
_PROVIDERS: dict[str, _Provider] = {
    "cpu": _Provider("CPUExecutionProvider", "install onnxruntime again"),
    # TF32 rounds to 10 bits, and masks would differ from those of a processor
    "cuda": _Provider("CUDAExecutionProvider", _INSTEAD.format(*["onnxruntime-gpu"] * 2), {"use_tf32": "0"}),
    "coreml": _Provider("CoreMLExecutionProvider", "use it on a Mac, where onnxruntime has it"),
    "directml": _Provider("DmlExecutionProvider", _INSTEAD.format(*["onnxruntime-directml"] * 2) + " on Windows"),
    "openvino": _Provider("OpenVINOExecutionProvider", _INSTEAD.format(*["onnxruntime-openvino"] * 2)),
}
ONE_AT_A_TIME = ("directml",)
"""Devices on which a session may not be used by several threads at a time."""


def start_session(content: bytes, options: Any, device: str) -> Any:
    """ONNX Runtime's session of a model on this device.

    Raises ModelError for a device that is not known, MissingError for one that is not there or does not start, and
    what ONNX Runtime raises for a file that is not a model.
    """
    import onnxruntime

    if device not in get_args(Device):
        raise ModelError(f"the device is {device!r}, but must be one of {', '.join(get_args(Device))}")
    wanted = _PROVIDERS[device]
    if device == "cpu":
        return onnxruntime.InferenceSession(content, options, providers=[wanted.name])
    there = onnxruntime.get_available_providers()
    if wanted.name not in there:
        raise MissingError(
            f"device {device} needs {wanted.name}, but this ONNX Runtime has only {', '.join(there)}: "
            f"{wanted.install}, or use cpu"
        )
    if device in ONE_AT_A_TIME:
        options.enable_mem_pattern = False  # DirectML does not take it
    # It would compute on the processor if the device fails, at the start or later.
    try:
        session = onnxruntime.InferenceSession(
            content, options, providers=[(wanted.name, dict(wanted.options)), _PROVIDERS["cpu"].name], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime has no error tree of its own
        raise _not_started(device, describe_error(error)) from error
    session.disable_fallback()
    loaded = session.get_providers()
    if wanted.name not in loaded:
        raise _not_started(device, f"ONNX Runtime took {', '.join(loaded)} instead")
    return session


def _not_started(device: str, why: str) -> MissingError:
    return MissingError(
        f"device {device} is installed but does not start ({why.rstrip('.')}): correct its driver and libraries, or "
        "use cpu"
    )
