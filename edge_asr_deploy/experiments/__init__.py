"""What runs many exports: analysis of a model, bits per matrix under a budget, sweeps."""
