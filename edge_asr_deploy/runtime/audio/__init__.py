"""From files to what encoders read."""
