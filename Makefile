# Everything here works on a machine that has Python (3.11 or newer) and make.
#   make demo      the whole pipeline on real data that ships with it, ends with the path of the report
#   make test      the tests of a few seconds each      make test-all   the long ones too
#   make check     format, lint, types, floors          make docs       the pages, into site/
#   make bench     the benchmarks that need nothing else, one JSON each
#   make audit     known faults of what is installed (needs the network), and dist/sbom.json, its bill of materials
#   make release   the wheel and its SHA-256 in dist/, built by tools whose hashes are in constraints-release.txt
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
OUT ?= demo-out
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
SETUPTOOLS := $(shell sed -n 's/^setuptools==/setuptools==/p' constraints.txt)
AUDITORS := pip-audit==2.10.1 cyclonedx-bom==7.5.0
TIMM := $(shell sed -n 's/^timm==/timm==/p' constraints.txt)

.PHONY: demo test test-all check format docs bench audit release install clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@sed -n 's/^#   //p' Makefile

# torch goes first and alone, so that pip takes exactly this version, as a CPU wheel where one is offered
$(VENV)/torch.stamp: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Discern needs Python 3.11 or newer; pick one: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(SETUPTOOLS) $(TORCH)
	@touch $@

$(VENV)/core.stamp: $(VENV)/torch.stamp pyproject.toml
	$(PIP) install --quiet --no-build-isolation --constraint constraints.txt --editable .
	@touch $@

# timm, the reference of a test, goes without what it asks for: a torchvision that fits this torch may not exist
$(VENV)/dev.stamp: $(VENV)/core.stamp
	$(PIP) install --quiet --no-build-isolation --constraint constraints.txt --editable '.[dev]'
	$(PIP) install --quiet --no-deps $(TIMM)
	@touch $@

install: $(VENV)/dev.stamp

demo: $(VENV)/core.stamp
	$(BIN)/discern demo --out $(OUT)
	@echo "Report: $(abspath $(OUT))/report.html"

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-all: $(VENV)/dev.stamp
	$(BIN)/python -m pytest

check: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/dev.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# those of hours, or that need peers in an environment of their own, say in their first lines how to run them
BENCH := attention step gallery feeding busy divided stall item_time simulate
bench: $(VENV)/dev.stamp
	for one in $(BENCH); do $(BIN)/python benchmarks/$$one.py || exit 1; done
	$(BIN)/python benchmarks/few_labels.py cifar10
	$(BIN)/python benchmarks/few_labels.py jhmdb
	$(BIN)/python benchmarks/page.py

# the auditors live apart, so that they change nothing of what they look at
AUDIT := $(VENV)-audit
audit: $(VENV)/dev.stamp
	test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && \
	  $(AUDIT)/bin/python -m pip --disable-pip-version-check install --quiet $(AUDITORS); }
	mkdir -p dist
	$(AUDIT)/bin/cyclonedx-py environment $(BIN)/python --of JSON -o dist/sbom.json
	@echo "Bill of materials: dist/sbom.json"
	$(AUDIT)/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

# from the commit and nothing else, dated as the commit: two builds of one commit are the same bytes
BUILD := $(VENV)-release
release:
	test -x $(BUILD)/bin/python || $(PYTHON) -m venv $(BUILD)
	$(BUILD)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes \
	  --requirement constraints-release.txt
	rm -rf build/release dist/release
	mkdir -p build/release dist/release
	git archive HEAD | tar -x -C build/release
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(abspath $(BUILD))/bin/python -m build --no-isolation --wheel \
	  --outdir dist/release build/release > build/release.log 2>&1 || { tail -n 20 build/release.log; exit 1; }
	cd dist/release && sha256sum *.whl > SHA256SUMS && cat SHA256SUMS

clean:
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
