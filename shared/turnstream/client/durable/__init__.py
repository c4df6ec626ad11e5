"""Named subscriptions that go on where they stopped, shared by any number of processes (design §6)."""
