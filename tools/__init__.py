"""Tools for the project's own maintenance."""
