"""What runs on the device: audio in, text out, with numpy, onnxruntime, tokenizers, soundfile and soxr. No torch."""
