# What CI and people run. Everything lives in this checkout: .venv/, models/, .cache/.
PYTHON ?= python3
PIP := .venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt
MODELS := resnet-50 all-MiniLM-L6-v2 clip-vit-base-patch32 whisper-base

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo serve test test-long unit check format proto proto-release export bench bench-gpu mlperf clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: export ## Set up, export the models, serve them, stream text, photos and speech through them
	.venv/bin/python examples/python/with_server.py models

serve: export ## Serve models/ on 127.0.0.1:8001 until Ctrl-C
	.venv/bin/vecserve-server --repository models

test: export .venv/.dev ## Run all tests
	.venv/bin/pytest

test-long: export .venv/.dev ## Run the tests that take minutes or large downloads
	.venv/bin/pytest -m long

unit: .venv/.dev ## Run the tests that need no models and no server
	.venv/bin/pytest tests/unit tests/test_boundaries.py tests/client/test_import.py tests/client/test_evaluation.py tests/export/test_catalog.py \
		--ignore tests/unit/loading/test_parity.py

check: .venv/.dev ## Format, lint, types, protos, stub drift: what must hold before a commit
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/mypy examples/python/*.py
	.venv/bin/mypy -p tools.protos
	.venv/bin/buf lint protos
	.venv/bin/buf format protos --path protos/vecserve --path protos/inference --diff --exit-code
	.venv/bin/buf breaking protos --against protos/released.binpb
	tools/protos/check-stubs.sh
	.venv/bin/python -m tools.protos.reference --check

export: .venv/.ready ## Export the models into models/, skipping those already there
	.venv/bin/vecserve-export $(MODELS) --untrained --output models
	.venv/bin/vecserve-export sscd-resnet50 --output models || \
		echo "going on without sscd-resnet50: all but the search for copies works"

bench: export .venv/.dev ## Measure the server beside its in-process limit (PEERS=--peers adds other servers)
	.venv/bin/vecserve-export all-MiniLM-L6-v2 --precision int8 --output .cache/bench
	ln -sfn $(CURDIR)/models/* .cache/bench/
	.venv/bin/python -m benchmarks.run --models .cache/bench $(PEERS)

bench-gpu: export .venv/.dev ## Measure on an NVIDIA card (DRY=--dry-run tries every piece on the CPU)
ifdef DRY
	.venv/bin/python -m benchmarks.gpu $(DRY) --models models minilm-16 resnet resnet-tensors clip-b32 whisper
else
	benchmarks/gpu/install.sh
	.cache/gpu/bin/python -m benchmarks.gpu
endif

mlperf: export .venv/.dev ## Let MLPerf's LoadGen ask the server: SingleStream, Offline, Server
	.venv/bin/python -m benchmarks.mlperf

format: .venv/.dev ## Format Python and protos
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .
	.venv/bin/buf format protos --path protos/vecserve --path protos/inference --write

proto: .venv/.dev ## Generate the Python stubs from protos/
	tools/protos/generate.sh
	.venv/bin/python -m tools.protos.reference

proto-release: .venv/.dev ## Make the protos as they are the release that changes are checked against
	.venv/bin/buf build protos --output protos/released.binpb

setup: .venv/.ready ## Create .venv with the client, the server and the exporter
setup-dev: .venv/.dev ## Add what tests and checks need

.venv/.ready: pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (about a minute; PyTorch is the largest part)"
	$(PIP) --editable '.[server,cpu,export]'
	touch $@

.venv/.dev: .venv/.ready
	$(PIP) --editable '.[server,cpu,export,parquet,milvus,video,compare,bench,dev]'
	touch $@

clean: ## Remove everything make created
	rm -rf .venv .cache models build
