"""ONNX: Optimum's export, one cached decoder, quantized weights as QDQ, and the proof that the result runs."""
