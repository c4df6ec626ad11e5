"""Setting up, checking and migrating a deployment."""
