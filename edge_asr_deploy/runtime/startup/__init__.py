"""What makes the second start fast: optimized graphs, verified bundles, token texts."""
