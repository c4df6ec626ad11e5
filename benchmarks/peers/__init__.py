"""`make bench-peers`: Turnstream and its alternatives on Redis, on one machine, in one run."""
