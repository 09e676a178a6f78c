"""What a model is like before it is quantized: statistics of its matrices, and what rounding each of them costs."""
