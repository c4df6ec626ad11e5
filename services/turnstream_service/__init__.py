"""Parts that the services share."""
