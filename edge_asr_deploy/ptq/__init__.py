"""The mathematics of post-training quantization, in torch. Knows nothing of ONNX."""
