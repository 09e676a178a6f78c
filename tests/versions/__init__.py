"""Bundles on other releases of onnxruntime: `make test-onnxruntime` compares what they say and prints a table."""
