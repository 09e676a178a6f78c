"""Diagnose whether this machine can run bundles."""
