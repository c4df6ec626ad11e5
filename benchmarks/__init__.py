"""Measurements: everything that is compared is measured in one run, on one server."""
