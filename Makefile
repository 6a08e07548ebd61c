# The commands of a developer; `make help` lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

# Debian's interpreter is preferred, since it is built with more optimisation than a self-compiled one.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
UV_VERSION := 0.13.9
BIN := .venv/bin
UV_QUIETLY := UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 UV_COMPILE_BYTECODE=1 $(BIN)/uv
UV := UV_PROJECT_ENVIRONMENT=.venv $(UV_QUIETLY)
SYNC = $(UV) sync --frozen $(1) 2>&1 | grep --line-buffered -v '^ [+~-]' >&2; exit $${PIPESTATUS[0]} # one line per stage, not per package
# Without bytecode files each of the service's processes would compile all modules at its start.
unexport PYTHONDONTWRITEBYTECODE
PORT ?= 8080
ADMIN_PORT ?= 9090
ARGS ?=
SQL ?=
DATA_DIR ?=
HOST ?=

.PHONY: help
help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/uv:
	@echo "installing uv into .venv" >&2
	@test -d .venv || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# `--inexact` keeps the developers' tools in the shared environment.
.venv/.run: $(BIN)/uv pyproject.toml uv.lock
	@echo "installing the service's packages into .venv: once, up to two minutes" >&2
	@$(call SYNC,--inexact --no-dev)
	@$(BIN)/python -m compileall -q reservasi
	@touch $@

.venv/.dev: $(BIN)/uv pyproject.toml uv.lock
	@echo "installing the service and the developers' tools into .venv: once, up to two minutes" >&2
	@$(call SYNC,--extra dev)
	@$(BIN)/python -m compileall -q reservasi
	@touch $@ .venv/.run

# The generator of API clients has its own environment, since its packages conflict with the service's.
.venv/clients/.synced: .venv/.dev tests/clients/pyproject.toml tests/clients/uv.lock
	@UV_PROJECT_ENVIRONMENT=$(CURDIR)/.venv/clients $(UV_QUIETLY) sync --frozen --quiet --project tests/clients --python $(BIN)/python
	@touch $@

.PHONY: install
install: .venv/.dev .venv/clients/.synced ## install the service and the developers' tools into .venv

.PHONY: up
up: .venv/.run ## start the whole service with the demo program (PORT=, ADMIN_PORT=, ARGS=)
	@exec $(BIN)/reservasi up --demo --port $(PORT) --admin-port $(ADMIN_PORT) $(ARGS)

.PHONY: check
check: .venv/.dev ## lint, format, types and floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: .venv/.dev ## format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: docs
docs: .venv/.dev ## generate the pages of docs/reference and docs/
	@$(BIN)/python -m docs.generate

# Only the files that have such tests: looking through all of them takes longer than some of these tests.
ALONE = $(shell grep -rl --include='test_*.py' 'pytest.mark.alone' tests)

.PHONY: test
test: .venv/.dev .venv/clients/.synced ## run all tests on real servers: four files at a time, then those that need the whole machine (ARGS="-k name")
	@$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder -m "not alone" $(ARGS); together=$$?; \
	$(BIN)/pytest -m alone $(if $(ARGS),$(ARGS),$(ALONE)); alone=$$?; \
	case $$together-$$alone in \
		0-0$(if $(ARGS),|0-5|5-0)) echo "make test: passed" ;; \
		*) echo "make test: FAILED (four at a time: $$together, alone: $$alone)"; exit 1 ;; \
	esac

.PHONY: loadtest
loadtest: .venv/.dev ## load test with many more people than places; HTML report in reports/
	$(BIN)/python -m loadtest.crowd $(ARGS)

.PHONY: bench
bench: .venv/.dev ## claims per second compared with the baselines, as ratios (ARGS="--against REV": compare with a revision)
	$(BIN)/python -m loadtest.bench $(ARGS)

.PHONY: scale-out
scale-out: .venv/.dev ## work per claim by primaries, batch size, replicas and followers (ARGS="--only idle")
	$(BIN)/python -m loadtest.bench.experiments.scale_out $(ARGS)

.PHONY: latency
latency: .venv/.dev ## latency against offered load, up to three times the capacity: table and picture
	$(BIN)/python -m loadtest.openloop $(ARGS)

.PHONY: overload
overload: .venv/.dev ## three times the ledger's capacity: goodput, refusals, staff calls, memory
	$(BIN)/python -m loadtest.openloop.overload $(ARGS)

.PHONY: slow-clients
slow-clients: .venv/.dev ## 5,000 connections that send a byte per second, and their effect on other callers
	$(BIN)/python -m loadtest.openloop.slow_clients $(ARGS)

.PHONY: waiting
waiting: .venv/.dev ## 50,000 people join before an opening and are served in the order of the draw
	$(BIN)/python -m loadtest.waiting $(ARGS)

.PHONY: spike
spike: .venv/.dev ## the load of an opening, with the checker; HOST=http://...: on your own installation, without the checker
	$(if $(HOST),$(BIN)/locust -f loadtest/spike.py --headless --host $(HOST) $(ARGS),$(BIN)/python -m loadtest.crowd --spike $(ARGS))

.PHONY: faults
faults: .venv/.dev ## inject each fault under load, several times: table of lost and doubly sold places (ARGS="--only NAME")
	$(BIN)/python -m loadtest.faults $(ARGS)

.PHONY: clean
clean: ## remove the environment and the tools' files
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache reports dist

.PHONY: psql
psql: .venv/.run ## run psql on the embedded PostgreSQL (SQL="SELECT ...", DATA_DIR=)
	@dsn=$$($(BIN)/python -c 'from reservasi import settings; from reservasi.bootstrap.addresses import postgres_dsn; print(postgres_dsn(settings.load(data_dir="$(DATA_DIR)" or None)))') \
	&& exec $(BIN)/python -c 'import sys, os; from reservasi.embedded import postgres_binaries; os.execv(postgres_binaries() / "psql", ["psql", *sys.argv[1:]])' \
		"$$dsn" $(if $(SQL),-c "$(SQL)")
