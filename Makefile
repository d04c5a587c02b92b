# Penstock's entry points; `make` alone lists them. Everything runs in .venv, which `make setup` builds.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.penstock-setup
PENSTOCK := $(BIN)/penstock
PYTEST := $(BIN)/python -m pytest
# Two workers, each with services of its own; WORKERS=0 runs in one process.
WORKERS := 2
PARALLEL := -n $(WORKERS) --dist loadscope --no-loadscope-reorder
# The first Python that Penstock runs on (Airflow's and Spark's limits); PYTHON=/path/to/python chooses another.
PYTHONS := $(or $(PYTHON),python3.12 python3.11 python3 python)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))

export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: $(STAMP) ## create .venv with everything of requirements.txt (again only when that changes)

$(STAMP): requirements.txt pyproject.toml
	@found=; \
	for candidate in $(PYTHONS); do \
	  if "$$candidate" -c '$(SUPPORTED)' 2>/dev/null; then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "error: Penstock needs Python 3.11 or 3.12, and none of '$(PYTHONS)' is one." >&2; \
	  echo "       Install it (Debian: apt-get install python3 python3-venv), or: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; \
	fi; \
	if [ -x $(BIN)/python ] && ! $(BIN)/python -c '$(SUPPORTED)' 2>/dev/null; then \
	  echo "error: $(VENV) holds an unfit Python: remove the folder and run make setup again." >&2; exit 1; \
	fi; \
	uv=$$(command -v uv || true); \
	if [ ! -x $(BIN)/python ]; then \
	  echo "Creating $(VENV) with $$found"; \
	  if [ -n "$$uv" ]; then "$$uv" venv --quiet --python "$$(command -v "$$found")" $(VENV); \
	  else "$$found" -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "error: $$found has no working venv module (Debian: apt-get install python3-venv), and there is no uv" >&2; \
	    exit 1; }; fi; \
	fi; \
	if [ -z "$$uv" ]; then \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; uv=$(BIN)/uv; \
	fi; \
	echo "Installing requirements.txt"; \
	VIRTUAL_ENV=$(CURDIR)/$(VENV) "$$uv" pip install --quiet -r requirements.txt; \
	VIRTUAL_ENV=$(CURDIR)/$(VENV) "$$uv" pip install --quiet --no-deps -e .; \
	touch $@

# The libraries that models may be trained with and Penstock itself does without; only tests of the contract need them.
LIBRARIES := $(VENV)/.penstock-libraries
.PHONY: setup-libraries
setup-libraries: $(LIBRARIES) ## add PyTorch and XGBoost to .venv: 2 GB to download, 4 GB on disk (Linux)

$(LIBRARIES): requirements-libraries.txt $(STAMP)
	@echo "Installing requirements-libraries.txt"; \
	uv=$$(command -v uv || echo $(BIN)/uv); \
	VIRTUAL_ENV=$(CURDIR)/$(VENV) "$$uv" pip install --quiet --no-deps -r requirements-libraries.txt; \
	touch $@

.PHONY: up
up: setup ## start the local stack: Spark Connect, MLflow, Airflow
	@$(PENSTOCK) up

.PHONY: down
down: ## stop the local stack; its state stays in .penstock/
	@if [ -x $(PENSTOCK) ]; then $(PENSTOCK) down; else echo "Nothing is set up."; fi

.PHONY: status
status: setup ## show services, tables, models and runs
	@$(PENSTOCK) status

.PHONY: demo
demo: setup ## run the whole loop on the reference project; leaves the stack up
	@$(PENSTOCK) demo

.PHONY: test
test: setup-libraries ## run every test
	@$(PYTEST) $(PARALLEL) tests

.PHONY: test-unit
test-unit: setup ## tests without services and data
	@$(PYTEST) -n $(WORKERS) tests/unit

.PHONY: test-integration
test-integration: setup-libraries ## tests on real Spark, Delta and MLflow
	@$(PYTEST) $(PARALLEL) tests/integration

.PHONY: test-e2e
test-e2e: setup ## tests of a real Airflow over REST
	@$(PYTEST) tests/e2e

.PHONY: test-faults
test-faults: setup ## kill training, promotion, tasks and services at random moments (long; KILLS=, TASKS=, RESTARTS=, SEED=)
	@KILLS=$${KILLS:-100} TASKS=$${TASKS:-20} RESTARTS=$${RESTARTS:-20} $(PYTEST) tests/faults/functions.py tests/faults/tasks_in_airflow.py -s --timeout 0

.PHONY: test-compose
test-compose: setup ## build the image and test the stack in containers (needs Docker; not part of `make test`)
	@$(PYTEST) tests/compose/stack_in_containers.py

.PHONY: lint
lint: setup ## ruff, mypy, import-linter, penstock validate
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(PENSTOCK) validate

.PHONY: bench
bench: setup ## compare with the references on this machine
	@$(BIN)/python -m benchmarks

.PHONY: bench-features
bench-features: setup ## compare the feature store with the references; with LARGE=1 (12 minutes) writes docs/reference/benchmarks.md
	@$(BIN)/python -m benchmarks.features

.PHONY: bench-webhook
bench-webhook: setup ## 1,000 webhook deliveries at 50/s, a tenth of them bad, to a real Airflow
	@PENSTOCK_DELIVERIES=1000 $(PYTEST) tests/e2e/test_webhook.py -s -k each_version

.PHONY: bench-comparison
bench-comparison: setup ## simulate 1,000 comparisons of each kind: how often the gate errs
	@$(BIN)/python -m benchmarks.comparison

.PHONY: bench-rollback
bench-rollback: setup ## roll back on the running stack until a fresh process scores so, and undo it; fails above 10 s (MODEL=)
	@$(BIN)/python -m benchmarks.rollback $${MODEL:-flight_delays.late_arrival}

.PHONY: requirements
requirements: setup ## compile requirements.in to requirements.txt (exact versions)
	@command -v uv >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@uv pip compile --quiet --no-header --python-version 3.11 --output-file requirements.txt requirements.in
	@uv pip compile --quiet --no-header --python-version 3.11 --universal --constraints requirements.txt \
	  --excludes requirements-libraries.excludes --output-file requirements-libraries.txt requirements-libraries.in

.PHONY: clean
clean: down ## stop the stack, remove its state and the caches; keep .venv
	@rm -rf .penstock build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis plugins/*.egg-info
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
