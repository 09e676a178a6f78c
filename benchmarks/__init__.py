"""Our bundles beside other speech runtimes on the same checkpoints: `python -m benchmarks`, or `make bench-peers`."""
