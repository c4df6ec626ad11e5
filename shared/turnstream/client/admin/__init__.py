"""Operations for operators: parked sessions, malformed entries and durable subscriptions (design §4, §6)."""
