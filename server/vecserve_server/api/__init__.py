"""gRPC services: the only package that knows protobuf and status codes."""
