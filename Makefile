# make demo | make test: a fresh machine with Python >= 3.11 and make needs nothing else.
# TORCH=cpu takes PyTorch's own CPU build (without it, pip on Linux fetches gigabytes of CUDA).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --constraint constraints.txt
WORKERS ?= 2
# a worker runs a file whole, so that what its tests share is made once; in the order that tests/conftest.py gives them
SPREAD := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# tests start hundreds of processes, each of which would compile the package again where this is set
test test-slow: export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-slow check env clean

demo: $(VENV)/installed
	rm -rf runs/demo
	$(BIN)/redoseg train shapes --steps 300 --out runs/demo
	$(BIN)/redoseg evaluate runs/demo shapes --picture runs/demo/before_after.png

test: $(VENV)/installed
	$(BIN)/python -m pytest $(SPREAD)

test-slow: $(VENV)/installed
	REDOSEG_CHECK_SHAPES=1 $(BIN)/python -m pytest -m slow $(SPREAD)

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

env: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"This is Python {v[0]}.{v[1]}, but 3.11 or newer is needed. Name one, as in: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
ifeq ($(TORCH),cpu)
	@echo "Installing PyTorch's CPU build: about 200 MB to fetch, from its own index. It alone needs that index."
	@# its builds are called 2.13.0+cpu, which equals the pin
	$(PIP) --index-url https://download.pytorch.org/whl/cpu --retries 1 --timeout 15 --no-deps torch \
		|| echo "PyTorch's CPU index gave nothing: PyTorch comes from the usual one, on Linux with gigabytes of CUDA."
	@echo "Installing the other packages, about 100: 400 MB to fetch, 2 GB on disk in all. A minute or two."
else
	@echo "Installing about 100 packages. On Linux PyTorch brings CUDA, gigabytes to fetch: TORCH=cpu is without it."
endif
	$(PIP) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs/demo build dist *.egg-info
