"""What the tracer wrote, written better: one rule to a file."""
