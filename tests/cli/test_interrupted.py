"""A signal while the program is still loading: one line and its code, whatever module is being imported."""

import contextlib
import signal
import subprocess
import sys

import pytest

from redoseg import signals
from redoseg.cli import main as entry
from redoseg.errors import DataError

CODES = {"SIGINT": (130, "by hand"), "SIGTERM": (143, "by SIGTERM"), "SIGHUP": (129, "by SIGHUP")}
CODE = """
import runpy, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            try:
                signal.raise_signal(signal.{signal})
            except KeyboardInterrupt:
                raise {raised}
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder())
sys.argv = ["redoseg", "segment", "flowers", "missing.jpg", "-o", "missing"]
runpy.run_module("redoseg", run_name="__main__")
"""


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("name", "signal", "raised"),
    [
        ("redoseg.cli.main", "SIGINT", "ImportError('half loaded')"),
        ("redoseg.errors", "SIGTERM", "SystemError('no error set')"),
        ("redoseg.cli.options", "SIGHUP", "KeyboardInterrupt"),
        ("tyro", "SIGINT", "ImportError('half loaded')"),
        ("redoseg.inference.segmenter", "SIGTERM", "ImportError('half loaded')"),
        ("numpy", "SIGINT", "ImportError('half loaded')"),
        ("onnxruntime", "SIGHUP", "SystemError('no error set')"),
    ],
)
def test_one_line_while_loading(name: str, signal: str, raised: str) -> None:
    code = CODE.format(name=name, signal=signal, raised=raised)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    number, how = CODES[signal]
    assert (found.returncode, found.stdout, found.stderr) == (number, "", f"redoseg: stopped {how}\n")


@pytest.mark.every(4)
@pytest.mark.parametrize("name", ["redoseg.cli.main", "torch", "torch.nn", "matplotlib"])
def test_a_storm_while_loading(name: str) -> None:
    """PyTorch aborts the process where an exception leaves it half loaded."""
    if name in ("torch", "torch.nn"):
        pytest.importorskip("torch")
    code = CODE.format(name=name, signal="SIGTERM", raised="ImportError('half loaded')").replace(
        "signal.raise_signal(signal.SIGTERM)", "[signal.raise_signal(n) for n in (15, 1, 2, 1, 15, 2)]"
    )
    code = code.replace('"segment", "flowers", "missing.jpg", "-o", "missing"', '"train", "shapes", "--steps=1"')
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout, found.stderr) == (143, "", "redoseg: stopped by SIGTERM\n")


RAISED = [
    ImportError("half loaded"),
    ModuleNotFoundError("No module named 'torch'", name="torch"),
    ModuleNotFoundError("No module named 'yarl'", name="yarl"),
    AttributeError("partially initialized module 'pandas' has no attribute 'core'"),
    SystemError("returned NULL without setting an exception"),
    RuntimeError("CPU dispatcher tracer already initialized"),
    PermissionError("denied"),
]


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("raised", RAISED, ids=repr)
def test_an_import_that_a_signal_cuts_off_ends_in_any_error(
    name: str, raised: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(_: object) -> int:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(getattr(signal, name))
        raise raised

    for verb, (settings, _) in entry.VERBS.items():
        monkeypatch.setitem(entry.VERBS, verb, (settings, work))
        monkeypatch.setattr(sys, "argv", ["redoseg", verb])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        number, how = CODES[name]
        assert ended.value.code == number
        assert capsys.readouterr() == ("", f"redoseg: stopped {how}\n")


def test_what_else_went_wrong_is_still_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(_: object) -> int:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise DataError("the disk is full")

    monkeypatch.setitem(entry.VERBS, "train", (entry.VERBS["train"][0], work))
    monkeypatch.setattr(sys, "argv", ["redoseg", "train"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "redoseg: the disk is full\n"


def test_an_import_that_fails_by_itself_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(_: object) -> int:
        raise ImportError("broken")

    monkeypatch.setitem(entry.VERBS, "doctor", (entry.VERBS["doctor"][0], work))
    monkeypatch.setattr(sys, "argv", ["redoseg", "doctor"])
    with pytest.raises(ImportError, match="broken"):
        entry.main()


def test_line_and_code_name_the_same_signal() -> None:
    """Python may hear of the one that came first only after the line was printed."""
    heard = signals.Heard()
    heard.add(signal.SIGINT)
    assert heard.first() == signal.SIGINT
    heard._order.append(signal.SIGTERM)
    heard.add(signal.SIGTERM)
    assert heard.first() == signal.SIGINT
