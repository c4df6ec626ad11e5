"""Commands that were parked, and commands that may have crashed a worker."""
