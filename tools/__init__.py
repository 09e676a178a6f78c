"""Programs for developers that the package does not contain."""
