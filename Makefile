# Needs make and Python 3.11 or later; everything else is installed into $(VENV). `make` alone lists the targets.

PYTHON ?= python3
VENV ?= .venv
# Processes of a test run; `auto` is two for each core.
WORKERS ?= auto
# More arguments for pytest, as in: make test TESTS="tests/unit -k outcome"
TESTS ?=
# How long `make chaos` hurts the system, a third of it on each of its three sites, and the seed to do it again; empty
# is another one each time.
SECONDS ?= 180
SEED ?=
# Files, folders and options for `make prose`, as in: make prose PROSE="docs --all"
PROSE ?=
# More arguments for `make bench-peers`, as in: make bench-peers PEERS="--rounds 1 --only turnstream taskiq"
PEERS ?=

# Bytecode is kept: without, each of the hundreds of processes of a test run compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

PY := $(VENV)/bin/python
INSTALL := $(PY) -m tools.installation --editable
LOWEST := $(VENV)-lowest
UV := $(VENV)-uv/bin/uv
PYTEST := $(PY) -m pytest -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-lowest coinstall dist check lint types imports prose coverage format bench bench-quick bench-startup bench-peers bench-growth bench-skew trace chaos mutants asyncapi sync secrets clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo '  variables: PYTHON (the interpreter, 3.11 or later), VENV, WORKERS, TESTS (arguments for pytest), SECONDS, SEED'

demo: $(VENV)/.installed ## run the demo on an embedded server; nothing else to install
	@$(VENV)/bin/turnstream demo

test: $(VENV)/.installed-dev ## run the whole test suite, but for what `make chaos` runs
	$(PYTEST) -m 'not long' $(TESTS)

test-lowest: $(LOWEST)/.installed ## run the suite on the lowest versions of the dependencies that pyproject.toml allows
	$(LOWEST)/bin/python -m pytest -n $(WORKERS) --dist worksteal -m 'not long' $(TESTS)

coinstall: $(VENV)/.installed-dev $(UV) ## resolve what users have beside Turnstream; none may get older (needs the package index)
	$(PY) -m tests.coinstall $(UV)

dist: $(VENV)/.installed-dev ## build what a release uploads, into dist; asks for the public address of the repository
	@$(PY) -c 'import sys, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	  sys.exit("Repository" not in project.get("urls", {}) and \
	  "Set Repository in [project.urls] of pyproject.toml: the links of the package page are made from it.")'
	$(PY) -m build

check: lint types imports coverage ## everything that must pass before a commit

lint: $(VENV)/.installed-dev ## ruff: rules and format; the words of all texts; the sync client is as generated
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m tools.prose_check
	$(PY) -m tools.generate_sync --check

types: $(VENV)/.installed-dev ## mypy and basedpyright, both strict
	$(PY) -m mypy
	$(VENV)/bin/basedpyright --pythonpath $(PY)

imports: $(VENV)/.installed-dev ## the layers: who may import whom
	$(VENV)/bin/lint-imports

prose: $(VENV)/.installed-dev ## look for constructions that are not plain English; at most 1 in 1,000 words
	$(PY) -m tools.prose_check $(PROSE)

# Coverage's total mixes lines and branches; the branches are asked for on their own, too.
coverage: $(VENV)/.installed-dev ## run the suite, less its slow tests, and ask for 90 % of the branches
	$(PYTEST) -m 'not slow and not long' --cov --cov-report=term-missing:skip-covered $(TESTS)
	@$(PY) -m coverage json --quiet -o - | $(PY) -c 'import json, sys; \
	  percent = json.load(sys.stdin)["totals"]["percent_branches_covered"]; \
	  print(f"Branches alone: {percent:.1f} %"); sys.exit(percent < 90)'

format: $(VENV)/.installed-dev ## let ruff sort imports, fix what it can and format
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

bench: $(VENV)/.installed ## measure commands a second and latency on this machine
	$(PY) -m benchmarks.spine

bench-quick: $(VENV)/.installed ## the ratio to the server's own limit, in under a minute; fails below a floor
	$(PY) -m benchmarks.quick

bench-startup: $(VENV)/.installed ## the CPU time of imports and commands, as ratios to that of redis-py; fails above a limit
	$(PY) -m benchmarks.startup

bench-peers: $(VENV)/.installed ## task queues, session stores and Turnstream side by side (half an hour, and 2 GB of disk)
	$(PY) -m benchmarks.peers $(PEERS)

bench-growth: $(VENV)/.installed-dev ## time and memory as sessions, messages, workers and servers become more (some minutes)
	$(PY) -m benchmarks.growth

bench-skew: $(VENV)/.installed ## simulate skewed sessions on partitions and shards
	$(PY) -m benchmarks.skew

trace: $(VENV)/.installed ## print the road of a command: the files and functions that it goes through
	$(PY) -m tools.trace_command --road

chaos: $(VENV)/.installed-dev ## hurt workers, network and servers for minutes, then check the history (SECONDS, SEED)
	$(PY) -m pytest -m long
	$(PY) -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

mutants: $(VENV)/.installed-dev ## take the checks out of the scripts one at a time; some test must fail each time
	$(PY) -m tests.mutants

asyncapi: $(VENV)/.installed ## generate the AsyncAPI document of the wire format, which the package ships
	$(PY) -m tools.asyncapi

sync: $(VENV)/.installed-dev ## generate the sync client from the async one
	$(PY) -m tools.generate_sync

secrets: ## passwords for docker compose, in deploy/secrets; those that are there stay
	@mkdir -p -m 700 deploy/secrets
	@for role in operator worker producer consumer subscriber; do \
	  file=deploy/secrets/$$role; \
	  [ -e $$file ] || { head -c 24 /dev/urandom | base64 > $$file && chmod 644 $$file; }; \
	done

clean: ## remove the virtual environments and everything that tools left
	rm -rf .venv .venv-* build dist htmlcov .coverage .coverage.* coverage.json coverage.xml
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find shared services tests benchmarks tools -type d -name __pycache__ -prune -exec rm -rf {} +

# ── virtual environments: a stamp for what is in them, so that nothing is installed twice ──

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Turnstream needs Python 3.11 or later; $(PYTHON) is %d.%d. Try: make PYTHON=python3.11" % sys.version_info[:2])'
	@echo 'Creating $(VENV) with $(PYTHON) ...'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.created
	@echo 'Installing Turnstream into $(VENV) ...'
	@$(INSTALL) '.[all]'
	@touch $@

# The tools include all that the demo needs: one installation satisfies both stamps.
$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.created
	@echo 'Installing Turnstream and its development tools into $(VENV) ...'
	@$(INSTALL) '.[dev]'
	@touch $(VENV)/.installed $@

# Only uv resolves to the lowest versions. What the dependencies need in turn is the newest.
$(LOWEST)/.installed: pyproject.toml $(UV)
	@echo 'Installing Turnstream and the lowest versions that it allows into $(LOWEST) ...'
	@$(UV) venv --quiet --clear --seed --python $(PY) $(LOWEST)
	@$(UV) pip install --quiet --python $(LOWEST) --resolution lowest-direct --requirements pyproject.toml --extra test
	@$(UV) pip install --quiet --python $(LOWEST) --no-deps --editable .
	@touch $@

$(UV): | $(VENV)/.created
	@echo 'Installing uv into $(VENV)-uv ...'
	@$(PY) -m venv $(VENV)-uv
	@$(VENV)-uv/bin/python -m pip install --disable-pip-version-check -qq 'uv>=0.13,<1'
