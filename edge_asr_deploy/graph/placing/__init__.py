"""Putting what is stored of a model in the place of the float tensors that the tracer wrote."""
