# One place for every command; `make` alone lists them.
PYTHON ?= python3
# A further index to look for PyTorch on, e.g. https://download.pytorch.org/whl/cpu: on Linux the default one has the large CUDA build.
TORCH_INDEX ?=

# Tests wait for brokers and databases more than they compute: four at a time on two cores.
WORKERS ?= 4
# In the order of tests/conftest.py, which has the slow files first.
BY_FILE := --dist loadfile --no-loadscope-reorder

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check --no-input
INPUTS := pyproject.toml constraints.txt $(wildcard models/*.c)
CHECKED := .[test,lint]
COMMA := ,
# The extra hub, but for what the tests have anyway.
HUB := datasets pyarrow dill multiprocess xxhash

.DEFAULT_GOAL := help
.PHONY: help setup run test test-long test-hub audit lint bench bench-long soak clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile
	@echo 'PYTHON=python3.12 chooses the Python that .venv is made with, TORCH_INDEX=URL a further index for PyTorch.'

setup: $(VENV)/.runs ## only makes .venv with what the program needs

run: $(VENV)/.runs ## the demo; make run ARGS="run --config my.yaml" runs your own
	@exec $(BIN)/python -m monitor $(or $(ARGS),demo)

test: $(VENV)/$(if $(filter-out no 0 false,$(LONG)),.oracles,.tests) ## every test but the long ones, with LONG=yes these too; make test ARGS="-k slack" only some
	@exec $(BIN)/python -m pytest -n $(WORKERS) $(BY_FILE) $(if $(filter-out no 0 false,$(LONG)),,-m "not long") $(ARGS)

test-long: $(VENV)/.oracles ## a crash at every step, three replicas under every fault, every recipe, twenty thousand real posts: three minutes more
	@exec $(BIN)/python -m pytest -n 2 $(BY_FILE) -m long $(ARGS)

test-hub: $(VENV)/.tests ## Hugging Face data sets, with packages that stay out of the other tests
	@test -d $(VENV)/hub || $(PIP) install --constraint constraints.txt --no-deps --target $(VENV)/hub $(HUB)
	@PYTHONPATH=$(VENV)/hub exec $(BIN)/python -m pytest tests/test_models_hub.py $(ARGS)

audit: ## known vulnerabilities of the pinned packages, where https://osv.dev can be reached
	@exec $(PYTHON) tests/audit.py

lint: $(VENV)/.lints ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/.benches ## posts per second beside peers, CPU by stage, latency: ten minutes; make bench DEVICE=cuda
	@DEVICE=$(DEVICE) exec $(BIN)/python tests/bench.py $(ARGS)

bench-long: $(VENV)/.benches ## the same with 200,000 posts, and cost and memory against what is in the store: an hour
	@DEVICE=$(DEVICE) exec $(BIN)/python tests/bench.py --long $(ARGS)

soak: $(VENV)/.tests ## an hour of crashes, outages and large files, then the count; make soak ARGS="nemesis --minutes 5" is shorter
	@exec $(BIN)/python tests/soak.py $(ARGS)

clean: ## removes .venv and what builds and tests left behind; data stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find monitor models tests -name __pycache__ -prune -exec rm -rf {} +

# A stamp newer than pyproject.toml and constraints.txt means that everything is installed: the next `make` calls no pip.
$(VENV)/.runs: $(INPUTS)
	$(call install,.,1 to 3 minutes)
	@touch $@

$(VENV)/.tests: $(INPUTS)
	$(call install,.[test],1 to 4 minutes)
	@touch $(VENV)/.runs $@

$(VENV)/.oracles: $(INPUTS)
	$(call install,.[test$(COMMA)oracles],1 to 4 minutes)
	@touch $(VENV)/.runs $(VENV)/.tests $@

$(VENV)/.benches: $(INPUTS)
	$(call install,.[bench],1 to 4 minutes)
	@touch $(VENV)/.runs $(VENV)/.tests $@

$(VENV)/.all: $(INPUTS)
	$(call install,.[test$(COMMA)oracles$(COMMA)lint],1 to 4 minutes)
	@touch $(VENV)/.runs $(VENV)/.tests $(VENV)/.oracles $(VENV)/.lints $@

$(VENV)/.lints: $(INPUTS)
	$(call install,$(CHECKED),1 to 4 minutes)
	@touch $(VENV)/.runs $(VENV)/.tests $@

# Modules to bytecode, those of our own too, or every process of a user who may not write here compiles them again. pip
# does it on one core and for all there is; this is a third of the time. What is left out is compiled where it is used.
UNUSED := tests?|testing|_inductor|networkx|fontTools|lexers|transformers|huggingface_hub|setuptools|sympy|numba|statsmodels|nltk|mypyc?|narwhals|onnxruntime
COMPILE := $(BIN)/python -m compileall -qq -x '/($(UNUSED))/'

# PyTorch comes first and by its exact version: a range could bring a build for another accelerator, gigabytes of it.
define install
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { $(check_python) && $(PYTHON) -m venv --clear $(VENV); }
	@echo "Setting up $(VENV) from constraints.txt (PyTorch is most of it): $(2) the first time, seconds after that ..."
	@$(PIP) install --no-compile $(addprefix --extra-index-url ,$(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	@{ $(COMPILE) $(VENV)/lib || true; } & \
	$(PIP) install --no-compile --constraint constraints.txt --editable "$(1)"; status=$$?; wait; exit $$status
	@$(COMPILE) -j 0 $(VENV)/lib $(wildcard monitor models) || true
endef

define check_python
{ $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
  || { echo 'sentiment-monitor needs Python 3.11 or newer, and "$(PYTHON)" is not that: try make PYTHON=python3.12 ...' >&2; exit 1; }; } \
&& { $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
  || { echo '$(PYTHON) cannot make virtual environments: install its venv package (Debian, Ubuntu: apt install python3-venv).' >&2; exit 1; }; }
endef
