# Paths stay relative, so that a checkout in a folder with a space in its name works.
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV := .venv
PY := $(VENV)/bin/python
# For an index of your own: make setup PIP_ARGS="--index-url ..."
PIP_ARGS ?=
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo docs test quick slow gpu chaos lint types check clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY) ## create .venv with the pinned dependencies and the package, editable

# A finished environment is marked last: an interrupted set-up starts over instead of half working.
# Python compiles what it imports when it first does: all of it would be half of the time that this takes.
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "extrapo needs $(PYTHON); name another with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --disable-pip-version-check -q --no-compile $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	@touch $(READY)

demo: $(READY) ## the main job on text every machine has: train, curve, heatmaps, MLflow
	$(PY) -m extrapo fit --encoding k-cable --layers 6 --root demo-runs

docs: $(READY) ## the site below build/docs/site: links are checked, nothing is fetched
	$(PY) docs/site.py

lint: $(READY) ## ruff: lint and format
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(READY) ## mypy, strict
	$(PY) -m mypy

# Two workers on two cores: with more threads than cores, the small operations of the tests wait for one another. The
# slow tests wait for a fifth of their time, for servers and for processes to end: there a third finds room.
# Bytecode is written even where the environment forbids it: each of some sixty processes would compile every source.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(PY) -m pytest

test: $(READY) ## lint, types, the tests that start no processes, and a dozen killed commands
	@$(MAKE) --no-print-directory -j 3 lint types quick

quick: $(READY)
	$(PYTEST) -n 2 --dist worksteal -m "kills or not (slow or chaos)"

slow: $(READY) ## the other tests: compilers, command lines, servers, killed processes
	$(PYTEST) -n 3 --dist load --maxschedchunk 1 -m "slow and not (chaos or kernels or kills)"

gpu: $(READY) ## all kernels for a GPU without one, in Triton's interpreter and as machine code; installs the extra `gpu`
	@$(PY) -c "import triton, fla" 2>/dev/null || \
		$(PY) -m pip install --disable-pip-version-check -q $(PIP_ARGS) -c constraints.txt -e ".[gpu]"
	$(PYTEST) -m "not chaos" tests/attention/gpu

chaos: $(READY) ## the tests that take many minutes: sweeps that are killed, everything without attention/cpu
	OMP_NUM_THREADS=1 $(PY) -m pytest -m chaos

check: lint types ## lint and types only

clean: ## remove the environment and the demo's runs
	rm -rf $(VENV) demo-runs
