# Everything runs from .venv, made from this repository's own files alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install node demo test lint format type pytest slow test-oldest bench protos clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(MAKE) node
	touch $(STAMP)

# The Node client of examples/ and its test; where there is no npm, the test is skipped.
node:
	if command -v npm >/dev/null; then npm install --no-package-lock --ignore-scripts --no-audit --no-fund \
		--loglevel=error --prefix examples/node || echo "no Node client: npm could not install it"; fi

demo: install
	$(BIN)/clover-rl demo --out clover-demo

test: lint type pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: install
	$(BIN)/mypy

# The tests of servers wait more than they compute, so they run beside all others, in a process of their own.
pytest: install
	mkdir -p build
	$(BIN)/pytest tests/serving > build/serving.log 2>&1 & serving=$$!; \
	$(BIN)/pytest --ignore tests/serving; others=$$?; \
	wait $$serving; served=$$?; cat build/serving.log; exit $$((others | served))

slow: install
	$(BIN)/pytest --slow

# The oldest supported versions, in an environment of their own under build/: what meets them must not break.
OLDEST := build/oldest
OLDEST_TESTS ?= tests/envs tests/agents tests/control

test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest $(OLDEST_TESTS)

$(OLDEST)/.installed: pyproject.toml constraints-oldest.txt
	test -d $(OLDEST) || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade pip
	$(OLDEST)/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable '.[train,render,record]' 'pytest>=8' 'hypothesis>=6.100'
	touch $@

# make bench, or make bench ONLY=kernel|tables|env|train|serving
bench: install
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

# The stubs beside the .proto files are committed; run this after changing one.
protos: install
	$(BIN)/python -m clover_rl.serving.protocol.generate

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
