# Two commands do everything on a fresh machine with Python >= 3.11:
#   make demo   environment, package, then map and localize a synthetic room
#   make test   environment, package, then every check that CI runs

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
WHEEL = dist/dsac-$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)-py3-none-any.whl

.PHONY: demo test test-benchmarks docs-figures mutation dist clean

demo: .venv/installed
	$(BIN)/dsac demo

# kernels are compiled meanwhile
test: .venv/installed-dev
	$(BIN)/python -c 'from dsac.kernels import compile_beside; compile_beside()'
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# the scripts of benchmarks/ run on a little of everything
test-benchmarks: .venv/installed-dev
	$(BIN)/pytest benchmarks/tests

# every picture of README and docs, drawn again from benchmarks/results (seconds; nothing is measured)
docs-figures: .venv/installed-dev
	$(BIN)/python benchmarks/docs_figures.py

# faults are planted one at a time: does a test catch each? (an hour)
mutation: .venv/installed-dev
	$(BIN)/python benchmarks/mutation.py

# the wheel, then its weights and its command from an environment that holds nothing else
dist: .venv/installed-dev
	rm -rf build dist
	$(BIN)/python -m build --wheel
	$(PYTHON) -m venv build/venv
	build/venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(WHEEL)
	cd build && venv/bin/dsac --help > /dev/null
	cd build && venv/bin/python -c "from dsac.networks.encoder import load_encoder; print(load_encoder().id)"
	@echo "$(WHEEL) works"

clean:
	rm -rf .venv build dist

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "dsac needs Python >= 3.11, got %d.%d: make PYTHON=/path/to/python" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[plots]'
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[plots,dev]'
	@touch $@ .venv/installed
