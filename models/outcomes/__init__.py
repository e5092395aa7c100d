"""What became of signals: the tracker, performance figures and learned model weights."""
