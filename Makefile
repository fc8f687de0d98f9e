# make demo   sets up everything on a fresh machine and runs examples/cities.py
# make test   sets up everything and runs lint, types and all tests, pure and compiled
# make help   lists the rest
#
# Written for GNU make 3.81, which is what macOS has.

VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
# The interpreter for $(VENV); the newest that works when empty.
PYTHON ?=
# Further arguments: make test-compiled PYTEST="-k keys", make demo DEMO="--backend redis://localhost"
PYTEST ?=
DEMO ?=
# Processes that run the suite; each starts its own servers. More than there are cores, as tests wait for servers.
WORKERS ?= 6

# What a run is told apart by; the variables of the caller's environment must not leak from one build into the other.
PURE = env -u CACHEORM_REQUIRE_EXTENSIONS CACHEORM_NO_EXTENSIONS=1
COMPILED = env -u CACHEORM_NO_EXTENSIONS CACHEORM_REQUIRE_EXTENSIONS=1

# Further arguments of benchmarks.compare, and how pytest-benchmark is called.
COMPARE ?=
BENCH = $(BIN)/python -m pytest benchmarks -q -p no:xdist --benchmark-columns=median,ops,rounds --benchmark-sort=name
BRIEF = --benchmark-max-time=0.1 --benchmark-min-rounds=3

# Bytecode is kept: the suite starts hundreds of processes, which would all compile the same modules again.
unexport PYTHONDONTWRITEBYTECODE

# The steps share .venv, build/ and the machine's cores.
.NOTPARALLEL:

EXTENSION_SOURCES = $(foreach kind,py pyx pxd pxi,$(wildcard cacheorm/_speedups/*/_*.$(kind)))

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{printf "make %-16s %s\n", $$1, $$2}'

.PHONY: demo
demo: $(VENV)/.installed-demo $(VENV)/.built ## set up and run examples/cities.py
	$(BIN)/python examples/cities.py $(DEMO)

.PHONY: test
test: lint types test-suite ## set up and run everything that must pass
	@echo "All checks passed."

# ---- set-up: each step leaves a stamp and is repeated only when what it was made from changed

# Each step may be cut off halfway, so the stamp is set last.
$(VENV)/.made:
	@scripts/make_venv.sh $(VENV) $(PYTHON)
	@touch $@

# The build runs without isolation, so that only what changed is compiled again: its requirements are needed here.
$(VENV)/.build-requirements: pyproject.toml scripts/wheel_build.txt | $(VENV)/.made
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' > $@.txt
	$(BIN)/python -m pip install --quiet --upgrade -r $@.txt -c scripts/wheel_build.txt
	@mv $@.txt $@

# Editable: tests and coverage see the sources. The extensions come from $(VENV)/.built, so this step compiles none.
$(VENV)/.installed-demo: pyproject.toml $(VENV)/.build-requirements
	$(PURE) $(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[demo]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.build-requirements
	$(PURE) $(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[dev]' -c scripts/wheel_build.txt
	@scripts/install_pylibmc.sh $(BIN)/python
	@# Not every Python has a wheel of it, and without one the rest must be installed all the same.
	@$(BIN)/python -m pip install --quiet --only-binary uvloop uvloop || \
		echo "uvloop has no wheel for this Python: the tests on its event loops are left out"
	@touch $@

$(VENV)/.installed-release: | $(VENV)/.made
	$(BIN)/python -m pip install --quiet build cibuildwheel==4.3.5
	@touch $@

$(VENV)/.built: setup.py $(EXTENSION_SOURCES) $(VENV)/.build-requirements
	@echo "Building the extensions"
	$(BIN)/python setup.py --quiet build_ext --inplace
	@# Without a compiler there are none, and the next run tries again.
	@if ls cacheorm/_speedups/*/_*_c.*.so >/dev/null 2>&1; then touch $@; fi

.PHONY: servers
servers: ## install redis-server, memcached and PostgreSQL if they are missing
	@scripts/install_servers.sh

.PHONY: install
install: $(VENV)/.installed-dev $(VENV)/.built ## set up .venv for development, and build the extensions in place

# ---- checks

.PHONY: lint
lint: $(VENV)/.installed-dev ## ruff: mistakes and layout; borrowed references in the Cython sources
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python scripts/check_borrowed.py cacheorm

.PHONY: format
format: $(VENV)/.installed-dev ## let ruff fix what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: types
types: $(VENV)/.installed-dev ## mypy --strict on the package; mypy and pyright on right and wrong uses of it
	$(BIN)/mypy
	$(BIN)/mypy tests/typing
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/typing

.PHONY: test-suite
test-suite: servers test-pure test-compiled test-packaging test-newest ## everything but lint, types and coverage

# A worker that has nothing left to do takes tests over from others. Packaging and typing do not import the package.
RUN = -m pytest --ignore=tests/packaging --ignore=tests/typing --numprocesses=$(WORKERS) --dist=worksteal

# Set by `make coverage`. Each run then measures a part of the tests, which tests/conftest.py chooses.
MEASURED =

# pytest rewrites the assertions of each test module that it imports for the first time, and keeps the result. Without
# this step, all workers would start with rewriting all modules, at the same time. What fails here fails again below.
$(VENV)/.rewritten: $(wildcard tests/*.py tests/*/*.py) | $(VENV)/.installed-dev $(VENV)/.built
	@ls -d tests/*/ | xargs -n 5 -P 2 $(BIN)/python -m pytest --collect-only --quiet >/dev/null 2>&1 || true
	@touch $@

.PHONY: test-pure
test-pure: $(VENV)/.installed-dev $(VENV)/.built $(VENV)/.rewritten servers ## what the build changes, on the pure version
	COVERAGE_FILE=.coverage-pure $(PURE) $(BIN)/python $(RUN) $(MEASURED) --changed-by-build $(PYTEST)

.PHONY: test-compiled
test-compiled: $(VENV)/.installed-dev $(VENV)/.built $(VENV)/.rewritten servers ## the suite on the compiled version
	COVERAGE_FILE=.coverage-compiled $(COMPILED) $(BIN)/python $(RUN) $(MEASURED) $(PYTEST)

.PHONY: test-long
test-long: $(VENV)/.installed-dev $(VENV)/.built servers ## the whole suite on both with full counts, for hours; prints its figures
	$(COMPILED) CACHEORM_LONG_TESTS=1 $(BIN)/python $(RUN) $(PYTEST)
	$(PURE) CACHEORM_LONG_TESTS=1 $(BIN)/python $(RUN) $(PYTEST)

.PHONY: coverage
coverage: MEASURED = --cov --cov-report= --cov-fail-under=0
coverage: test-pure test-compiled ## both of these, and the lines that neither has run
	$(BIN)/coverage combine --quiet --keep .coverage-pure .coverage-compiled
	$(BIN)/coverage report

.PHONY: test-packaging
test-packaging: $(VENV)/.installed-dev ## build, install and inspect source distribution and wheels
	env -u CACHEORM_NO_EXTENSIONS -u CACHEORM_REQUIRE_EXTENSIONS $(BIN)/python -m pytest tests/packaging -n 2 --dist=loadscope $(PYTEST)

.PHONY: test-newest
test-newest: $(VENV)/.installed-dev servers ## a wheel and a quick run on the newest other Python that is found
	$(BIN)/nox

.PHONY: test-pythons
test-pythons: $(VENV)/.installed-dev servers ## a wheel and a quick run on every Python from 3.11 on that is found
	$(BIN)/nox --session smoke

# ---- fuzzing; CONTRIBUTING.md says what to do with a find

# make fuzz SECONDS=3600 TARGET="rows keys"; SEED=1 gives the same inputs every time, INPUT=... runs one file of the corpus
SECONDS ?= 60
TARGET ?=
SEED ?=
INPUT ?=
FUZZ = $(TARGET) --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(INPUT),--input $(INPUT))

.PHONY: fuzz
fuzz: $(VENV)/.installed-dev $(VENV)/.built ## look for inputs that the two builds treat differently: make fuzz SECONDS=60 TARGET=rows
	@$(COMPILED) $(BIN)/python -m fuzz $(FUZZ)

.PHONY: sanitize
sanitize: $(VENV)/.installed-dev servers ## the suites of the compiled code, with the sanitizers of gcc in the extensions: Linux
	scripts/sanitize.sh $(BIN)/python --numprocesses=$(WORKERS) --dist=worksteal tests/speedups tests/serializers tests/models tests/backends tests/fuzz $(PYTEST)

# ---- benchmarks: each starts its own servers; docs/benchmarks.md says how to read them

# A peer that this Python cannot have is left out, and the table says so.
$(VENV)/.installed-bench: pyproject.toml benchmarks/peers.txt $(VENV)/.build-requirements
	$(PURE) $(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[bench]'
	@scripts/install_pylibmc.sh $(BIN)/python || echo "pylibmc is left out"
	@for peer in $$(grep -v '^#' benchmarks/peers.txt); do \
		$(BIN)/python -m pip install --quiet $$peer || echo "$$peer is left out"; \
	done
	@# A peer brings stubs of an old redis-py, which would hide the types of the present one from mypy.
	@$(BIN)/python -m pip uninstall --quiet --yes types-redis
	@touch $@

.PHONY: compare
compare: $(VENV)/.installed-bench $(VENV)/.built servers ## the table of ratios to hand-written code, and peers: make compare COMPARE=--quick
	$(COMPILED) $(BIN)/python -m benchmarks.compare $(COMPARE)

.PHONY: bench
bench: $(VENV)/.installed-bench $(VENV)/.built servers ## every benchmark in both builds, as JSON in .benchmarks/
	@mkdir -p .benchmarks
	$(COMPILED) $(BENCH) --benchmark-json=.benchmarks/compiled.json
	$(PURE) $(BENCH) --benchmark-json=.benchmarks/pure.json
	$(COMPILED) $(BIN)/python -m benchmarks.compare --full --json .benchmarks/compare-compiled.json
	$(PURE) $(BIN)/python -m benchmarks.compare --only ratios --json .benchmarks/compare-pure.json

.PHONY: bench-quick
bench-quick: $(VENV)/.installed-bench $(VENV)/.built servers ## the same with few and short rounds, in under three minutes
	@mkdir -p .benchmarks
	$(COMPILED) $(BENCH) $(BRIEF) --benchmark-json=.benchmarks/compiled.json
	$(PURE) $(BENCH) $(BRIEF) --benchmark-json=.benchmarks/pure.json
	$(COMPILED) $(BIN)/python -m benchmarks.compare --quick --json .benchmarks/compare-compiled.json
	$(PURE) $(BIN)/python -m benchmarks.compare --quick --only ratios --json .benchmarks/compare-pure.json

# ---- releases

.PHONY: build
build: $(VENV)/.installed-release ## a source distribution, and a wheel made from it, in dist/
	$(BIN)/python -m build

.PHONY: sdist
sdist: $(VENV)/.installed-release ## a source distribution in dist/
	$(BIN)/python -m build --sdist

# For the architectures of this machine; pyproject.toml lists all that are released.
.PHONY: wheels
wheels: $(VENV)/.installed-release ## wheels of all Pythons for this platform in dist/, through cibuildwheel
	$(BIN)/cibuildwheel --archs auto64 --output-dir dist

.PHONY: changelog
changelog: $(VENV)/.installed-dev ## show what the fragments in changes/ will become
	$(BIN)/towncrier build --draft

.PHONY: clean
clean: ## remove everything that was built, .venv included
	rm -rf $(VENV) .nox build dist *.egg-info .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find cacheorm tests examples \( -name '*.so' -o -name '*.pyd' -o -name __pycache__ \) -prune -exec rm -rf {} +
