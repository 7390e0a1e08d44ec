# The front door. Each target makes the environment it needs (.venv, once) and then runs one command;
# what a command does belongs in the program or in scripts/, not here.

.DEFAULT_GOAL := help
.PHONY: help demo up down test test-all bench lint lock clean
unexport PYTHONHOME PYTHONPATH

PYTHON ?=
ARGS ?=
UV_VERSION := 0.13.8

help: ## show this list
	@echo "make TARGET [ARGS='...'] [PYTHON=path/to/python3]"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'

demo: .venv/.ready ## sample tenants, 90 days of metrics and one full day of every system
	.venv/bin/revenue-os demo $(ARGS)

up: .venv/.ready ## the Dagster UI and daemon on the same data, until Ctrl-C
	.venv/bin/revenue-os up $(ARGS)

down: .venv/.ready ## stop the embedded database that demo and up leave running
	.venv/bin/revenue-os db stop $(ARGS)

# Two workers, each with a database server of its own. A file stays whole, for what its tests share, and files keep
# their order, in which the long ones come first.
PYTEST := .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: lint ## lint, then every test that is not marked slow
	$(PYTEST) -m "not slow" $(ARGS)

test-all: lint ## lint, then every test
	$(PYTEST) $(ARGS)

bench: .venv/.ready ## the measured workloads
	.venv/bin/revenue-os bench $(ARGS)

lint: .venv/.ready ## style, formatting and the direction of imports
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/lint-imports

# The resolver is no part of the environment it resolves. Build requirements are locked with the rest, so
# that the editable install fetches nothing. Versions already in the lock are kept unless ARGS says otherwise.
lock: .venv/.ready ## resolve requirements.lock; ARGS=--upgrade takes newer versions
	@echo "Resolving requirements.lock ..."
	@.venv/bin/python -m venv .venv/resolver
	@PIP_USER=0 .venv/resolver/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@.venv/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	  | .venv/resolver/bin/uv pip compile pyproject.toml - --group dev --universal --python-version 3.11 \
	    --no-config --no-build --generate-hashes --no-annotate --no-strip-extras --custom-compile-command "make lock" --quiet \
	    --output-file requirements.lock $(ARGS)

clean: ## remove the environment and every cache; the data in .revenue-os stays
	rm -rf .venv .ruff_cache .pytest_cache .hypothesis .import_linter_cache revenue_os.egg-info dbt/target dbt/logs
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

.venv/.ready: requirements.lock pyproject.toml
	@PYTHON="$(PYTHON)" sh scripts/bootstrap.sh
