"""The relay: delivers session events to HTTP endpoints, by the Standard Webhooks convention (docs/relay.md)."""
