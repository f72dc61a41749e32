"""vecserve's server: bundles in, a gRPC embedding service out."""
