"""Word error rate, speed and memory of a bundle beside its float baseline."""
