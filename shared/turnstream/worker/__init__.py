"""A worker: takes partitions, applies their commands in order, gives them up (design §5)."""
