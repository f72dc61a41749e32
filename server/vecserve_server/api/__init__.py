"""The gRPC surface. The only room that knows protobuf and status codes."""
