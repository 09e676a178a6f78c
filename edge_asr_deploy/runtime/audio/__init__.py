"""Turn audio files into the inputs of encoders."""
