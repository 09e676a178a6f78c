"""Times by length of audio, soaks and profiles."""
