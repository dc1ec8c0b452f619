# make demo   pick real earthquakes within minutes, nothing else needed
# make test   run all tests
#
# Both install what they need into .venv at the first call; later calls start at once.
# Variables:
#   PYTHON    interpreter to make .venv with (>= 3.11)
#   VENV      where to install instead of .venv
#   PIP_ARGS  further arguments of pip. PyPI's torch for Linux brings some GB of CUDA; without a GPU
#             PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" is much smaller.

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs associators clean

help: ## Show this list
	@awk -F ': .*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.runtime ## Replay real earthquakes and watch their picks come out of a Redis stream
	$(BIN)/msnet-stream demo

test: $(VENV)/.dev ## Run all tests, on up to four cores
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

lint: $(VENV)/.dev ## Check style, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=docs $(BIN)/mypy docs/generate.py docs/manpage.py
	$(BIN)/lint-imports

docs: $(VENV)/.runtime ## Write what the docs, man page and example take from the code
	$(BIN)/python docs/generate.py

associators: ## Install PyOcto and GaMMA for benchmarks/association.py, each in a place of its own
	$(PYTHON) -m venv .associators/pyocto
	.associators/pyocto/bin/python -m pip install pyocto==0.2.2 'numpy<2' pandas pyproj pyrocko
	$(PYTHON) -m venv .associators/gamma
	.associators/gamma/bin/python -m pip install gmma==1.2.17 pandas pyarrow pyproj

clean: ## Remove the environment and everything built
	rm -rf $(VENV) .associators build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# torch comes first and exactly, so that nothing else decides which build of it is taken.
$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) -e '.[web]'
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) -e '.[web,train,dev]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed and '$(PYTHON)' is not:" \
	       "install one and name it, as in: make demo PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "no virtual environment can be made (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
