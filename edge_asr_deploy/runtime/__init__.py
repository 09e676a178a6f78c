"""Transcribe audio on the device, with numpy, onnxruntime, tokenizers, soundfile and soxr, without torch."""
