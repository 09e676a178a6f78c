"""The parts of sherpa-onnx's layout: its two graphs, its metadata, and its way of calling them."""
