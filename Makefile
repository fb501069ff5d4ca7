# The README's two commands are `make demo` and `make test`; both set up .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FAST := $(addprefix tests/,artifacts compare filtering gate geometry report rows stats toxic verify) \
	tests/scoring/test_scores_for.py tests/test_docs.py tests/test_docs_commands.py tests/test_errors.py tests/test_rooms.py tests/test_settings.py
INSTALLED := $(VENV)/.installed

# The demo needs the plain package alone, which is half as large as what tests need.
RUNS := $(or $(wildcard $(INSTALLED)),$(VENV)/.runs)

.PHONY: demo test test-slow test-fast docs lint types check clean organism organism-quick real

demo: $(RUNS)
	$(BIN)/python examples/demo.py

# A process for each of two cores, with a file of tests at a time: 3:41 where one took 7:38.
TOGETHER := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test: $(INSTALLED)
	$(TOGETHER)

# What takes long, needs a browser or a real model (SAEFILTER_REAL_MODELS)
test-slow: $(INSTALLED)
	$(TOGETHER) -m "browser or slow or real"

# What shows most mistakes, in under 90 seconds: no model is trained and hardly a process started.
test-fast: $(INSTALLED)
	$(TOGETHER) $(FAST)

# docs/cli.md, from the options that the code takes, and the site, in dist/site
docs: $(INSTALLED)
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir dist/site

# Does filtering keep fine-tuning from doing harm? examples/model_organism/README.md
organism: $(INSTALLED)
	$(BIN)/python examples/model_organism/run.py

organism-quick: $(INSTALLED)
	$(BIN)/python examples/model_organism/run.py --quick

# The same of a real model: make real MODEL=FOLDER DATA=FOLDER; examples/real_model/README.md
MODEL ?= smollm2-135m-instruct
DATA ?= data
real: $(INSTALLED)
	$(BIN)/python examples/real_model/run.py --model $(MODEL) --data $(DATA)

# Everything is installed at the versions that CI uses; see constraints.txt.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/.runs: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf $(VENV) demo-output dist
