"""A deployment in one process, without a server: for tests, demos and `Turnstream.in_memory()` (design §8, §10)."""

from turnstream.adapters.memory.backend import MemoryBackend

__all__ = ["MemoryBackend"]
