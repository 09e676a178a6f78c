"""What a model is: its linear layers by component, which of them share an input, and its decoder's cross-attention."""
