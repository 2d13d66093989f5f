# make setup   everything this machine needs, as far as we may install it; quick the second time
# make demo    setup, then the recorded team of projects/c-compiler on sixteen seats: no key, no network
# make test    setup, then every check and every test
# make clean   what these commands left behind in this folder; a Docker engine that setup started is stopped

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin

.PHONY: setup demo test check clean lock

setup:
	@PYTHON="$(PYTHON)" setup/setup.sh

demo: setup
	@setup/demo.sh

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -rs

lock:
	PYTHON="$(PYTHON)" setup/lock.sh

clean:
	setup/docker.sh stop
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
