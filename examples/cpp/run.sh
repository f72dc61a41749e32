#!/usr/bin/env bash
# Builds what changed, and runs the example: run.sh [HOST:PORT [--pause]]
set -euo pipefail
cd "$(dirname "$0")"
make --quiet --jobs=2 >&2
exec build/main "$@"
