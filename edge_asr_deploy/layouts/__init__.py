"""The graphs of a finished bundle, arranged as other engines want them."""
