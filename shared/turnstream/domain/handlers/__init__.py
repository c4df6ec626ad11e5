"""The handlers: each decides one command (docs/contract.md, Commands)."""
