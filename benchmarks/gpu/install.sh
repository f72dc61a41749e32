#!/bin/sh
# Installs what a card is measured with: PyTorch, and the build of ONNX Runtime that has CUDA.
set -eu
cd "$(dirname "$0")/../.."
if ! nvidia-smi >/dev/null 2>&1; then
    echo "no NVIDIA driver answers here (nvidia-smi): make bench-gpu DRY=--dry-run tries every piece on the CPU" >&2
    exit 1
fi
venv=.cache/gpu
if ! cmp -s pyproject.toml "$venv/installed.toml"; then
    "${PYTHON:-python3}" -m venv "$venv"
    pip="$venv/bin/pip --quiet --disable-pip-version-check"
    $pip install --constraint constraints.txt --editable '.[server,export,bench]' nvidia-ml-py
    # The exporter brings ONNX Runtime for CPUs, which is another build of the same module.
    $pip uninstall --yes onnxruntime
    $pip install --constraint constraints.txt --editable '.[server,gpu]'
    cp pyproject.toml "$venv/installed.toml"
fi
