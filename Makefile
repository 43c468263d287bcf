# Each target makes what it needs, the environment .venv included, and is fast the second time.
# Needs only make and Python 3.10 or newer. PYTHON=python3.12 chooses the interpreter of a new .venv;
# ARGS="--keep" and PYTEST_ARGS="-k wasi -x" are handed on.
.DEFAULT_GOAL := help
.PHONY: help demo test bench docs lint ci lock clean
BIN := .venv/bin

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## three stations on this machine and a Python agent that hops through them
	@.ci/env run
	@echo "portcall: three stations and one agent, on this machine only"
	@$(BIN)/portcall demo $(ARGS)

test: ## tests, in minutes; PORTCALL_SWEEPS=1 for all of them, PORTCALL_THOROUGH=1 for whole sweeps
	@.ci/env test
	@echo "portcall: tests, on every processor of this machine"
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST_ARGS)

bench: ## all benchmarks, with the peers that can be installed; writes tables and plots
	@.ci/env bench
	@.ci/peers
	@$(BIN)/python -m tests.bench $(ARGS)

docs: ## the documentation as a site, in site/
	@.ci/env ci
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir site
	@echo "portcall: open site/index.html"

lint: ## style, types and layers
	@.ci/env ci
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

ci: ## everything that must hold before a change lands
	@.ci/run

lock: ## pin the newest versions of all dependencies (needs uv)
	@.ci/lock --upgrade

clean: ## remove environments, caches and builds
	rm -rf .venv .venv-3.10 .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* dist build site
