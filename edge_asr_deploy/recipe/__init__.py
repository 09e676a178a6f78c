"""What to do: recipes as documents, checked and typed."""
