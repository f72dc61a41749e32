"""gRPC mechanics that both protocols share: server, drain, errors, handlers, reflection."""
