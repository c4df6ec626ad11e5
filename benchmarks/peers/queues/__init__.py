"""The contenders as worker systems: the same small task on each, queued, applied and acknowledged its own way."""
