"""Generated from protos/inference by tools/protos/generate.sh."""
