"""The client of producers and subscribers: tickets, the repository's methods, subscriptions (design §10)."""
