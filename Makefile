# `make run` shows Duetime at work, `make test` proves it; both make .venv first. See `make help`.

SHELL := /bin/sh
.SHELLFLAGS := -euc
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH

PY := .venv/bin/python
READY := .venv/made-for
# Tests of real processes and of lateness run alone: anything beside them would disturb them.
ALONE := processes or timing
WORKERS ?= 4
ARGS ?=
SEED ?=

ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
$(READY): moved  # a virtual environment holds paths: made anew when the folder has moved
endif

.PHONY: help run test test-galera test-large test-mysql check lint types ladder unit servers faults sim bench lock format clean moved

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY)  ## the main job: 10,000 events over ten seconds (ARGS="--help" shows options)
	@$(PY) examples/demo.py $(ARGS)

test: lint types ladder servers  ## everything: lint, types, import ladder, all tests
	$(PY) -m pytest -n $(WORKERS) -m "not ($(ALONE) or large)" $(ARGS)
	$(PY) -m pytest -m "($(ALONE)) and not faults" $(ARGS)

test-mysql: $(READY)  ## the store's tests on MySQL itself (fetched, or DUETIME_TEST_MYSQL_URL=mysql://…)
	@[ -n "$${DUETIME_TEST_MYSQL_URL:-}" ] || scripts/mysql
	DUETIME_TEST_STORES=mysql $(PY) -m pytest tests/stores/mysql $(ARGS)
	[ -n "$${DUETIME_TEST_MYSQL_URL:-}" ] || \
		DUETIME_TEST_STORES=mysql $(PY) -m pytest -q tests/faults -m "not faults" $(ARGS)

test-large: $(READY) servers  ## what each call reads among five million events, on each server
	$(PY) -m pytest -m large tests/large $(ARGS)

test-galera: $(READY)  ## all tests on a Galera cluster of three members, on this machine
	@DUETIME_TEST_STORES=galera scripts/servers
	DUETIME_TEST_STORES=galera $(PY) -m pytest tests/galera $(ARGS)

check: lint types ladder  ## the quick part, for every change, without a database server
	DUETIME_TEST_STORES=memory,sqlite $(PY) -m pytest -n $(WORKERS) -m "not ($(ALONE) or bench or slow or large)" $(ARGS)

lint: $(READY)  ## style, form, and dependencies that are used undeclared or declared unused
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m deptry src

types: $(READY)  ## mypy --strict
	$(PY) -m mypy

ladder: $(READY)  ## a module imports only from the rungs below its own
	.venv/bin/lint-imports --no-logo

servers:  # MariaDB and PostgreSQL, which the tests start by themselves
	@scripts/servers

unit: $(READY) servers  ## the tests alone, those of processes and lateness left out
	$(PY) -m pytest -n $(WORKERS) -m "not ($(ALONE) or large)" $(ARGS)

faults: $(READY) servers  ## every fault in full size on real servers (ARGS="--faults-json=FILE")
	@scripts/faketime
	$(PY) -m pytest -q --faults tests/faults $(ARGS)

sim: $(READY)  ## the simulation: make sim, or make sim SEED=4711 to replay one world
	$(PY) -m duetime.testing.simulation $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: $(READY) servers  ## all benchmarks, for real, beside other schedulers (ARGS="--help" shows options)
	$(PY) -m benchmarks $(ARGS)

format: $(READY)  ## let ruff format and repair what it can
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

lock: $(READY)  ## resolve the dependencies anew: make lock ARGS=--upgrade
	scripts/lock $(ARGS)

clean:  ## remove the environment, caches, builds and the fetched MySQL
	scripts/mysql --remove
	rm -rf .venv build dist .*_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

moved:

$(READY): pyproject.toml requirements/dev.txt scripts/environment
	@scripts/environment
