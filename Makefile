# make demo | make test: a fresh machine with Python >= 3.11 and make needs nothing else.
# TORCH=cpu takes PyTorch's own CPU index (without it, pip on Linux fetches gigabytes of CUDA).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# its builds are called 2.13.0+cpu, which pip counts as newer than 2.13.0 and as equal to the pin
INDEX := $(if $(filter cpu,$(TORCH)),--extra-index-url https://download.pytorch.org/whl/cpu)

.PHONY: demo test test-slow check env clean

demo: $(VENV)/installed
	rm -rf runs/demo
	$(BIN)/redoseg train recipes/shapes.toml --out runs/demo
	$(BIN)/redoseg evaluate runs/demo shapes --picture runs/demo/before_after.png

test: $(VENV)/installed
	$(BIN)/python -m pytest

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

env: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python {v[0]}.{v[1]} seen, 3.11 or newer expected: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(INDEX) --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs/demo build dist *.egg-info
