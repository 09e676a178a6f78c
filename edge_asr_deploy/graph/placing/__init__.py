"""Replacing the float tensors that the tracer wrote by the stored form of the quantized model."""
