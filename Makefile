# Two commands on a fresh machine: `make demo` and `make test`. Each installs what it needs the first time.
#
#   make demo    the whole street on a digital patient; prints the numbers and where the report lies
#   make test    style, types and every test
#   make bench   times and memory against other programs, as a table
#   make lint    style and types only
#   make clean   removes .venv and caches, never results

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet
# What an installation depends on: a change of these installs again.
INPUTS := pyproject.toml HypoxiaMapper/Resources/requirements.txt HypoxiaMapper/HypoxiaMapperLib/__init__.py
JOBS ?= 2
TORCH ?= 2.13.0

.PHONY: demo test bench lint clean
.DEFAULT_GOAL := demo

demo: $(VENV)/demo.stamp
	$(BIN)/hypoxia demo

test: $(VENV)/test.stamp lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

bench: $(VENV)/bench.stamp
	$(BIN)/python Testing/bench/bench.py

lint: $(VENV)/test.stamp
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache

$(VENV)/created.stamp:
	tools/create-venv $(PYTHON) $(VENV)
	touch $@

$(VENV)/demo.stamp: $(INPUTS) tools/install-system-packages $(VENV)/created.stamp
	tools/install-system-packages run
	@echo 'Installing Python packages into $(VENV) (minutes the first time)'
	$(PIP) --editable .
	touch $@

$(VENV)/test.stamp: $(INPUTS) tools/install-system-packages $(VENV)/created.stamp
	tools/install-system-packages test
	@echo 'Installing Python packages into $(VENV) (minutes the first time)'
	$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) torch==$(TORCH)  # a build that is there, with CUDA say, stays
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/bench.stamp: $(INPUTS) tools/install-system-packages $(VENV)/created.stamp
	tools/install-system-packages bench
	@echo 'Installing Python packages into $(VENV) (minutes the first time)'
	$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) torch==$(TORCH)
	$(PIP) --editable '.[bench]'
	touch $@
