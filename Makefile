# The project's commands. `make help` lists them.
# Everything is installed into .venv from requirements-dev.lock; nothing but Python 3.11 or newer, make and git is needed.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
export PORT ?= 8080
JOBS ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count() or 1)')
BIN := .venv/bin

.PHONY: help run demo show psql check test nightly lint bench bench-growth bench-reconcile bench-metrics figures screenshots lock clean
help:  ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 24

run: .venv/ready  ## Run the receiver on :8080 (PORT) over an embedded Postgres
	@$(BIN)/python -m dev.run

demo: .venv/ready  ## Replay a VM's life against `make run`, and show the table after each step
	@$(BIN)/python -m dev.demo

show: .venv/ready  ## Show the table of `make run`
	@$(BIN)/python -m dev.embedded_postgres --command "SELECT cluster, namespace, name, vcpus, memory, network, run_strategy, status, updated_at FROM virtual_machines ORDER BY 1, 2, 3"

psql: .venv/ready  ## Open psql on the database of `make run`
	@$(BIN)/python -m dev.embedded_postgres

check: lint  ## Run the linters and the unit tests: the quick answer
	@$(BIN)/python -m pytest -q tests/unit $(PYTEST)

# Most tests wait for processes and for Postgres, so two at a time take half the time; a file stays in one process.
# The files are begun in the order of their names: the short ones of tests/unit come last, so that both end together.
test: .venv/ready  ## Run all tests, on as many processes as there are cores (JOBS)
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST)

nightly: .venv/ready  ## Run all tests with 1,000 histories, other ones each time, and 1,000 examples of each property
	@HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest $(PYTEST)

lint: .venv/ready  ## Run ruff, mypy and import-linter
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: .venv/ready  ## Measure against bare Flask and the published way, in five minutes
	@$(BIN)/python -m bench

bench-growth: .venv/ready  ## Measure a million VMs with 20 million versions (half an hour; GROWTH="--keep DIR")
	@$(BIN)/python -m bench.growth $(GROWTH)

bench-reconcile: .venv/ready  ## Measure the reconcile of 10,000 VMs
	@$(BIN)/python -m bench.reconcile

bench-metrics: .venv/ready  ## Measure what metrics cost a pod
	@$(BIN)/python -m bench.metrics

figures: .venv/ready  ## Copy the figures of the last benchmarks into the documents
	@$(BIN)/python -m bench.figures

screenshots: .venv/ready  ## Take the pictures of the page for the documents (needs chromium)
	@$(BIN)/python -m dev.screenshots

lock: .venv/ready  ## Pin every dependency anew
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate requirements.txt -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate requirements-dev.txt -o requirements-dev.lock

clean:  ## Remove the virtual environment and the embedded database
	rm -rf .venv .vmledger

.venv/ready: requirements-dev.lock
	@[ -n "$(PYTHON)" ] || { echo "vmledger needs Python 3.11 or newer: none was found; name one with PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "vmledger needs Python 3.11 or newer: $(PYTHON) is not"; exit 1; }
	@echo "setting up .venv (once)"
	@$(PYTHON) -m venv --clear .venv 2>.venv.log || { echo "could not make a virtual environment with $(PYTHON); on Debian: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock 2>.venv.log || \
		{ echo "could not install the dependencies: is the network there? $$(grep -m1 ERROR .venv.log)"; rm -rf .venv .venv.log; exit 1; }
	@rm -f .venv.log; touch $@
