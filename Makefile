# make demo, make test: everything they need is installed into $(VENV) first.
# Another interpreter: make demo PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SHELL := bash
.SHELLFLAGS := -o pipefail -c
# One line that moves, in the place of pip's hundreds; they are in $(VENV)/pip.log, and shown if it fails.
SHORT := tee $(VENV)/pip.log | awk '/^(Collecting|Downloading|Building|Installing)/ \
	{ printf "\r\033[K  %.70s", $$0; fflush() } END { printf "\r\033[K" }' || { tail -n 20 $(VENV)/pip.log; exit 1; }

.PHONY: help demo test test-long browser-test cluster-test drills gpu-check check ui clean

help:
	@echo "make demo          install, distil a small recognizer on rendered words, evaluate it (a few minutes)"
	@echo "make test          install with development tools, run the test suite"
	@echo "make test-long     whole commands over minutes: sweeps, runs in an object store, every family"
	@echo "make browser-test  pages, as a headless Chromium shows them"
	@echo "make cluster-test  a run on two hosts made of namespaces, from ray up to ray down (Linux, root)"
	@echo "make drills        a run whose workers, driver, server and machines are killed, with a table of what it costs"
	@echo "make gpu-check     what a GPU computes and how fast, in eight minutes; GPU_KIT=FOLDER of wheels: without network"
	@echo "make check         ruff and mypy"
	@echo "make ui            browse the recorded runs (MLflow)"
	@echo "make clean         remove $(VENV) and caches; runs/ and mlflow.db stay"

demo: $(VENV)/.installed
	@$(BIN)/kdltr train demo
	@echo "  (kdltr is in $(BIN): . $(BIN)/activate)"

# Two files at a time: most tests keep one core busy.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-long: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m long

browser-test: $(VENV)/.installed-dev
	@command -v chromium > /dev/null || test "$$(id -u)" != 0 || ! command -v apt-get > /dev/null \
		|| { apt-get update && apt-get install -y --no-install-recommends chromium; } \
		|| echo "chromium could not be installed: what needs it is skipped"
	$(BIN)/python -m pytest -m browser

# What is missing is installed where this is Debian and root. Its sshd is not used, but Debian starts it.
cluster-test: $(VENV)/.installed-dev
	@test "$$(id -u)" != 0 || ! command -v apt-get > /dev/null \
		|| { command -v sshd && command -v rsync && command -v ip; } > /dev/null \
		|| { apt-get update && apt-get install -y --no-install-recommends openssh-server rsync iproute2; } \
		|| echo "sshd, rsync and ip could not be installed: the test is skipped"
	$(BIN)/python -m pytest -s -m cluster tests/cluster

drills: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m faults tests/faults

# With what is there, or with wheels from a folder beside it: a machine with a GPU may have torch and no network.
gpu-check:
	@test -z "$(GPU_KIT)" || $(PYTHON) -m pip install -q --no-index --no-deps --no-compile --target .gpu_site $(GPU_KIT)/*.whl
	PYTHONPATH=.gpu_site:.:$$PYTHONPATH $(PYTHON) -m benchmarks.gpu_check

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: $(VENV)/.installed
	@$(BIN)/kdltr ui

clean:
	rm -rf $(VENV) build kdltr.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find kdltr_core pipelines tune_spaces tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: what is younger than pyproject.toml and constraints.txt is not installed again.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "KDLTR needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1). Name a newer one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "Installing KDLTR and what it needs into $(VENV): some minutes, up to 6 GB"
	@$(PIP) install -c constraints.txt -e . 2>&1 | $(SHORT)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "Installing KDLTR with its development tools into $(VENV): some minutes, up to 6 GB"
	@$(PIP) install -c constraints.txt -e ".[dev]" 2>&1 | $(SHORT)
	@touch $(VENV)/.installed $@
