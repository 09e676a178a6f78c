"""From the encoder's output to text."""
