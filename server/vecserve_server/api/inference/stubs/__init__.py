"""Generated from protos/inference by protos/generate.sh."""
