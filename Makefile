# make        this help
# make run    set up, train on the embedded digits, export: everything once, in minutes
# make test   set up, lint, test: offline once set up
# make slow   the same, with the tests that take minutes
# make wheel  set up, build dist/keras_sae-VERSION-py3-none-any.whl: offline once set up
# make docs   set up, build the documentation and serve it on this machine: offline once set up
# make lint, make format

PYTHON ?= python3
PORT ?= 8000
# A process for each core; the tests of a file stay together, with what they share; the longest come first, in backends/.
WORKERS := -n auto --dist loadfile --no-loadscope-reorder
RUN := runs/mnist-$(shell date +%Y%m%d-%H%M%S)

.PHONY: help run test slow wheel docs lint format

help:
	@sed -n 's/^# \(make\)/\1/p' Makefile

run: .venv/ready
	.venv/bin/python -m train.mnist --data embedded --out $(RUN)
	.venv/bin/python -m export $(RUN) --out $(RUN)/export
	@echo
	@echo "Look at   $(RUN)/features.png, reconstructions.png, curves.png"
	@echo "Read      $(RUN)/README.md (the card), $(RUN)/export/README.md (how to call the exports)"
	@echo "Deploy    $(RUN)/export/saved_model, $(RUN)/export/encoder.tflite"

test: lint
	.venv/bin/python -m pytest $(WORKERS)

slow: lint
	.venv/bin/python -m pytest $(WORKERS) --run-slow

wheel: .venv/ready
	rm -rf build
	.venv/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

docs: .venv/ready
	.venv/bin/python -m docs.build
	.venv/bin/python -m http.server --bind 127.0.0.1 --directory build/site $(PORT)

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: .venv/ready
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.venv/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "keras_sae needs Python 3.11 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch .venv/ready
