"""A reacting service to read and copy: it logs sessions whose context window gets full, and counts them by model."""
