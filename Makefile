# Two commands: `make run` does the main job with the embedded models, `make test` runs the tests.
# Both make .venv once and reuse it; they need Python 3.11+ and the package index, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# files are compiled at their first import: to compile all 27,000 takes minutes
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install -q --no-compile
export OMP_WAIT_POLICY = PASSIVE
unexport PYTHONDONTWRITEBYTECODE  # else each command compiles all of its imports anew

.PHONY: run test lint bench bench-full bench-gpu install clean

run: $(VENV)/.local install
	$(BIN)/syneg-dspy run

test: $(VENV)/.dev install lint
	$(BIN)/pytest -n logical --maxprocesses 4 --dist worksteal  # a process for each core

lint: $(VENV)/.dev install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd $(VENV) && bin/mypy --config-file $(CURDIR)/pyproject.toml -p syneg  # what is installed: programs and optimizers, too

# every benchmark in its quick form; docs/benchmarks.md has the full ones
bench: $(VENV)/.dev install
	work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT && cd "$$work" && \
	for name in startup growth ledger mining mining_memory corpus_size lm_overhead embedded_lm embedding training_speed quality objective_cost programs recipes ray_workers whole_path; do echo "== $$name"; $(abspath $(BIN))/python $(CURDIR)/benchmarks/$$name.py --quick || exit 1; done

# the tables of docs/benchmarks.md, in about 50 minutes on two quiet cores; figures as JSON in bench/
bench-full: $(VENV)/.dev install
	$(BIN)/python benchmarks/full.py --out bench $(BENCH)

# all that a CUDA card has to show, in some ten minutes; says so in a line where there is none
bench-gpu: $(VENV)/.dev install
	$(BIN)/python benchmarks/gpu.py

# torch alone and first: the other packages then take the build that is there
$(VENV)/.local: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -c constraints.txt torch 'setuptools>=77'
	$(INSTALL) -c constraints.txt '.[local]'
	touch $@

$(VENV)/.dev: $(VENV)/.local
	$(INSTALL) -c constraints.txt '.[dev]'
	touch $@

install: $(VENV)/.local
	rm -rf build
	$(INSTALL) --no-deps --no-build-isolation --force-reinstall .

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
