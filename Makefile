# Two commands do all the set-up: `make demo` runs the main job, `make test` checks everything.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint fast clean

demo: $(INSTALLED)
	$(BIN)/gymnastd demo

test: $(INSTALLED) lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

fast: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# torch goes first and alone: pip then takes a CPU build where one lies on disk, the registry's elsewhere.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt torch
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[sim,interchange,dev]'
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) demo-output
