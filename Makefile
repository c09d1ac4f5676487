# Every target sets up first what it needs (scripts/setup); that costs nothing when it is there.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo dashboard compose-up compose-down compose-test test matrix lint format bench bench-capacity fuzz lock dist clean

BIN := .venv/bin
ONCE ?=
ARGS ?=
SUITES ?=
FUZZ_SECONDS ?= 60
JOBS ?= 2

help:  ## what there is (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## .venv from the lock, and Debian's packages (ejabberd, Erlang, Prometheus, Chromium)
	@scripts/setup

demo: setup  ## a private ejabberd, real clients, a personalised broadcast; ONCE=1 ends by itself
	@exec $(BIN)/megaphone demo $(if $(ONCE),--once) $(ARGS)

dashboard: setup  ## clients on a private ejabberd, a Prometheus and its page of it; ONCE=1 ends by itself
	@exec $(BIN)/megaphone dashboard $(if $(ONCE),--once) $(ARGS)

test: setup  ## the tests, JOBS (2) at once; ARGS=tests/bridge for some of them
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

matrix:  ## the tests on each Debian suite's ejabberd, in containers; SUITES=trixie, ARGS=tests/e2e for some
	@python3 -m tests.matrix $(if $(SUITES),--suites "$(SUITES)") $(ARGS)

compose-up:  ## ejabberd, Megaphone, Prometheus, Grafana in containers; COMPOSE_PROFILES= for the first two only
	@scripts/compose up

compose-down:  ## ends them; ARGS=-v removes their volumes, too
	@scripts/compose down $(ARGS)

compose-test: setup  ## the tests of images, stack and systemd unit; needs Docker and Compose
	@$(BIN)/python -m pytest tests/compose $(ARGS)

lint: setup  ## ruff, mypy, erlc -Werror, dialyzer
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python scripts/lint_erlang.py

format: setup  ## ruff's formatting and its safe fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup  ## the benchmarks; results as tables and under bench/results
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	    --target .cache/peers -r bench/requirements-peers.txt || echo "bench: goes on without these peers"
	@status=0; for one in codec call otp broadcast scrape; do $(BIN)/python -m bench.$$one || status=1; done; \
	    exit $$status

bench-capacity: setup  ## the capacity estimate: predict, then open 500,000 sessions and 8,000 clients (4 GB)
	@$(BIN)/python -m bench.capacity $(ARGS)

fuzz: setup  ## each fuzz target for FUZZ_SECONDS (60)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
	    -r requirements/fuzz.txt
	@set -e; for target in fuzz/fuzz_*.py; do \
	    echo "$$target"; $(BIN)/python "$$target" -max_total_time=$(FUZZ_SECONDS); done

lock:  ## the locks in requirements/ anew; UPGRADE=1 takes the newest versions
	@scripts/lock

dist: setup  ## wheel and source distribution, into dist/
	@$(BIN)/python -m hatchling build -d dist

clean:  ## removes what the other targets have made, .venv too
	@rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build bench/results
	@find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
	@find . -name .git -prune -o -name '*.egg-info' -type d -prune -exec rm -rf {} +
