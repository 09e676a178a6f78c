"""Inspect a bundle: its layers, its operators and what they cost."""
