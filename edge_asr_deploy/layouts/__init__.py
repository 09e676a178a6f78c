"""A bundle arranged for other engines: the same weights in the files, names and graphs that each of them opens."""
