"""Measure bundles and machines: accuracy, speed, the CI gate, diagnosis, inspection and reports."""
