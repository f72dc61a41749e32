#!/bin/sh
# Installs one peer: install.sh mlserver | pytriton | kserve
set -eu
cd "$(dirname "$0")/../.."
peer=$1
venv=.cache/peers/$peer
requirements=benchmarks/peers/requirements-$peer.txt
test -f "$requirements" || { echo "no peer named $peer: mlserver, pytriton, kserve" >&2; exit 2; }
if ! cmp -s "$requirements" "$venv/installed.txt"; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$venv/installed.txt"
fi
