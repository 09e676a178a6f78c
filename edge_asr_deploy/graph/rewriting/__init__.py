"""Faster replacements for parts of the traced graph, one rule per file."""
