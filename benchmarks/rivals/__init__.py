"""One module per rival: `load(job)` opens it. Importing a module imports the rival, and is timed as that.

Everywhere: greedy, temperature 0 without fallback, no timestamps, no previous text; voice activity detection only where
the configuration says so.
"""
