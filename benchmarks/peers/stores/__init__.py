"""As a session store: append a message, read the last 20, read all; each contender in its own environment."""
