"""The worker as a program: wiring only, what it does is `turnstream.worker`."""
