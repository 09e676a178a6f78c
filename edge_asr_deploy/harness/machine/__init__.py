"""Describe the machine that a measurement was made on."""
