# Two commands do all the set-up: `make demo` runs the main job, `make test` checks everything.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Two tests run at once, each with one thread: with two each they wait for each other and take twice as long.
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: demo test lint fast docs clean

demo: $(INSTALLED)
	$(BIN)/gymnastd demo

test: $(INSTALLED) lint
	$(PYTEST) --durations 40

fast: $(INSTALLED)
	$(PYTEST) -m "not slow"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The two pages that the program writes about itself; a test says when they are old.
docs: $(INSTALLED)
	$(BIN)/python -m daemon.command_reference > docs/commands.md
	$(BIN)/python -m daemon.api_reference > docs/api.md

# torch goes first and alone: pip then takes a CPU build where one lies on disk, the registry's elsewhere.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt torch
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[sim,interchange,otel,wandb,dev]'
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) demo-output
