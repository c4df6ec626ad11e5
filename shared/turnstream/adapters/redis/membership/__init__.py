"""Leases, fencing tokens and the registries of members."""
