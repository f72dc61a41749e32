#!/usr/bin/env bash
# Installs the packages if they are missing, and runs the example: run.sh [HOST:PORT [--pause]]
# Or the other: PROGRAM=round_robin run.sh HOST:PORT,HOST:PORT
set -euo pipefail
cd "$(dirname "$0")"
if [[ ! node_modules/.package-lock.json -nt package-lock.json ]]; then
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2
fi
exec node "${PROGRAM:-main}.js" "$@"
