PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: install test test-extras quickstart lint format

install: .venv/.installed  ## make the environment

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

quickstart: install  ## the whole loop, small, with a report at the end
	$(BIN)/takevla quickstart

test: install  ## every check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy takevla
	$(BIN)/pytest -n 2

test-extras: install  ## every check, with what is tested only where an extra is installed (some 0.9 GB)
	$(BIN)/pip install --quiet --editable '.[dev,alpasim,carla,gym,ray,rerun]'
	$(BIN)/pytest -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/mypy takevla

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
