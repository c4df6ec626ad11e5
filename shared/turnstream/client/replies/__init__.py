"""Replies on their way back to the callers."""
