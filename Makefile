# make sweep   the default sweep, its Pareto front and report      make test   the tests
# make install .venv alone                                         make lint   formatter, linter, type checker
# make docs    the documentation as a site, in build/docs           make study  the study; ARGS=--quick: in small
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STORAGE ?= results

.DEFAULT_GOAL := sweep
.PHONY: install sweep study test lint docs clean

install: $(VENV)/.installed

# Stamps are made last: an install that was broken off is done again.
$(VENV)/.installed: $(VENV)/.runs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint,docs]'
	@touch $@

# What a sweep needs, and no more.
$(VENV)/.runs: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is older than Python 3.11; allowed: make PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# The front is drawn of what there is even where trials failed; the sweep's exit status is kept.
sweep: $(VENV)/.runs
	@$(BIN)/parsimony sweep rooms --storage $(STORAGE); status=$$?; \
	  [ $$status -eq 2 ] || $(BIN)/parsimony analyze $(STORAGE)/rooms || exit; exit $$status

# In full: ARGS="--nyuv2 DIR --celebamask DIR". Broken off, it goes on.
study: $(VENV)/.runs
	@$(BIN)/python -m benchmarks.study --run $(ARGS)

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# -W: a link that leads nowhere, or a docstring that cannot be read, is an error.
docs: install
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs
	@echo "the documentation: build/docs/index.html"

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
