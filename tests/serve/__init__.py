"""`edge-deploy serve`: parts in this process, and a server process on loopback as programs meet it."""
