"""`redoseg doctor`: what it prints, what it keeps to itself, and that it never fails."""

from __future__ import annotations

import json
import os
import sys
from importlib import metadata
from pathlib import Path

import pytest

from redoseg import __version__
from redoseg.cli import doctor, main
from redoseg.errors import ModelError


def test_it_prints_what_a_bug_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run_command(["doctor"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"redoseg: {__version__}"
    for package in ("numpy", "torch", "onnxruntime", "gradio"):
        assert any(line.startswith(f"  {package}: ") for line in said)
    assert f"  numpy: {metadata.version('numpy')}" in said
    assert any(line.startswith("self-test: ok: flowers segmented a picture") for line in said)


def test_json_is_one_object_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run_command(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["redoseg"] == __version__
    assert found["packages"]["numpy"] == metadata.version("numpy")
    assert found["optional parts"]["train"] == "complete"
    assert "flowers" in found["weights in the package"]
    assert found["processor"]["cores that this process may use"] >= 1
    assert "CPUExecutionProvider" in found["onnxruntime"]["providers"]


def test_what_is_missing_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without(package: str) -> str:
        if package in ("torch", "matplotlib"):
            raise metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(metadata, "version", without)
    monkeypatch.setitem(sys.modules, "torch", None)
    found = doctor.examine()
    assert found["packages"]["torch"] == "not installed"
    assert found["optional parts"]["train"] == "lacks torch, matplotlib"
    assert found["torch"].startswith("not known: ") or found["torch"] == "not installed"
    assert found["self-test"].startswith("ok")


def test_no_part_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        raise OSError("no such luck")

    def unusable(*_: object) -> object:
        raise ModelError("model flowers failed")

    parts = ["_processor", "_memory", "_requirements", "_torch", "_onnxruntime", "_weights", "_cache", "_disk"]
    for name in parts:
        monkeypatch.setattr(doctor, name, broken)
    monkeypatch.setattr("redoseg.inference.segmenter.Segmenter.__init__", unusable)
    found = doctor.examine()
    assert found["processor"] == found["packages"] == found["cache"] == "not known: no such luck"
    assert found["self-test"] == "error: flowers: model flowers failed"
    assert doctor.lines(found)


def test_an_installation_without_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> object:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", unknown)
    assert doctor.examine()["packages"].startswith("not known: ")


def test_it_prints_no_secrets_and_no_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "jane.doe"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("PYTHONPATH", f"{home}/code{os.pathsep}{home}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MY_PASSWORD", "hunter2")
    monkeypatch.setenv("HF_ENDPOINT", "https://jane:hunter2@mirror.example")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(sys, "executable", str(home / "env" / "bin" / "python"))
    found = doctor.examine()
    said = json.dumps(found) + "\n".join(doctor.lines(found))
    for secret in ("hf_secret", "hunter2", "jane"):
        assert secret not in said
    assert found["environment"] == found["environment"] | {
        "HF_TOKEN": "set",
        "HF_ENDPOINT": "https://mirror.example",
        "OMP_NUM_THREADS": "3",
        "PYTHONPATH": f"~/code{os.pathsep}~",
    }
    assert found["cache"]["folder"] == "~/cache/redoseg"
    assert found["python"].endswith(" at ~/env/bin/python")
