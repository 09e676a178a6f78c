"""Speech as it arrives: what runs while somebody still speaks."""
