# Everything a user or CI does. `make verify` and `make test` set up by themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PIP    := $(BIN)/python -m pip --disable-pip-version-check
PINNED := --quiet --constraint constraints.txt
ARGS   ?=

.PHONY: help setup verify test check bench soak experiments rows policy clean
.DEFAULT_GOAL := help

help: ## show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## create .venv and install the pinned packages

# Only a changed dependency list installs again: a second `make verify` goes straight to work. uv needs a third of pip's
# time, but reads none of pip's settings: who has an index of their own there keeps pip.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is needed, this is " + sys.version.split()[0] + "; say make PYTHON=...") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install $(PINNED) --upgrade pip uv
	{ ! $(PIP) config list | grep -q index && \
	  $(BIN)/uv pip install $(PINNED) --python $(BIN)/python --compile-bytecode --editable '.[dev]'; } \
	  || $(PIP) install $(PINNED) --editable '.[dev]'
	$(BIN)/python -m compileall -q stages workloads infra chaos loadtests suite || true
	touch $@

verify: setup ## deploy, load, break, judge; ARGS="--quick" for the short one
	$(BIN)/stages verify $(ARGS)

test: setup check ## the test suite; ARGS go to pytest, --whole plays every case of the long families
	$(BIN)/python -m tests.parts $(ARGS)

check: setup ## style, types, import directions, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m chaos.experiment --check

bench: setup ## the figures of the README, as ratios within one run
	$(BIN)/python -m tests.bench $(ARGS)

soak: setup ## kills and outages drawn from a seed, 50 rounds (half an hour); ARGS="--rounds 5 --seed 9"
	$(BIN)/python -m tests.soak $(ARGS)

experiments: setup ## write chaos/experiments/*.json again from the catalogue
	$(BIN)/python -m chaos.experiment --write

rows: setup ## write tests/unit/rows/*.json again: every resource of every stack on AWS and k8s
	$(BIN)/python -m infra.testing_pulumi --write

policy: ## the policy pack's own environment, for `pulumi up --policy-pack policy`
	test -x policy/.venv/bin/python || $(PYTHON) -m venv policy/.venv
	policy/.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement policy/requirements.txt

clean: ## remove the environment, caches and runs
	rm -rf $(VENV) policy/.venv runs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
