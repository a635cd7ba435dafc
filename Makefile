# DSO: build, check, test. `make help` lists the targets.

PYTHON := .venv/bin/python
BINARIES := $(addprefix dist/bin/,docker-dso dso-agent $(addprefix dso-provider-,vault aws azure huawei))
RELEASE := .build/release
RELEASE_BINARIES := $(BINARIES:dist/bin/%=$(RELEASE)/frozen/%)

# What the binaries are made from; another than the last build's makes `make binaries` build again.
BOOT_LOADER := $(wildcard build/bootloader/*)
SOURCES := VERSION build/requirements.txt $(wildcard build/specs/*.* build/specs/hooks/*.py) \
           $(shell find dso -name '*.py')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: .venv/.ready ## Make the virtual environment .venv with all development tools

.venv/.ready: build/requirements.txt build/sdist-requirements.txt build/machine/python.sh
	build/machine/python.sh .venv build/requirements.txt
	@touch $@

# For versions that somebody changed on purpose. Asks the package index about each file that pip might take.
.PHONY: hashes
hashes: ## Renew the hashes of everything that pip installs; takes minutes
	[ -x $(PYTHON) ] || python3 -m venv .venv
	$(PYTHON) build/hashes.py build/requirements.txt build/sdist-requirements.txt build/release/requirements.txt

.PHONY: binaries
binaries: $(BINARIES) ## Freeze the binaries into dist/bin

# What PyInstaller does stays in .build. It compresses nothing (see build/specs/common.py), and starts afresh, since it
# would not notice a change of its hooks. No code says in which columns it was written, which would be read at each
# start. The binary is replaced at one go: another may be running.
# freeze PYTHON, DIRECTORY for what it does, in which boot-loader is
define freeze
	rm -rf $(2)/work/$*
	DSO_BOOT_LOADER=$(2)/boot-loader PYINSTALLER_CONFIG_DIR=$(2)/pyinstaller/$* PYINSTALLER_ZLIB_COMPRESSION_LEVEL=0 PYTHONDONTWRITEBYTECODE=1 \
	    PYTHONHASHSEED=0 PYTHONNODEBUGRANGES=1 $(1) -m PyInstaller --noconfirm --log-level WARN --workpath $(2)/work/$* --distpath $(2)/bin $<
	@mkdir -p $(@D)
	mv -f $(2)/bin/$* $@
endef

.build/boot-loader: $(BOOT_LOADER) .venv/.ready
	@mkdir -p $(@D)
	build/bootloader/compile.sh $(PYTHON) $@

dist/bin/%: build/specs/%.spec .build/boot-loader .venv/.ready $(SOURCES)
	$(call freeze,$(PYTHON),.build)

# Freezing takes one processor for each.
PARALLEL_MAKE = $(MAKE) --no-print-directory --jobs=$(shell nproc)

# Releases are frozen with an interpreter of their own, for machines older than this one: docs/releasing.md.
.PHONY: dist
dist: .venv/.ready ## Make the release, dist/dso-VERSION-linux-ARCH.tar.gz; the first time it takes minutes
	$(PARALLEL_MAKE) NEWEST=--newest $(RELEASE_BINARIES)
	$(PYTHON) -m build.release.dist --venv $(RELEASE)/venv --interpreter "$$(cat $(RELEASE)/interpreter)" \
	    --work $(RELEASE) --output dist $(RELEASE_BINARIES)

.PHONY: release-binaries
release-binaries: $(RELEASE_BINARIES)

$(RELEASE)/boot-loader: $(BOOT_LOADER) build/release/boot_loader.sh $(RELEASE)/venv/.ready
	build/release/boot_loader.sh $(RELEASE)/venv/bin/python $@

$(RELEASE)/frozen/%: build/specs/%.spec $(RELEASE)/boot-loader $(RELEASE)/venv/.ready $(SOURCES)
	$(call freeze,$(RELEASE)/venv/bin/python,$(RELEASE))

$(RELEASE)/venv/.ready: $(RELEASE)/interpreter build/requirements.txt build/release/venv.sh
	build/release/venv.sh $(RELEASE)/venv "$$(cat $<)" build/requirements.txt
	@touch $@

# Where the release interpreter is: looked up each time, and only another one counts as a change.
.PHONY: FORCE
$(RELEASE)/interpreter: .venv/.ready FORCE
	@mkdir -p $(@D)
	@build/release/interpreter.sh $(NEWEST) >$@.new
	@cmp -s $@.new $@ || mv $@.new $@

.PHONY: lint
lint: .venv/.ready ## Check style and types
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

.PHONY: docs
docs: ## Write the pages that are generated from the code
	$(PYTHON) build/exit_codes.py
	$(PYTHON) build/reference.py

.PHONY: engine
engine: ## Install and start what is missing of Docker Engine and Compose, and leave it running
	build/machine/engine.sh ensure

# Runs a command on an Engine with the test images; an Engine that had to be started is stopped again.
ON_ENGINE = build/machine/engine.sh run sh -c 'build/machine/images.sh && exec "$$@"' run

# One worker more than processors: much of a test is waiting for containers. A module stays with a worker, so that what
# its tests share (machines, Engines, servers) starts once.
WORKERS := $(shell expr $$(nproc) + 1)

# `make test TESTS=tests/unit OPTIONS=-x` runs a part, with options of pytest.
TESTS := tests/unit tests/contract tests/cli tests/integration
.PHONY: test
test: .venv/.ready ## Run all tests; installs and starts a Docker Engine where none answers
	$(PARALLEL_MAKE) $(BINARIES) $(RELEASE_BINARIES)
	build/machine/test-tools.sh
	build/machine/backends.sh >/dev/null
	$(ON_ENGINE) $(PYTHON) -m pytest -n $(WORKERS) --dist worksteal $(OPTIONS) $(TESTS)

.PHONY: demo
demo: $(BINARIES) ## Show DSO at work, from nothing to nothing; prepares an Engine as `test` does
	$(ON_ENGINE) demo/run.sh

# `make bench OPTIONS="--rounds 5 --only startup"` is a trial; `--help` among OPTIONS says what there is.
.PHONY: bench
bench: .venv/.ready ## Measure DSO beside its yardsticks and write docs/benchmarks.md; takes half an hour
	$(PARALLEL_MAKE) $(RELEASE_BINARIES)
	build/machine/test-tools.sh
	build/machine/backends.sh >/dev/null
	$(ON_ENGINE) $(PYTHON) -m tests.bench $(OPTIONS)

# A test compares with it (tests/cli/test_instruction_counts.py), and says when it is to be renewed.
.PHONY: baseline
baseline: .venv/.ready $(RELEASE)/frozen/docker-dso ## Count start-up's instructions and keep them in tests/bench/baseline.json
	build/machine/test-tools.sh
	$(PYTHON) -m tests.bench.counts

.PHONY: clean
clean: ## Remove everything that was built, and .venv
	rm -rf dist .build .venv .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
