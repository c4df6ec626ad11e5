"""Which server takes the commands on a key, and the way to it (design §11)."""
