"""Speech with text: manifests, default sets, Hub datasets, and the text normalizers that scoring names."""
