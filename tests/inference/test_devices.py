"""The device is the one that was asked for, or an error. ONNX Runtime is pretended to have more than it has."""

from __future__ import annotations

import pickle
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from redoseg.cli import main
from redoseg.errors import MissingError, ModelError
from redoseg.inference.segmenter import Segmenter

CPU = "CPUExecutionProvider"
NAMES = {
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}


class Pretended:
    """ONNX Runtime with further providers; sessions compute on the processor."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, there: list[str], loaded: list[str] | None = None) -> None:
        self.asked: list[Any] = []
        self.made: list[Any] = []
        self.at_once = self.most = 0
        real = onnxruntime.InferenceSession
        pretended = self

        class Session:
            def __init__(self, content: bytes, options: Any, providers: list[Any], **more: Any) -> None:
                pretended.asked.append((providers, more, options.enable_mem_pattern))
                self.inner = real(content, options, providers=[CPU])
                self.names = [one[0] if isinstance(one, tuple) else one for one in providers]
                self.falls_back = True
                pretended.made.append(self)

            def disable_fallback(self) -> None:
                self.falls_back = False

            def get_providers(self) -> list[str]:
                return self.names if loaded is None else loaded

            def run(self, *arguments: Any) -> Any:
                pretended.at_once += 1
                pretended.most = max(pretended.most, pretended.at_once)
                time.sleep(0.002)
                found = self.inner.run(*arguments)
                pretended.at_once -= 1
                return found

            def __getattr__(self, name: str) -> Any:
                return getattr(self.inner, name)

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr("redoseg.inference.model_file.check_cost", lambda _: None)  # it has a session of its own


@pytest.mark.parametrize("device", NAMES)
def test_the_device_that_is_asked_for_is_used(device: str, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((1, 40, 30, 3), np.uint8)
    expected = Segmenter(trained.folder).batch(images)
    pretended = Pretended(monkeypatch, [NAMES[device], CPU])
    segmenter = Segmenter(trained.folder, device=device)  # type: ignore[arg-type]
    ((providers, more, _),) = pretended.asked
    assert providers[0][0] == NAMES[device]
    assert more == {"enable_fallback": 0}
    assert not pretended.made[0].falls_back
    np.testing.assert_array_equal(segmenter.batch(images), expected)
    again = pickle.loads(pickle.dumps(segmenter))
    assert pretended.asked[-1][0][0][0] == NAMES[device]
    np.testing.assert_array_equal(again.batch(images), expected)


def test_the_processor_needs_no_other_provider(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pretended = Pretended(monkeypatch, [CPU])
    Segmenter(trained.folder)
    assert [providers for providers, _, _ in pretended.asked] == [[CPU]]


def test_a_device_that_falls_back_in_silence_is_an_error(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Pretended(monkeypatch, [NAMES["cuda"], CPU], loaded=[CPU])
    with pytest.raises(
        MissingError, match=rf"cuda is installed but does not start \(ONNX Runtime took {CPU} instead\)"
    ):
        Segmenter(trained.folder, device="cuda")


def test_a_device_that_fails_at_the_start_is_an_error(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no CUDA-capable device\nis detected")

    Pretended(monkeypatch, [NAMES["cuda"], CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", fails)
    with pytest.raises(MissingError, match=r"does not start.*no CUDA-capable device is detected"):
        Segmenter(trained.folder, device="cuda")


def test_an_unknown_device(trained: Any) -> None:
    with pytest.raises(ModelError, match="the device is 'gpu', but must be one of cpu, cuda, coreml"):
        Segmenter(trained.folder, device="gpu")  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["directml", "cuda"])
def test_directml_has_one_picture_at_a_time(device: str, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pretended = Pretended(monkeypatch, [NAMES[device], CPU])
    segmenter = Segmenter(trained.folder, threads=4, device=device)  # type: ignore[arg-type]
    gate = threading.Barrier(4)

    def one() -> None:
        gate.wait()
        segmenter.soft(np.zeros((20, 20, 3), np.uint8))

    workers = [threading.Thread(target=one) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert pretended.asked[0][2] is (device != "directml")
    assert pretended.most == 1 if device == "directml" else pretended.most > 1


@pytest.mark.parametrize("verb", ["segment", "evaluate", "evaluate --own-size", "evaluate --grounds", "serve"])
def test_a_device_that_is_not_there_is_one_line_and_exit_code_2(
    verb: str,
    photos: Path,
    trained: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", CPU])
    name, *more = verb.split()
    words = {
        "segment": [str(photos / "images"), "-o", str(tmp_path / "out")],
        "evaluate": [str(photos)],
        "serve": ["--port", "0"],
    }
    arguments = ["redoseg", name, str(trained.folder), *words[name], *more, "--device", "cuda"]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as stopped:
        main.main()
    said = capsys.readouterr()
    assert (stopped.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert f"this ONNX Runtime has only AzureExecutionProvider, {CPU}: install onnxruntime-gpu" in said.err
    assert not (tmp_path / "out").exists()
