"""Reading sessions: lists, single sessions, verification."""
