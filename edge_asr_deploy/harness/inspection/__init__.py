"""What a bundle is made of."""
