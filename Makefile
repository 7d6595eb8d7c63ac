PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.promptseg-installed
PIP_INSTALL := $(VENV)/bin/python -m pip --quiet install --no-compile -c constraints.txt
# Everything that it can compare takes a day on two cores.
BENCHMARK_ARGS ?= --drawn 3,5 --scans 1,3 --seeds 1

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test lint libraries benchmark screenshots

demo: $(INSTALLED)
	$(VENV)/bin/promptseg demo --out demo

screenshots: demo libraries
	cp demo/demo.png Resources/Screenshots/demo.png
	$(VENV)/bin/python -m Testing.PromptSeg.screenshots Resources/Screenshots

test: lint libraries
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

libraries:
	@$(PYTHON) Testing/slicer_harness/system_libraries.py

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

benchmark: $(INSTALLED)
	$(PIP_INSTALL) -e '.[benchmark]'
	$(VENV)/bin/python -m Testing.benchmarks $(BENCHMARK_ARGS)

# torch goes first and alone, so that a CPU wheel offered by pip's own configuration is taken before
# anything else can ask for the much larger default build.
$(INSTALLED): pyproject.toml constraints.txt
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) -e '.[test]'
	@touch $@
