"""Publishing to and reading from the command streams."""
