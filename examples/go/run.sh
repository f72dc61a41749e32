#!/usr/bin/env bash
# Generates the stubs, builds, and runs the example: run.sh [HOST:PORT [--pause]]
# Or the other: PROGRAM=round_robin run.sh HOST:PORT,HOST:PORT
#
# Debian's Go packages are found by GOPATH; with modules, `go get` them instead and map the protos'
# go_package to your module with protoc's --go_opt=M.
set -euo pipefail
cd "$(dirname "$0")"
protos=../../protos
mkdir -p build/src
protoc -I $protos --go_out=build/src --go-grpc_out=build/src $protos/vecserve/v1/*.proto
export GO111MODULE=off GOPATH=$PWD/build:/usr/share/gocode
# Both are a `main` of this folder, so each names its files.
go build -o build/main main.go embed.go
go build -o build/round_robin round_robin.go
exec "build/${PROGRAM:-main}" "${@:-127.0.0.1:8001}"
