# One word for what people do here; `make` alone lists them. The tools come from .venv, which is made when it is missing,
# or from BIN=FOLDER/ of another one; BIN= takes those on PATH.
BIN ?= .venv/bin/
VENV := $(if $(filter .venv/bin/,$(BIN)),.venv/bin/ruff)
PYTEST := $(BIN)python -m pytest

# The figures of a release run; CONTRIBUTING.md says what they count. `make sim WHERRY_TEST_STEPS=1000` takes fewer.
sim: export WHERRY_TEST_MODEL_STEPS ?= 500000
sim: export WHERRY_TEST_SCHEDULES ?= 5000
sim: export WHERRY_TEST_SEEDS ?= 5000
sim: export WHERRY_TEST_STEPS ?= 10000
sim: export WHERRY_TEST_SUBSETS ?= 800
crash: export WHERRY_TEST_FAULTS ?= 3000
crash: export WHERRY_TEST_CYCLES ?= 1000
crash: export WHERRY_TEST_STOPS ?= 200
crash: export WHERRY_TEST_CUTS ?= 1000
crash: export WHERRY_TEST_SHELL_CUTS ?= 1000
chaos: export WHERRY_TEST_TASKS ?= 10000
chaos: export WHERRY_TEST_TASK_KILLS ?= 20
chaos: export WHERRY_TEST_TASK_S ?= 300
sim: export WHERRY_TEST_FLIPS ?= 163840
sim: export WHERRY_TEST_REPAIRS ?= 5000
sim: export WHERRY_TEST_CASES ?= 50000
fuzz: export WHERRY_TEST_SECONDS ?= 1800

# Every target that has a word of help is a word for what to do, and no file.
.PHONY: clean $(shell awk -F: '/^[a-z-]+:.*\#\# / { print $$1 }' $(MAKEFILE_LIST))

help:  ## list these
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)  ## make .venv with all that development needs
.venv/bin/ruff:
	python3 -m venv .venv && .venv/bin/pip install -e '.[dev]'

check: $(VENV)  ## ruff, mypy, import contracts
	$(BIN)ruff check . && $(BIN)ruff format --check . && $(BIN)mypy && $(BIN)lint-imports

test: $(VENV)  ## the default tests; ARGS="-k consume -x" for pytest
	$(PYTEST) $(ARGS)

ci:  ## everything that a merge needs, from an empty machine
	.ci/run

ci-long: $(VENV)  ## the slow tests, which the default run leaves out
	$(PYTEST) -n 0 -m slow -rP $(ARGS)

sim: $(VENV)  ## for a release: the simulation, the core against its model, and damaged logs; takes hours
	$(PYTEST) -n 0 -s tests/simulation tests/property/test_core_model.py tests/property/test_two_logs.py \
		tests/property/test_log_damage.py tests/property/test_log_repair.py tests/property/test_protocol_states.py \
		tests/property/test_schedules.py $(ARGS)

crash: $(VENV)  ## the broker under faults, for a release: kills, power cuts, an error at every call for its log
	$(PYTEST) -n 0 tests/crash tests/faults tests/conformance/test_reconnecting.py -m "slow or not slow" -raP $(ARGS)

chaos: $(VENV)  ## tasks whose workers are killed and frozen, and whose broker is killed, for a release; takes minutes
	$(PYTEST) -n 0 tests/chaos tests/tasks/test_long_tasks.py -m "slow or not slow" -raP $(ARGS)

pyright: $(VENV)  ## the types of the public API and of the examples, as pyright sees them
	$(BIN)pip install --quiet -e '.[typing]'
	$(BIN)basedpyright

docs: $(VENV)  ## the guide and the API reference, in build/docs; warnings are errors
	$(BIN)pip install --quiet -e '.[docs]'
	$(BIN)mkdocs build --strict

fuzz: $(VENV)  ## look for inputs that break the decoders of frames and of logs, with atheris
	$(BIN)pip install --quiet -e '.[fuzz]'
	for target in frames log; do $(BIN)python tests/fuzz/run.py $$target || exit 1; done

bench: $(VENV)  ## how fast it is; ARGS="--help" for more
	$(BIN)python bench/loopback.py $(ARGS)

bench-peers: $(VENV)  ## the same work through other brokers, 15 minutes; ARGS="--quick" for 3
	$(BIN)pip install --quiet -e '.[peers]'
	$(BIN)python bench/peers/run.py $(ARGS)

bench-log: $(VENV)  ## what the log on the disk costs; ARGS="--full" takes 30 GB of disk and some minutes
	$(BIN)python bench/log.py $(ARGS)

bench-semantics: $(VENV)  ## what operations cost as queues grow, and many queues, keys, delays
	$(BIN)python bench/semantics.py $(ARGS)

bench-client: $(VENV)  ## what a message costs a client; ARGS="--quick" for less
	$(BIN)python bench/client.py $(ARGS)

bench-compare: $(VENV)  ## what the working tree does to the speed, beside REV=main, in turns; ARGS="--help" for more
	$(BIN)python bench/compare.py $(or $(REV),main) $(ARGS)

bench-history: $(VENV)  ## how the recorded figures of BENCH=loopback went; ARGS="--only TEXT"
	$(BIN)python bench/history.py $(or $(BENCH),loopback) $(ARGS)

bench-instructions: $(VENV)  ## instructions a message costs the broker, against bench/instructions.json; needs valgrind
	$(BIN)python bench/instructions.py $(ARGS)

bench-tasks: $(VENV)  ## tasks that do nothing, beside Celery, Dramatiq, RQ and Taskiq on Redis, or Valkey
	$(BIN)pip install --quiet -e '.[peers]'
	$(BIN)python bench/tasks.py $(ARGS)

bench-scaling: $(VENV)  ## what a message costs as messages, bytes, queues, connections grow, with plots; ARGS="--quick"
	$(BIN)pip install --quiet -e '.[plots]'
	$(BIN)python bench/scaling.py $(ARGS)

docker-test:  ## build the image and run it; needs root, buildah and mmdebstrap
	tests/docker/build_and_run.sh

format: $(VENV)  ## let ruff mend what it can
	$(BIN)ruff check --fix . && $(BIN)ruff format .

wheel: $(VENV)  ## the package, in dist/
	$(BIN)pip wheel --no-deps --wheel-dir dist .

clean:  ## remove what was made, but for .venv
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find client broker tests bench examples -name __pycache__ -prune -exec rm -rf {} +
