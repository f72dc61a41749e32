#!/usr/bin/env bash
# Builds what changed, and runs the example: run.sh [HOST:PORT [--pause]]
# Or the other: PROGRAM=round_robin run.sh HOST:PORT,HOST:PORT
set -euo pipefail
cd "$(dirname "$0")"
program=build/${PROGRAM:-main}
make --quiet --jobs=2 "$program" >&2
exec "$program" "${@:-127.0.0.1:8001}"
