"""Ctrl-C while the program is still loading: one line and 130, whatever module is being imported."""

import subprocess
import sys

import pytest

CODE = """
import runpy, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise {raised}
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder())
sys.argv = ["redoseg", "doctor"]
runpy.run_module("redoseg", run_name="__main__")
"""


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "ImportError('half loaded')", "SystemError('no error set')"])
@pytest.mark.parametrize("name", ["redoseg.cli.main", "redoseg.errors", "redoseg.cli.options", "tyro"])
def test_one_line_while_loading(name: str, raised: str) -> None:
    code = CODE.format(name=name, raised=raised)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "redoseg: stopped by hand\n")
