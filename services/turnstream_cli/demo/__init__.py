"""`turnstream demo`: four acts on a separate server, each checked against what was sent."""
