"""Everything that knows a server speaking the Redis protocol; nothing else imports `redis` (design §8)."""
