"""The CI gate: check whether a bundle is as good as its record says."""
