# Two commands on a fresh machine: `make evals` (the project's own gates on a real local model) and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip --disable-pip-version-check -qq
LM     ?= auto
PYTEST  = $(BIN)/python -m pytest

# DeepEval wants older click and rich than our pins, and its pytest plugin acts in every session: it lies in a
# folder of its own, which only its tests put on the path (docs/decisions/0512).
DEEPEVAL = deepeval==4.3.1 backoff==2.2.1 nest-asyncio==1.6.0 portalocker==4.4.2 posthog==7.91.1 \
	prompt_toolkit==3.0.53 pyfiglet==1.0.4 questionary==2.1.1 tabulate==0.9.0

.PHONY: help evals test test-fast test-all check format types layers docs bench clean
.DEFAULT_GOAL := help

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.pip:
	@echo "steelyard: making $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Steelyard needs Python 3.11 or newer")'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.evals: $(VENV)/.pip pyproject.toml constraints.txt
	@echo "steelyard: installing (about a minute the first time)"
	@$(PIP) install --no-compile -c constraints.txt -e '.[evals,local]'
	@$(BIN)/steelyard models fetch smollm2
	@touch $@

$(VENV)/.dev: $(VENV)/.evals
	@echo "steelyard: installing the tools of development"
	@$(PIP) install --no-compile -c constraints.txt -e '.[evals,local,langchain,huggingface,server,watch]' --group dev
	@$(PIP) install --no-compile --no-deps --upgrade --target $(VENV)/deepeval $(DEEPEVAL)
	@touch $@

evals: $(VENV)/.evals  ## The project's own gates on the real local model (LM=auto|live|replay)
	@$(PYTEST) evals/ --steelyard-lm=$(LM)

test: $(VENV)/.dev  ## All tests, simulations at a reduced count
	$(PYTEST) -n 2 --dist loadfile --timeout 300

test-fast: $(VENV)/.dev  ## The fast loop, under two minutes
	$(PYTEST) -n 2 --dist loadfile --timeout 60 -m 'not slow and not server'

test-all: $(VENV)/.dev  ## Everything at full count
	STEELYARD_FULL=1 $(PYTEST) -n 2 --dist loadfile --timeout 3600

check: $(VENV)/.dev  ## Format, lint, types, layers, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict --quiet

format: $(VENV)/.dev  ## Put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev  ## Serve the documentation while you write
	$(BIN)/mkdocs serve

bench: $(VENV)/.dev  ## The benchmarks; figures belong in docs/benchmarks.md
	@for file in bench/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:  ## Remove what was built (not the store under .steelyard)
	rm -rf $(VENV) site dist .pytest_cache .ruff_cache
