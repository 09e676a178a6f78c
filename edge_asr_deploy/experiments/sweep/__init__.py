"""Sweeps: many recipes over many models, every stage of every cell kept by the hash of what determines it."""
