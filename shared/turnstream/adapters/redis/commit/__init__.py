"""Loading, encoding and committing a batch."""
