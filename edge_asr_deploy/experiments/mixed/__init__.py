"""Mixed precision: bits for every matrix, by measured sensitivity, under a budget."""
