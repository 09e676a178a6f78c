"""From integer codes to bytes, and the operators that undo it."""
