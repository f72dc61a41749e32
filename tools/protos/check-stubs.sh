#!/usr/bin/env bash
# Fails if the committed Python stubs are not those that protos/ gives.
set -euo pipefail
cd "$(dirname "$0")/../.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
tools/protos/generate.sh "$fresh" 2>/dev/null
for stubs in client/vecserve/v1 server/vecserve_server/api/oip/stubs; do
    if ! diff --recursive --brief --exclude __init__.py --exclude __pycache__ \
            "$fresh/$stubs" "$stubs"; then
        echo "the stubs in $stubs are not those of protos/: run \`make proto\`" >&2
        exit 1
    fi
done
