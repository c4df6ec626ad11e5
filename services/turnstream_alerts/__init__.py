"""A reacting service to read and copy: tells of sessions whose context window gets full, and counts them by model."""
