"""How events reach subscribers: live, from the event streams, and what is told when neither has them (design §6)."""
