"""Writes the sync client from the async one: a table of classes (`plan.py`), and a rule for each shape of method."""
