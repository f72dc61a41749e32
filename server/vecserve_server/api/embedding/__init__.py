"""EmbeddingService of vecserve.v1 over gRPC."""
