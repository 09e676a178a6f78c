"""Decode the encoder's output to text."""
