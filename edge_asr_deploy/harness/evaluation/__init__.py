"""Evaluate a bundle beside its float baseline: word error rate, speed and memory."""
