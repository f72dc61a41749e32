#!/usr/bin/env bash
# Generates the stubs, builds, and runs the example: run.sh [HOST:PORT [--pause]]
#
# Debian's Go packages are found by GOPATH; with modules, `go get` them instead and map the protos'
# go_package to your module with protoc's --go_opt=M.
set -euo pipefail
cd "$(dirname "$0")"
protos=../../protos
if [[ ! build/main -nt main.go || ! build/main -nt $protos/vecserve/v1/embedding.proto ]]; then
  mkdir -p build/src
  protoc -I $protos --go_out=build/src --go-grpc_out=build/src $protos/vecserve/v1/*.proto
  GO111MODULE=off GOPATH=$PWD/build:/usr/share/gocode go build -o build/main main.go
fi
exec build/main "${@:-127.0.0.1:8001}"
