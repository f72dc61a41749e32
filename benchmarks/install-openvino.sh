#!/bin/sh
# Installs our server with OpenVINO's build of ONNX Runtime, which cannot share a venv with the other.
set -eu
cd "$(dirname "$0")/.."
venv=.cache/openvino
if ! cmp -s pyproject.toml "$venv/installed.toml"; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --constraint constraints.txt \
        --editable '.[server,openvino]'
    cp pyproject.toml "$venv/installed.toml"
fi
