"""The proof that an exported graph computes the same as PyTorch. torch and onnx meet only here."""
