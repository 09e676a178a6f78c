"""What came out: a folder of files and a manifest that names, hashes and explains them."""
