"""The outside world, made to fit the ports: in memory, on a Redis-protocol server, and the embedded server."""
