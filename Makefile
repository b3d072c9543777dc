# Everything runs in .venv, which tools/misc/install.py builds from the pinned requirements, once.
# PYTHON chooses the interpreter that it is made with: PYTHON=python3.12 make demo

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install demo demo-detection test test-fast docs lint clean distclean
.DEFAULT_GOAL := help

help:
	@echo 'make demo       search, scale, train and evaluate on handwritten digits'
	@echo 'make demo-detection  train a Mask R-CNN from its weights, find digits on photographs'
	@echo 'make test       run all tests (20 minutes on two cores)'
	@echo 'make test-fast  run those that take seconds (3 minutes)'
	@echo 'make docs       build the documentation site into site/'
	@echo 'make lint       ruff and mypy'
	@echo 'make install    build .venv (the targets above do it themselves)'
	@echo 'make clean      remove caches and build outputs'
	@echo 'make distclean  remove .venv too'

install:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
		echo 'error: $(PYTHON) is missing or older than Python 3.10; install Python 3.10 to 3.13' \
			'or choose one: PYTHON=python3.12 make ...' >&2; exit 1; }
	@$(PYTHON) tools/misc/install.py

demo: install
	@$(BIN)/python tools/misc/demo.py

demo-detection: install
	@$(BIN)/python tools/misc/demo_detection.py

test: install
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test-fast: install
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m 'not slow'

docs: install
	$(BIN)/python -m mkdocs build --strict

lint: install
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

clean:
	rm -rf build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find asvit_mm configs docs tests tools -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv asvit_mm/.mim
