"""Make later starts fast, with a cache of optimized graphs, verified bundles and token texts."""
