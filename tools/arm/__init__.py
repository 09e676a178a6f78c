"""Bundles on emulated ARM processors: what they compute there, and how many instructions that takes."""
