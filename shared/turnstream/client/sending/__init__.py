"""Commands on their way to the server."""
