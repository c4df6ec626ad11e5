"""Durable subscriptions: consumers that share the partitions and resume at their checkpoints (design §6)."""
