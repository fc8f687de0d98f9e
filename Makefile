# make demo   sets up everything on a fresh machine and runs examples/cities.py
# make test   sets up everything and runs lint, types and all tests, pure and compiled
# make help   lists the rest
#
# Written for GNU make 3.81, which is what macOS has.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
# The interpreter for $(VENV); the newest that works when empty.
PYTHON ?=
# Further arguments: make test-compiled PYTEST="-k keys", make demo DEMO="--backend redis://localhost"
PYTEST ?=
DEMO ?=
# Two workers start a second set of servers, and pay for it from two cores on.
WORKERS ?= 2

EXTENSION_SOURCES = $(wildcard cacheorm/_speedups/_*_c.pyx cacheorm/_speedups/_*_py.py cacheorm/_speedups/*.pxd)

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{printf "make %-16s %s\n", $$1, $$2}'

.PHONY: demo
demo: $(VENV)/.installed-demo $(VENV)/.built ## set up and run examples/cities.py
	$(BIN)/python examples/cities.py $(DEMO)

.PHONY: test
test: lint types test-pure test-compiled test-packaging test-pythons ## set up and run everything that must pass
	@echo "All checks passed."

# ---- set-up: each step leaves a stamp and is repeated only when what it was made from changed

$(BIN)/python:
	scripts/make_venv.sh $(VENV) $(PYTHON)

# The build runs without isolation, so that the extensions can be rebuilt one by one: its requirements are needed here.
$(VENV)/.build-requirements: pyproject.toml | $(BIN)/python
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' > $@.txt
	$(BIN)/python -m pip install --quiet --upgrade -r $@.txt
	@mv $@.txt $@

# Editable: tests and coverage see the sources. The extensions come from $(VENV)/.built, so this step compiles none.
$(VENV)/.installed-demo: pyproject.toml $(VENV)/.build-requirements
	env -u CACHEORM_REQUIRE_EXTENSIONS CACHEORM_NO_EXTENSIONS=1 $(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[demo]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.build-requirements
	env -u CACHEORM_REQUIRE_EXTENSIONS CACHEORM_NO_EXTENSIONS=1 $(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[dev]'
	@touch $@

$(VENV)/.built: setup.py $(EXTENSION_SOURCES) $(VENV)/.build-requirements
	@echo "Building the extensions"
	$(BIN)/python setup.py --quiet build_ext --inplace --parallel 2
	@touch $@

.PHONY: servers
servers: ## install redis-server and memcached if they are missing
	@scripts/install_servers.sh

.PHONY: install
install: $(VENV)/.installed-dev $(VENV)/.built ## set up .venv for development, and build the extensions in place

# ---- checks

.PHONY: lint
lint: $(VENV)/.installed-dev ## ruff: mistakes and layout
	$(BIN)/ruff check
	$(BIN)/ruff format --check

.PHONY: format
format: $(VENV)/.installed-dev ## let ruff fix what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: types
types: $(VENV)/.installed-dev ## mypy --strict on the package; mypy and pyright on tests/typing
	$(BIN)/mypy
	$(BIN)/mypy tests/typing
	$(BIN)/pyright

# Coverage is of the Python sources, so it is measured where they run.
.PHONY: test-pure
test-pure: $(VENV)/.installed-dev servers ## the suite on the pure version, with coverage
	env -u CACHEORM_REQUIRE_EXTENSIONS CACHEORM_NO_EXTENSIONS=1 $(BIN)/python -m pytest -m 'not packaging' -n $(WORKERS) --cov --cov-report=term $(PYTEST)

.PHONY: test-compiled
test-compiled: $(VENV)/.installed-dev $(VENV)/.built servers ## the suite on the compiled version
	env -u CACHEORM_NO_EXTENSIONS CACHEORM_REQUIRE_EXTENSIONS=1 $(BIN)/python -m pytest -m 'not packaging' -n $(WORKERS) $(PYTEST)

.PHONY: test-packaging
test-packaging: $(VENV)/.installed-dev ## build, install and inspect source distribution and wheels
	env -u CACHEORM_NO_EXTENSIONS -u CACHEORM_REQUIRE_EXTENSIONS $(BIN)/python -m pytest -m packaging $(PYTEST)

.PHONY: test-pythons
test-pythons: $(VENV)/.installed-dev ## a wheel and a quick run on every Python from 3.11 on that is found
	$(BIN)/nox --session smoke

# ---- releases

.PHONY: build
build: sdist ## a source distribution, and a wheel for this machine
	$(BIN)/python -m build --wheel

.PHONY: sdist
sdist: $(VENV)/.installed-dev ## a source distribution in dist/
	$(BIN)/python -m build --sdist

.PHONY: wheels
wheels: $(VENV)/.installed-dev ## wheels for this platform in dist/, through cibuildwheel
	$(BIN)/cibuildwheel --output-dir dist

.PHONY: clean
clean: ## remove everything that was built, .venv included
	rm -rf $(VENV) .nox build dist *.egg-info .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find cacheorm tests examples \( -name '*.so' -o -name '*.pyd' -o -name __pycache__ \) -prune -exec rm -rf {} +
