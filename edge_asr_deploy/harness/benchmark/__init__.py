"""Benchmark a bundle: times by length of audio, soak tests and profiles."""
