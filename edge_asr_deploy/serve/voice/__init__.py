"""Wyoming, the protocol between Home Assistant and its voice services."""
