# Every target works on a machine that has only Python 3.11 or later, git and make: what it needs
# goes into .venv, nothing anywhere else. Give arguments as ARGS, an interpreter as PYTHON:
#   make test ARGS="-k append"        make test PYTHON=python3.12

.DEFAULT_GOAL := help
.PHONY: help demo test test-quick test-adapters coverage check format fuzz bench docs reference sync clean

VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check install --quiet
PINS := requirements/dev.txt
PYTEST := $(RUN) -m pytest --numprocesses auto --dist worksteal --durations 10
# The contract on two stores, the core, and the main routes of the service; what starts servers is left
# to `make test`.
QUICK := tests/contract/test_memory.py tests/contract/test_sqlite.py \
  $(filter-out $(addprefix tests/test_,migrate.py restarts.py writing_a_backend.py), $(wildcard tests/test_*.py tests/sqlite)) \
  $(addprefix tests/service/test_,routes.py conventions.py preconditions.py idempotency.py keys.py)
# Directories that are not there yet are left out.
TYPED := $(wildcard src tests typing_tests benchmarks scripts)

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.base  ## see it work, with the base dependencies alone
	@$(RUN) -m agent_cores.session.examples.demo $(ARGS)

# The tests start hundreds of Python processes: compile a module once, not in each of them.
test test-quick test-adapters coverage: export PYTHONDONTWRITEBYTECODE =

test: $(VENV)/.dev  ## run every test, on real servers, on all cores; ARGS go to pytest
	@echo "Running every test on all cores. Each test process starts the servers it needs."
	$(PYTEST) $(ARGS)

test-quick: $(VENV)/.dev  ## run the tests on memory and SQLite, which need no server
	@echo "Running the tests on memory and SQLite alone. 'make test' adds the servers."
	$(PYTEST) $(QUICK) $(ARGS)

test-adapters: $(VENV)/.dev  ## run the adapters' tests, each beside its framework in an environment of its own
	$(RUN) scripts/test_adapters.py $(ARGS)

coverage: $(VENV)/.dev  ## run every test and report the coverage, which has a floor in pyproject.toml
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest --numprocesses auto --dist worksteal $(ARGS)
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report

check: $(VENV)/.dev  ## format, lint, types, spelling, the direction of imports, workflows; changes nothing
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy $(TYPED)
	$(RUN) scripts/check_types.py
	@echo "Checking the spelling of every file"; git ls-files -z | xargs -0 $(VENV)/bin/codespell
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/zizmor --offline --quiet .github

format: $(VENV)/.dev  ## put the code into shape, and fix what can be fixed by itself
	$(RUN) -m ruff check --fix --exit-zero --quiet .
	$(RUN) -m ruff format .

fuzz: $(VENV)/.dev  ## call the service by its own OpenAPI document, and send it raw HTTP
	$(RUN) -m tests.fuzz.raw_http
	$(RUN) tests/fuzz/run.py $(ARGS)

bench: $(VENV)/.dev  ## measure; ARGS go to the benchmarks
	$(RUN) -m benchmarks $(ARGS)

docs: $(VENV)/.dev  ## check the links and tables of the documents, and build the site in build/site
	$(RUN) -m scripts.generate_reference --check
	$(RUN) scripts/check_docs.py
	$(RUN) -m scripts.build_site

reference: $(VENV)/.dev  ## write the generated parts of the documents again
	$(RUN) -m scripts.generate_reference
	$(RUN) -m tests.service.http_examples

sync: $(VENV)/.dev  ## generate the synchronous manager anew from the asynchronous one
	$(RUN) scripts/generate_sync_manager.py

clean:  ## remove .venv, caches and builds
	rm -rf $(VENV) .venv-adapters benchmarks/.venv-peers build dist
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(TYPED) -type d -name __pycache__ -prune -exec rm -rf {} +

# An interpreter counts only if it runs (a version manager's shim may not), is new enough, and can
# make environments (Debian ships that apart).
$(VENV)/.made:
	@found=; bare=; \
	for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  if $$python -c 'import ensurepip, venv' 2>/dev/null; then found=$$python; break; fi; \
	  bare=$$python; \
	done; \
	if [ -z "$$found" ] && [ -n "$$bare" ]; then \
	  echo "$$bare cannot make virtual environments: its venv module is missing or incomplete." >&2; \
	  echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	elif [ -z "$$found" ]; then \
	  echo "No Python 3.11 or later found$(if $(PYTHON), as $(PYTHON)). Install one," \
	    "or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$found"; \
	rm -rf $(VENV) && $$found -m venv $(VENV)
	@touch $@

# Without build isolation, so that the build backend is a pinned one too.
$(VENV)/.base: $(VENV)/.made $(PINS) pyproject.toml
	@echo "Installing the package"
	@$(PIP) --constraint $(PINS) hatchling
	@$(PIP) --constraint $(PINS) --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo "Installing the tools"
	@$(PIP) --requirement $(PINS)
	@touch $@
