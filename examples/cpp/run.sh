#!/usr/bin/env bash
# Builds what changed, and runs the example: run.sh [HOST:PORT [--pause]]
set -euo pipefail
cd "$(dirname "$0")"
make --quiet --jobs=2 >&2
exec build/main "${@:-127.0.0.1:8001}"
