# One line a target. The tools come from .venv (the test command of the README makes it), or BIN=folder/ of another one;
# BIN= takes those on PATH.
BIN ?= .venv/bin/

.PHONY: check test ci-long docker-test format clean

check:
	$(BIN)ruff check . && $(BIN)ruff format --check . && $(BIN)mypy && $(BIN)lint-imports

test:
	$(BIN)python -m pytest

ci-long:
	$(BIN)python -m pytest -m "slow or not slow"

docker-test:
	tests/docker/build_and_run.sh

format:
	$(BIN)ruff check --fix . && $(BIN)ruff format .

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache && find client broker tests -name __pycache__ -prune -exec rm -rf {} +
