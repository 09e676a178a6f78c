"""What calibration speech says of a model: activations block by block, their statistics, transcripts."""
