"""When things were said: alignment of tokens with audio, words, and segments."""
