#!/usr/bin/env bash
# Installs what builds and runs the examples, from Debian 12's packages; as root. Does nothing for
# what is there already. --missing only lists what it would install.
set -euo pipefail

packages=(
  # Go 1.19 with grpc-go 1.33
  golang-go golang-google-grpc-dev golang-google-protobuf-dev golang-google-genproto-dev
  golang-github-golang-protobuf-1-5-dev protoc-gen-go-1-5 protoc-gen-go-grpc
  # C++ with grpc 1.51
  g++ make pkg-config libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
  # Java with grpc-java 1.41; a call hangs without perfmark
  libgrpc-java libprotobuf-java protobuf-compiler-grpc-java-plugin libnetty-java libperfmark-java
  libguava-java libgeronimo-annotation-1.3-spec-java
  # Load balancing; Envoy comes from PyPI
  nginx-light
)
# Any Node and any JDK will do, not only Debian's.
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
command -v javac >/dev/null || packages+=(default-jdk-headless)

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $state == installed ]] || missing+=("$package")
done
if [[ ${1:-} == --missing ]]; then
  echo "${missing[*]}"
elif ((${#missing[@]})); then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
