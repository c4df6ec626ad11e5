"""What the server can take at most, in the row beside the contenders."""
