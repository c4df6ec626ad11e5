"""`turnstream demo`: a conversation, then a crowd of them, on a separate server and workers."""
