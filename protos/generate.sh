#!/usr/bin/env bash
# Writes the Python stubs of protos/ into the folder named (default: client/).
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-client}
python=${PYTHON:-.venv/bin/python}
bin=$(dirname "$python")
"$python" -m grpc_tools.protoc -I protos \
    --plugin=protoc-gen-mypy_grpc="$bin/protoc-gen-mypy_grpc" \
    --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" --mypy_grpc_out="$out" \
    protos/vecserve/v1/*.proto
