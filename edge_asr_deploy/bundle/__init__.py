"""What came out: a folder of files and a `manifest.json` that names, hashes and explains them."""
