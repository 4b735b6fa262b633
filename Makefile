VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed.lock
TEST_WORKERS ?= 2
# For each of the parallel test processes; more threads than cores slows all of them down.
ONE_THREAD := OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help env demo test test-next test-image lint types check mutations lock clean distclean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# What is installed is known by a copy of its lock, compared by content: times change with checkouts and copies.
env:  ## Make .venv from the lock that fits this machine (3 minutes the first time)
	@for lock in requirements/*.lock; do if cmp -s "$$lock" $(INSTALLED) && [ -x $(BIN)/ctr ]; then exit 0; fi; done; \
	found=$$(.ci/find-python) || exit 1; \
	lock=requirements/$${found%% *}.lock python=$${found#* }; \
	version='import sys; print(sys.version_info[:2])'; \
	if [ "$$($(BIN)/python -c "$$version" 2>/dev/null)" != "$$("$$python" -c "$$version")" ]; then \
	    "$$python" -m venv --clear $(VENV) || exit 1; \
	fi; \
	echo "Installing $$lock into $(VENV); the first time takes some minutes"; \
	[ -t 1 ] && quiet= || quiet=--quiet; \
	$(BIN)/python -m pip install $$quiet --disable-pip-version-check --no-input --no-deps --require-hashes -r "$$lock" && \
	requirements/check $(VENV) && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation --editable . && \
	cp "$$lock" $(INSTALLED)

demo: env  ## Generate a log, train, evaluate, serve and ask for one ranking
	$(BIN)/ctr demo

# The longest first, so that no process is left alone with them at the end.
test: env  ## Run unit, integration and end-to-end tests (COVERAGE=1 measures, too; a third slower)
	$(ONE_THREAD) $(BIN)/$(if $(COVERAGE),coverage run,python) -m pytest tests/e2e tests/integration tests/unit \
	    tests/test_architecture.py -n $(TEST_WORKERS) --ignore tests/e2e/container \
	    --no-loadscope-reorder --durations=10

test-next:  ## Run the end-to-end tests on tfx-1.21 in a Debian 13, where this machine is older (needs root)
	$(ONE_THREAD) TEST_WORKERS=$(TEST_WORKERS) .ci/test-next

test-image: env  ## Build the images and run them (10 minutes; needs root and Debian's docker.io and debootstrap)
	$(BIN)/python -m pytest tests/e2e/container

lint: env  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env  ## Check types
	$(BIN)/mypy

check: lint types test  ## Run lint, types and test

mutations: env  ## Change each copy of each fact, one at a time, and see what notices
	$(ONE_THREAD) $(BIN)/python tests/mutations.py

COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --generate-hashes $(LOCK_FLAGS)

lock: env  ## Resolve requirements/*.in again (newer versions: make lock LOCK_FLAGS=--upgrade)
	$(call resolve,tfx-1.16,--python-version 3.10)
	$(COMPILE) --python-version 3.10 requirements/tfx-1.16-gpu.in -o requirements/tfx-1.16-gpu.lock
	$(call resolve,tfx-1.21,--python-version 3.11 --universal)

# All packages of a stack, the server's of the same versions, and TensorFlow without CUDA's kernels.
define resolve
$(COMPILE) $(2) --excludes requirements/left-out.txt requirements/$(1).in -o requirements/$(1).lock
$(COMPILE) $(2) --excludes requirements/left-out.txt -c requirements/$(1).lock requirements/serving.in -o requirements/$(1)-serving.lock
$(COMPILE) $(2) --no-deps requirements/$(1)-cpu.in -o requirements/$(1)-cpu.lock
endef

clean:  ## Remove caches and the demo's output; keeps .venv and other output
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* output/demo
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

distclean: clean  ## clean, and remove .venv
	rm -rf $(VENV)
