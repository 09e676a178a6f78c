"""Hostile input, made from good input by seeded mutations: `python -m tests.fuzz --minutes 10`.

A case is a target and a number, so that every finding can be made again. `test_fuzz.py` runs a few new cases of each
target, and all that once failed (`corpus.json`).
"""
