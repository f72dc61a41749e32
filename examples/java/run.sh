#!/usr/bin/env bash
# Generates the stubs, builds, and runs the example: run.sh [HOST:PORT [--pause]]
# Or the other: PROGRAM=RoundRobin run.sh HOST:PORT,HOST:PORT
#
# The class path is Debian's; with Maven or Gradle, depend on io.grpc's grpc-netty, grpc-protobuf
# and grpc-stub instead.
set -euo pipefail
cd "$(dirname "$0")"
protos=../../protos
jars=/usr/share/java
class_path=build/classes
for jar in grpc-{api,context,core,netty,protobuf,protobuf-lite,stub} protobuf guava \
    netty-{buffer,codec,codec-http,codec-http2,codec-socks,common,handler,handler-proxy,resolver} \
    netty-transport perfmark-api geronimo-annotation-1.3-spec; do
  class_path+=:$jars/$jar.jar
done
if [[ ! -e build/built || $(find ./*.java $protos -newer build/built) ]]; then
  mkdir -p build/stubs build/classes
  protoc -I $protos --java_out=build/stubs --grpc-java_out=build/stubs \
    --plugin=protoc-gen-grpc-java="$(command -v grpc_java_plugin)" \
    $protos/vecserve/v1/*.proto $protos/google/rpc/status.proto
  find . -name '*.java' -exec javac -nowarn -cp "$class_path" -d build/classes {} +
  touch build/built
fi
exec java -cp "$class_path" "${PROGRAM:-Main}" "${@:-127.0.0.1:8001}"
