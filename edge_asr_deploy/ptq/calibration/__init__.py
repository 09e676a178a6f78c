"""Calibration speech and a model: activations block by block, their statistics, transcripts."""
