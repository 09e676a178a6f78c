"""Does the exported graph compute what PyTorch computes? torch and onnx meet here only."""
