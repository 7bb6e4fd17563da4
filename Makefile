# make run paper=pld [scale=small seed=0 any.key=value ...]   runs a comparison
# make test                                                   runs the tests
# Both set up .venv on first use; after that they start at once.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
READY := $(VENV)/.ready

.PHONY: run test slow lint report bench
.DEFAULT_GOAL := run

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet "torch>=2.14,<2.15" "torchvision>=0.29,<0.30"
	$(VENV)/bin/python -m pip install --quiet -e ".[dev]"
	touch $@

run: $(READY)
	$(VENV)/bin/python run.py $(args) $(filter-out args=%,$(MAKEOVERRIDES))

test: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m pytest -m "not slow"

slow: $(READY)
	$(VENV)/bin/python -m pytest -m slow

report: $(READY)
	$(VENV)/bin/python scripts/report.py $(args)

bench: $(READY)
	$(VENV)/bin/python scripts/bench.py $(args)
