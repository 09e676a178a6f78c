"""Reading, writing and editing ONNX graphs."""
