# The commands of this project. Each creates .venv and installs into it by itself, on a fresh machine too.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
PACKAGES := infra streams feature_store learners benchmarks examples

.DEFAULT_GOAL := help
.PHONY: help install demo test check format up down bench clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/\1|\2/' | column -t -s '|'

install: $(VENV)/.installed ## Create .venv and install what is pinned in constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: no Python >= 3.11 found; set PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	@touch $@

demo: install ## Everything embedded: a simulated shop with planted drift, a live view, a report
	$(BIN)/alluvium demo

test: install ## The tests; those that need a real Kafka skip and say so where there is none
	$(BIN)/pytest

check: install ## Lint, format, types, import contracts, doctests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q --doctest-modules $(PACKAGES)

format: install ## Let ruff fix and format what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

up: ## The whole system in Docker: Apache Kafka, Postgres, workers, learner, Prometheus, Grafana
	docker compose up --build --detach --wait

down: ## Stop it and remove its data
	docker compose down --volumes

bench: install ## Measure ingest throughput, on the embedded broker and on a real one
	$(BIN)/alluvium bench

clean: ## Remove what was built and what runs left in ./alluvium-data
	rm -rf $(VENV) build alluvium-data .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
