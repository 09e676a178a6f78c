"""The parts of sherpa-onnx's layout: its two graphs, its metadata, its table of tokens, and its way of calling them."""
