"""What producers and subscribers use: the facade, tickets, the repository's methods, subscriptions (design §10)."""
