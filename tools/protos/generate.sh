#!/usr/bin/env bash
# Writes the Python stubs of protos/ into the tree named (default: this one):
# vecserve.v1 into the client, which the server uses too; the Open Inference
# Protocol's into the server only, because a process cannot hold them beside
# those of its clients.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-.}
python=${PYTHON:-.venv/bin/python}
bin=$(dirname "$python")
mkdir -p "$out/client"
"$python" -m grpc_tools.protoc -I protos \
    --plugin=protoc-gen-mypy_grpc="$bin/protoc-gen-mypy_grpc" \
    --python_out="$out/client" --pyi_out="$out/client" \
    --grpc_python_out="$out/client" --mypy_grpc_out="$out/client" \
    protos/vecserve/v1/*.proto

stubs=$out/server/vecserve_server/api/oip/stubs
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m grpc_tools.protoc -I protos --python_out="$scratch" --pyi_out="$scratch" \
    protos/inference/*.proto
mkdir -p "$stubs"
for file in "$scratch"/inference/*; do
    sed 's/^from inference import/from vecserve_server.api.oip.stubs import/' "$file" \
        > "$stubs/$(basename "$file")"
done
