"""`turnstream demo`: a conversation as in the spec, then a crowd of them, on a server and workers of its own."""
