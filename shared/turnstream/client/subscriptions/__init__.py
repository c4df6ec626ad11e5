"""Subscriptions without a checkpoint on the server: live events, event logs, and gaps (design §6)."""
